"""Imagen: a cascade of diffusion models that turns a sentence into a picture, stage by stage (fig. A.4).

16×16 from text, then 16 → 64 and 64 → 256 by text-conditioned super-resolution with noise-conditioning
augmentation (section 2.4).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from .diffusion import SCHEDULES, TARGETS, cosine_log_snr, diffusion_loss, q_sample, to_x_0
from .guidance import drop_captions, dynamic_threshold, guided, static_threshold
from .samplers import SAMPLERS, Draw, seeded_noise, times
from .text import TextEncoder
from .unet import PRESETS, UNet, UNetConfig

CASCADE = Path(__file__).resolve().parent.parent / "data" / "cascade"
STAGES = ("base", "sr64", "sr256")
SIDES = {"base": 16, "sr64": 64, "sr256": 256}
THRESHOLDS: dict[str, Callable[[Tensor], Tensor]] = {
    "dynamic": dynamic_threshold,
    "static": static_threshold,
    "none": lambda x_0: x_0,
}


@dataclass(frozen=True)
class StageConfig:
    """One stage of the cascade: its U-Net, its diffusion, how it is trained and how it is sampled."""

    name: str = "base"  # of the stage: base, sr64 or sr256
    unet: UNetConfig = field(default_factory=UNetConfig)
    schedule: str = (
        "cosine"  # Imagen: cosine for the base and the first SR stage, linear for the last
    )
    target: str = "v"  # Imagen predicts ε with plain MSE; v and x_0 are steadier at few steps
    clip: float | None = None  # caps the weight on x_0, see diffusion.weight
    caption_drop: float = 0.1
    augmentation: float = (
        0.0  # training draws the level of noise in the low-res picture from U(0, this)
    )
    crop: int | None = None  # side of the training crop; None: whole pictures
    steps: int = 20  # at sampling
    guidance: float | None = None  # at sampling; None: what the caller asks for
    level: float = 0.0  # of augmentation at sampling
    text_encoder: str = ""  # the fingerprint of the encoder that it was trained with
    vocabulary: str = "starter"

    @classmethod
    def from_dict(cls, values: dict) -> StageConfig:
        known = {f.name for f in fields(cls)}
        if not isinstance(values, dict) or "unet" not in values or set(values) - known:
            raise ValueError("it is not the config of a stage of this cascade")
        return cls(**{**values, "unet": UNetConfig(**values["unet"])})


DEFAULTS: dict[str, StageConfig] = {
    "base": StageConfig(unet=PRESETS["base"]),
    "sr64": StageConfig(
        name="sr64",
        unet=PRESETS["sr64"],
        target="x_0",
        clip=8.0,
        augmentation=0.3,
        steps=8,
        guidance=2.0,
        level=0.05,
    ),
    "sr256": StageConfig(
        name="sr256",
        unet=PRESETS["sr256"],
        schedule="linear",
        target="x_0",
        clip=8.0,
        augmentation=0.3,
        crop=64,
        steps=4,
        guidance=1.0,
        level=0.02,
    ),
}


def shrink(images: Tensor, side: int) -> Tensor:
    """Average down to side × side: antialiased, so that a stage never learns aliased pictures."""
    return F.interpolate(images, size=(side, side), mode="area")


def enlarge(images: Tensor, factor: int = 4) -> Tensor:
    return F.interpolate(images, scale_factor=factor, mode="bilinear", align_corners=False)


class Stage(nn.Module):
    """One diffusion model of the cascade: training loss and sampling, the same way in both."""

    def __init__(self, config: StageConfig) -> None:
        super().__init__()
        if config.schedule not in SCHEDULES or config.target not in TARGETS:
            raise ValueError(f"unknown schedule or target: {config.schedule}, {config.target}")
        self.config = config
        self.schedule = SCHEDULES[config.schedule]
        self.unet = UNet(config.unet).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def augment(self, low_res: Tensor, level: Tensor, eps: Tensor) -> tuple[Tensor, Tensor]:
        """Noise-conditioning augmentation: low_res (B, 3, h, w) in [−1, 1] at diffusion time `level` (B,).

        The noise is added at the low resolution, where the stage below makes its mistakes, and always on
        the cosine schedule. Returns the enlarged picture (B, 3, 4h, 4w) and its log-SNR (B,).
        """
        log_snr = cosine_log_snr(level)
        return enlarge(q_sample(low_res, log_snr, eps)), log_snr

    def forward(
        self, x_0: Tensor, text: Tensor, mask: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """The training loss on pictures x_0 (B, 3, H, W) in [−1, 1] with their text: one number.

        All randomness comes from `generator`, on the CPU, so that a resumed run repeats it exactly.
        """
        config, B = self.config, len(x_0)

        def uniform() -> Tensor:
            return torch.rand(B, generator=generator).to(x_0)

        def normal(like: Tensor) -> Tensor:
            return torch.randn(like.shape, generator=generator).to(like)

        text, mask = drop_captions(text, mask, config.caption_drop, uniform())
        if config.crop is not None and config.crop < x_0.shape[-1]:
            x_0 = _crops(x_0, config.crop, generator)
        low: dict[str, Tensor] = {}
        if config.unet.low_res:
            small = shrink(x_0, x_0.shape[-1] // 4)
            level = uniform() * config.augmentation
            low["low_res"], low["low_res_log_snr"] = self.augment(small, level, normal(small))
        return diffusion_loss(
            lambda x_t, log_snr: self.unet(x_t, log_snr, text, mask, **low),
            x_0,
            uniform(),
            normal(x_0),
            self.schedule,
            config.target,
            config.clip,
        )

    @torch.no_grad()
    def sample(
        self,
        noise: Tensor,
        text: Tensor,
        mask: Tensor,
        low_res: Tensor | None = None,
        low_res_noise: Tensor | None = None,
        *,
        guidance: float = 1.0,
        steps: int | None = None,
        level: float | None = None,
        sampler: str = "dpm_solver",
        threshold: str = "dynamic",
        callback: Callable[[int, Tensor, Tensor], object] | None = None,
        ancestral: Draw = torch.randn_like,
    ) -> Tensor:
        """Pictures (B, 3, H, W) in [−1, 1] from noise of that shape. low_res (B, 3, H/4, W/4) in [−1, 1]."""
        if sampler not in SAMPLERS or threshold not in THRESHOLDS:
            raise ValueError(
                f"sampler is one of {', '.join(SAMPLERS)}, threshold one of {', '.join(THRESHOLDS)}"
            )
        low, low_log_snr = None, None
        if low_res is not None and low_res_noise is not None:
            t = torch.full((len(noise),), self.config.level if level is None else level).to(noise)
            low, low_log_snr = self.augment(low_res, t, low_res_noise)

        def network(x_t: Tensor, log_snr: Tensor, text: Tensor, mask: Tensor) -> Tensor:
            if low is None or low_log_snr is None:
                return self.unet(x_t, log_snr, text, mask)
            times_given = len(x_t) // len(low)  # 2 under guidance
            return self.unet(
                x_t,
                log_snr,
                text,
                mask,
                low.repeat(times_given, 1, 1, 1),
                low_log_snr.repeat(times_given),
            )

        def denoise(x_t: Tensor, log_snr: Tensor) -> Tensor:
            output = guided(network, x_t, log_snr, text, mask, guidance)
            x_0 = to_x_0(x_t, output, log_snr, self.config.target)
            return THRESHOLDS[threshold](x_0)  # of the guided x̂_0

        self.eval()
        t = times(self.config.steps if steps is None else steps)
        extra = {"noise": ancestral} if sampler == "ddpm" else {}
        x = SAMPLERS[sampler](denoise, noise, self.schedule, t, callback=callback, **extra)
        return x.clamp(-1, 1)

    def save(self, folder: Path) -> None:
        """config.json and fp16 model.safetensors."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(asdict(self.config), indent=1) + "\n")
        weights = {k: v.detach().half().contiguous() for k, v in self.unet.state_dict().items()}
        save_file(weights, folder / "model.safetensors")

    @classmethod
    def load(cls, folder: Path) -> Stage:
        """Raises ValueError with a sentence where the folder does not hold a stage."""
        for name in ("config.json", "model.safetensors"):
            if not (folder / name).is_file():
                raise ValueError(f"{folder} holds no stage of a cascade: {name} is missing")
        try:
            config = StageConfig.from_dict(json.loads((folder / "config.json").read_text()))
            stage = cls(config)
            stage.unet.load_state_dict(load_file(folder / "model.safetensors"))
        except (ValueError, TypeError, KeyError, RuntimeError, SafetensorError, OSError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ValueError(
                f"{folder} cannot be read as a stage of a cascade: {reason}"
            ) from error
        return stage.float().eval()


def _crops(images: Tensor, side: int, generator: torch.Generator | None) -> Tensor:
    """One random crop a picture, aligned to 4 pixels, so that its low-res is a crop of the low-res."""
    places = (images.shape[-1] - side) // 4 + 1
    corners = (torch.rand(len(images), 2, generator=generator) * places).long() * 4
    return torch.stack(
        [
            x[:, i : i + side, j : j + side]
            for x, (i, j) in zip(images, corners.tolist(), strict=True)
        ]
    )


class Imagen(nn.Module):
    """The whole cascade with its frozen text encoder."""

    def __init__(self, stages: dict[str, Stage], text_encoder: TextEncoder) -> None:
        super().__init__()
        for name, stage in stages.items():
            config = stage.config
            if config.text_encoder and config.text_encoder != text_encoder.fingerprint:
                raise ValueError(
                    f"stage {name} was trained with text encoder {config.text_encoder} and cannot read "
                    f"{text_encoder.fingerprint}: use the encoder it was trained with, or train a cascade "
                    "for this one"
                )
        self.stages = nn.ModuleDict(stages)
        self.text_encoder = text_encoder

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path = CASCADE,
        text_encoder: TextEncoder | None = None,
        stages: Sequence[str] = STAGES,
    ) -> Imagen:
        """From a folder that holds base/ sr64/ sr256/, or a name on the hub; by default the shipped one.

        Raises ValueError with a sentence where something is missing, broken or does not fit.
        """
        folder = Path(source)
        if not folder.is_dir():
            folder = _download(str(source))
        encoder = text_encoder or TextEncoder()
        loaded = {name: Stage.load(folder / name) for name in stages}
        for name, stage in loaded.items():
            if stage.config.name != name:
                raise ValueError(f"{folder / name} holds a stage {stage.config.name}, not {name}")
        return cls(loaded, encoder)

    def save_pretrained(self, folder: str | Path) -> None:
        """One folder a stage, config.json and model.safetensors in each."""
        for name in self.stages:
            self.stage(name).save(Path(folder) / name)

    def stage(self, name: str) -> Stage:
        return cast(Stage, self.stages[name])

    @torch.no_grad()
    def generate(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        guidance: float = 4.0,
        steps: int | None = None,
        last: str | None = None,
        callback: Callable[[str, int, Tensor], object] | None = None,
        **options: Any,
    ) -> dict[str, Tensor]:
        """Every stage's pictures, (B, 3, side, side) in [−1, 1]. callback(stage, step, x̂_0) sees each step.

        Picture i depends on prompts[i] and seeds[i] alone. `steps` is the base stage's; `last` is the stage
        to stop after; options go to Stage.sample: sampler, threshold.
        """
        if len(prompts) != len(seeds):
            raise ValueError(f"{len(prompts)} prompts need as many seeds, not {len(seeds)}")
        if last is not None and last not in self.stages:
            raise ValueError(f"there is no stage {last!r} here: there are {', '.join(self.stages)}")
        device = next(self.parameters()).device
        text, mask = (z.to(device) for z in self.text_encoder(prompts))
        pictures: dict[str, Tensor] = {}
        below: Tensor | None = None
        for k, name in enumerate(self.stages):
            stage = self.stage(name)
            side = SIDES[name]
            noise = seeded_noise(seeds, (3, side, side), 2 * k).to(device)
            extra = seeded_noise(seeds, (3, side // 4, side // 4), 2 * k + 1).to(device)
            w = stage.config.guidance

            def watch(step: int, x_t: Tensor, x_0: Tensor, name: str = name) -> None:
                if callback is not None:
                    callback(name, step, x_0)

            generators = [torch.Generator().manual_seed(seed * 8 + 6) for seed in seeds]

            def ancestral(like: Tensor, own: list[torch.Generator] = generators) -> Tensor:
                return torch.stack([torch.randn(like.shape[1:], generator=g) for g in own]).to(like)

            below = stage.sample(
                noise,
                text,
                mask,
                below,
                None if below is None else extra,
                guidance=guidance if w is None else w,
                steps=steps if name == "base" else None,
                callback=watch,
                ancestral=ancestral,
                **options,
            )
            pictures[name] = below
            if name == last:
                break
        return pictures

    def sample(
        self, prompts: Sequence[str], guidance: float = 4.0, steps: int = 20, seed: int = 0
    ) -> list[Image.Image]:
        """One picture a prompt, as PIL images. Picture i has seed `seed + i`."""
        seeds = [seed + i for i in range(len(prompts))]
        return to_pil(list(self.generate(prompts, seeds, guidance, steps).values())[-1])


def to_pil(images: Tensor) -> list[Image.Image]:
    """(B, 3, H, W) in [−1, 1] → PIL images."""
    pixels = ((images.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return [Image.fromarray(p) for p in pixels]


def _download(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(
            snapshot_download(name, allow_patterns=["*/config.json", "*/model.safetensors"])
        )
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise ValueError(
            f"there is no cascade at {name!r}: it is no folder here, and no hub gave it "
            f"({type(error).__name__})"
        ) from error
