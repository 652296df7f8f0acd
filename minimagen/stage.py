"""One stage of the cascade: a U-Net, its diffusion, how it is trained and how it is sampled (sections 2.1 to 2.4).

A super-resolution stage is conditioned on the image of the stage below through noise-conditioning augmentation,
in training and in sampling alike.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from .assets import read_tensors, write_json, write_tensors
from .config import STAGES, STATE
from .config_ranges import STAGE_RANGES, UNET_RANGES, check_ranges
from .diffusion import SCHEDULES, TARGETS, cosine_log_snr, diffusion_loss, q_sample
from .errors import UserError
from .guidance import THRESHOLDS, Denoiser, Network, drop_captions
from .images import downsample, upsample
from .randomness import TrainingNoise
from .samplers import SAMPLERS, Callback, Denoise, NoiseSampler, times
from .unet import PRESETS, UNet, UNetConfig

# Config keys of version 0.1 and what they are called now, so that weights saved under them keep loading.
FORMER_NAMES = {
    "clip": "max_loss_weight",
    "time_power": "time_exponent",
    "augmentation": "max_aug_level",
    "level": "aug_level",
    "widths": "channels",
    "head": "head_dim",
}


@dataclass(frozen=True)
class StageConfig:
    """One stage of the cascade: its U-Net, its diffusion, how it is trained and how it is sampled."""

    name: str = "base"  # base, sr64 or sr256
    unet: UNetConfig = field(default_factory=UNetConfig)
    # diffusion
    # Imagen: cosine for the base and the first SR stage, linear for the last
    schedule: str = "cosine"
    target: str = "v"  # Imagen predicts ε with plain MSE; v and x_0 are more stable at few steps
    # training
    # cap of the weight on x_0 (diffusion.loss_weight); None: plain MSE
    max_loss_weight: float | None = None
    time_exponent: float = 1.0  # t = u^time_exponent, u ~ U(0, 1); Imagen: 1; below 1: more noise
    caption_drop: float = 0.1  # probability that the caption is dropped
    max_aug_level: float = 0.0  # aug_level ~ U(0, max_aug_level)
    crop: int | None = None  # resolution of the training crops; None: whole images
    # sampling
    steps: int = 20
    guidance: float | None = None  # None: what the caller asks for
    aug_level: float = 0.0
    threshold: str = "dynamic"  # of the guided x̂_0; Imagen: dynamic
    # what it was trained with
    text_encoder: str = ""  # the fingerprint of the text encoder
    vocabulary: str = "starter"

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> StageConfig:
        """The config that config.json or a training checkpoint holds, in the present or the former names.

        Raises ValueError where `values` is the config of something else.
        """
        if not isinstance(values, dict) or not isinstance(values.get("unet"), dict):
            raise ValueError("it is not the config of a stage of this cascade")
        values = {FORMER_NAMES.get(k, k): v for k, v in values.items()}
        unet = {FORMER_NAMES.get(k, k): v for k, v in values["unet"].items()}
        if set(values) - {f.name for f in fields(cls)}:
            raise ValueError("it is not the config of a stage of this cascade")
        check_ranges(values, STAGE_RANGES)
        check_ranges(unet, UNET_RANGES)
        return cls(**{**values, "unet": UNetConfig(**unet)})


# Static, where the paper is dynamic: better for base and sr64 (data/cascade/README.md); not compared in sr256.
_SR = StageConfig(target="x_0", max_loss_weight=8.0, max_aug_level=0.3, threshold="static")
DEFAULTS: dict[str, StageConfig] = {
    # more noise in training: at high noise levels it is decided what an image shows (tests/benchmarks/recipes.md)
    "base": StageConfig(unet=PRESETS["base"], threshold="static", time_exponent=0.6),
    "sr64": replace(_SR, name="sr64", unet=PRESETS["sr64"], steps=8, guidance=2.0, aug_level=0.05),
    "sr256": replace(
        _SR,
        name="sr256",
        unet=PRESETS["sr256"],
        schedule="linear",
        crop=64,
        steps=4,
        guidance=1.0,
        aug_level=0.02,
    ),
}


# The stages of the shipped cascade: what a GPU trains where nothing else is said. A CPU would do worse with them,
# since a picture costs three times as much there: after 12 minutes of one core, this base draws 16.5 % of the
# starter set's prompts right, and that of DEFAULTS 69.5 % (tests/benchmarks/recipes.md).
SHIPPED: dict[str, StageConfig] = {
    "base": replace(
        DEFAULTS["base"],
        unet=UNetConfig(channels=(96, 192), blocks=(3, 2), attention=("self", "self")),
    ),
    "sr64": replace(
        DEFAULTS["sr64"],
        max_loss_weight=20.0,
        unet=replace(
            PRESETS["sr64"],
            channels=(64, 128, 160),
            blocks=(2, 3, 3),
            attention=("", "self", "self"),
        ),
    ),
    "sr256": replace(
        DEFAULTS["sr256"],
        aug_level=0.0,
        unet=replace(PRESETS["sr256"], channels=(32, 64, 96), blocks=(1, 2, 3)),
    ),
}


class Stage(nn.Module):
    """One diffusion model of the cascade: its training loss, and sampling from it.

    Raises ValueError for a schedule, target or threshold that does not exist.
    """

    def __init__(self, config: StageConfig) -> None:
        super().__init__()
        if config.schedule not in SCHEDULES or config.target not in TARGETS:
            raise ValueError(f"unknown schedule or target: {config.schedule}, {config.target}")
        if config.threshold not in THRESHOLDS:
            raise ValueError(f"threshold is one of {', '.join(THRESHOLDS)}, not {config.threshold}")
        self.config = config
        self.schedule = SCHEDULES[config.schedule]
        # Any: not every torch's types know that a module takes a memory format
        self.unet: UNet = cast(Any, UNet(config.unet)).to(memory_format=torch.channels_last)

    def augment(self, low_res: Tensor, aug_level: Tensor, eps: Tensor) -> tuple[Tensor, Tensor]:
        """Noise-conditioning augmentation (section 2.4, fig. A.32).

        low_res (B, 3, h, w) in [−1, 1] gets the noise eps of diffusion time aug_level (B,) in [0, 1], on the
        cosine schedule in every stage, at the low resolution, where the stage below makes its errors.
        Returns the upsampled image (B, 3, 4h, 4w) and its log-SNR (B,).
        """
        log_snr = cosine_log_snr(aug_level)
        return upsample(q_sample(low_res, log_snr, eps)), log_snr

    def draw_noise(
        self, batch: int, resolution: int, generator: torch.Generator | None = None
    ) -> TrainingNoise:
        """The random numbers of one loss, for a batch of images of resolution × resolution (before cropping)."""
        crop = self.config.crop is not None and self.config.crop < resolution
        side = cast(int, self.config.crop) if crop else resolution
        low_res = self.config.unet.low_res
        return TrainingNoise.draw(batch, side, generator, crop=crop, low_res=low_res)

    def cropped(self, images: Tensor, noise: TrainingNoise) -> Tensor:
        """The training crops of images (B, 3, H, W), of any type, as the noise says."""
        if noise.crop is None or self.config.crop is None:
            return images
        return random_crops(images, self.config.crop, noise.crop)

    def forward(
        self,
        x_0: Tensor,
        text: Tensor,
        mask: Tensor,
        noise: TrainingNoise,
        network: Network | None = None,
    ) -> Tensor:
        """The training loss, a scalar, of images x_0 (B, 3, H, W) in [−1, 1] with their text.

        text (B, L, D), mask (B, L) True at tokens; noise: from draw_noise, for B images; network: the U-Net, if
        it was compiled. A pure function.
        """
        config, noise, unet = self.config, noise.to(x_0), network or self.unet
        text, mask = drop_captions(text, mask, config.caption_drop, noise.drop)
        x_0 = self.cropped(x_0, noise)
        low_res: tuple[Tensor, ...] = ()
        if noise.aug_level is not None and noise.aug_eps is not None:
            small = downsample(x_0, x_0.shape[-1] // 4)
            low_res = self.augment(small, noise.aug_level * config.max_aug_level, noise.aug_eps)

        def predict(x_t: Tensor, log_snr: Tensor) -> Tensor:
            return cast(Tensor, unet(x_t, log_snr, text, mask, *low_res))

        t = noise.t**config.time_exponent
        return diffusion_loss(
            predict, x_0, t, noise.eps, self.schedule, config.target, config.max_loss_weight
        )

    def denoiser(
        self,
        text: Tensor,
        mask: Tensor,
        low_res: Tensor | None = None,
        low_res_noise: Tensor | None = None,
        *,
        guidance: float = 1.0,
        aug_level: float | None = None,
        threshold: str | None = None,
    ) -> Denoiser:
        """x̂_0(x_t, λ) of this stage, as the samplers call it; the arguments are those of `sample`."""
        threshold = threshold or self.config.threshold
        if threshold not in THRESHOLDS:
            raise UserError(f"threshold is one of {', '.join(THRESHOLDS)}, not {threshold}")
        if not math.isfinite(guidance):
            raise UserError(f"guidance must be a finite number, not {guidance}")
        if (low_res is None) != (low_res_noise is None):
            raise UserError("low_res and low_res_noise belong together: give both, or neither")
        extra: tuple[Tensor, ...] = ()
        if low_res is not None and low_res_noise is not None:
            level = self.config.aug_level if aug_level is None else aug_level
            extra = self.augment(low_res, torch.full((len(text),), level).to(text), low_res_noise)
        return Denoiser(self.unet, text, mask, self.config.target, guidance, threshold, extra)

    @torch.no_grad()
    def denoise_along(
        self,
        t: Tensor,
        denoise: Denoise,
        x: Tensor,
        *,
        sampler: str = "dpm_solver",
        callback: Callback | None = None,
        noise_sampler: NoiseSampler = torch.randn_like,
    ) -> Tensor:
        """Images (B, 3, H, W) in [−1, 1] from x of that shape, along the times t from that of x down to 0.

        denoise: what `denoiser` gives, or a function around it; the rest as in `sample`.
        """
        if sampler not in SAMPLERS:
            raise UserError(f"sampler is one of {', '.join(SAMPLERS)}, not {sampler}")
        self.eval()
        options = {"noise_sampler": noise_sampler} if sampler == "ddpm" else {}
        x = SAMPLERS[sampler](denoise, x, self.schedule, t, callback=callback, **options)
        if not x.isfinite().all():
            raise UserError(
                f"{self.config.name} made NaN or infinity of the noise: lower the guidance, or look at the model "
                "with minimagen doctor"
            )
        return x.clamp(-1, 1)

    def sample(  # noqa: PLR0913 (every choice that can be made at sampling is a keyword here)
        self,
        noise: Tensor,
        text: Tensor,
        mask: Tensor,
        low_res: Tensor | None = None,
        low_res_noise: Tensor | None = None,
        *,
        steps: int | None = None,
        sampler: str = "dpm_solver",
        guidance: float = 1.0,
        aug_level: float | None = None,
        threshold: str | None = None,
        callback: Callback | None = None,
        noise_sampler: NoiseSampler = torch.randn_like,
    ) -> Tensor:
        """Images (B, 3, H, W) in [−1, 1] from noise of that shape.

        text (B, L, D) and mask (B, L), True at tokens. Super-resolution takes low_res (B, 3, H/4, W/4) in
        [−1, 1] and noise of its shape. steps, aug_level in [0, 1], threshold: None is the config's. guidance: w of
        Imagen eq. 2; 1: none. callback(i, x_s, x̂_0) is called after each step. noise_sampler gives the noise of
        ddpm's steps. Raises UserError for an unknown sampler or threshold, and where only one of low_res and
        low_res_noise is given.
        """
        denoise = self.denoiser(
            text,
            mask,
            low_res,
            low_res_noise,
            guidance=guidance,
            aug_level=aug_level,
            threshold=threshold,
        )
        t = times(self.config.steps if steps is None else steps)
        return self.denoise_along(
            t, denoise, noise, sampler=sampler, callback=callback, noise_sampler=noise_sampler
        )

    def check_finite(self, where: Path) -> None:
        """Raises UserError where a weight is NaN or infinite: such a model draws black."""
        for name, value in self.unet.state_dict().items():
            if not value.isfinite().all():
                raise UserError(f"{where} can't be used: {name} holds NaN or infinity")

    def save(self, folder: Path) -> None:
        """Write config.json and model.safetensors, in float16 but for weights beyond its range.

        Raises UserError where a weight is NaN or infinite, and OSError where the files can't be written.
        """
        self.check_finite(folder)
        write_json(asdict(self.config), folder / "config.json")
        weights = self.unet.state_dict()
        weights = {k: v.half() if v.abs().max() < 65504 else v for k, v in weights.items()}
        write_tensors(weights, folder / "model.safetensors")

    @classmethod
    def load(cls, folder: Path) -> Stage:
        """A stage from config.json and model.safetensors, in float32, for sampling (eval mode).

        Raises UserError, with a sentence, where the folder does not hold a stage.
        """
        for name in ("config.json", "model.safetensors"):
            if not (folder / name).is_file():
                raise UserError(
                    f"{folder} holds no stage of a cascade: {name} is missing{_instead(folder)}"
                )
        try:
            config = StageConfig.from_dict(json.loads((folder / "config.json").read_text("utf-8")))
            stage = cls(config)
            stage.unet.load_state_dict(read_tensors(folder / "model.safetensors"))
        except (ValueError, TypeError, KeyError, RuntimeError, SafetensorError, OSError) as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError(f"{folder} can't be read as a stage of a cascade: {reason}") from error
        stage.check_finite(folder)
        return stage.float().eval()


def random_crops(images: Tensor, resolution: int, u: Tensor) -> Tensor:
    """One crop of each image (B, 3, H, W), its corner by u (B, 2) in [0, 1): (B, 3, resolution, resolution).

    Corners are multiples of 4, where a pixel of the low-resolution image begins too.
    """
    windows = images.unfold(2, resolution, 4).unfold(3, resolution, 4)  # a view: (B, 3, n, n, …)
    i, j = (u * windows.shape[2]).long().unbind(1)
    return windows[torch.arange(len(images), device=images.device), :, i, j]


def _instead(folder: Path) -> str:
    """What a folder without a stage holds instead, and what to do."""
    if (folder / STATE).is_file():
        go_on = f"minimagen train {folder.name} --resume --out {folder}"
        return f"; it is a run that has not ended: go on with {go_on}"
    if stages := [name for name in STAGES if (folder / name / "config.json").is_file()]:
        return f"; it is a cascade: give {folder / stages[0]}, or another of its stages"
    if folder.name in STAGES and (folder.parent / "config.json").is_file():
        return f"; {folder.parent} is a stage itself: give the folder above it"
    return ""
