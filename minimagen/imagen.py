"""Imagen: a cascade of diffusion models from text to a 256×256 image (fig. A.4).

A base model makes 16×16 images from text; two text-conditioned super-resolution models with noise-conditioning
augmentation (section 2.4) go from 16 to 64 and from 64 to 256.
"""

from __future__ import annotations

import operator
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from huggingface_hub import ModelHubMixin, snapshot_download
from PIL import Image
from torch import Tensor, nn

from .assets import CASCADE
from .config import RESOLUTIONS, STAGES, SampleConfig
from .errors import TextWarning, UserError
from .images import to_pil
from .randomness import MAX_SEED, ancestral_noise, seeded_noise
from .stage import Stage
from .text import TextEncoder


class Imagen(nn.Module, ModelHubMixin, paper_url="https://arxiv.org/abs/2205.11487"):
    """The cascade with its frozen text encoder; push_to_hub and the like are ModelHubMixin's.

    stages: by name, in the order in which they follow one another. Raises UserError for a stage that was
    trained with another text encoder.
    """

    def __init__(self, stages: dict[str, Stage], text_encoder: TextEncoder) -> None:
        super().__init__()
        for name, stage in stages.items():
            trained_with = stage.config.text_encoder
            if not text_encoder.fits(trained_with):
                raise UserError(
                    f"stage {name} was trained with text encoder {trained_with} and cannot read "
                    f"{text_encoder.fingerprint}: use the encoder it was trained with, or train a cascade "
                    "for this one"
                )
        self.stages = nn.ModuleDict(stages)
        self.text_encoder = text_encoder

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls,
        source: str | Path = CASCADE,
        text_encoder: TextEncoder | None = None,
        stages: Sequence[str] = STAGES,
        **download: Any,
    ) -> Imagen:
        """Load a cascade from a folder that holds base/ sr64/ sr256/, or by its hub name; default: the shipped one.

        stages: which ones to load. download: revision, token, cache_dir, force_download, local_files_only, for
        a hub name. Raises UserError, with a sentence, where something is missing, broken or does not fit.
        """
        folder = Path(source) if Path(source).is_dir() else _download(str(source), **download)
        loaded = {name: Stage.load(folder / name) for name in stages}
        for name, stage in loaded.items():
            if stage.config.name != name:
                raise UserError(f"{folder / name} holds a stage {stage.config.name}, not {name}")
        return cls(loaded, text_encoder or TextEncoder())

    def _save_pretrained(self, save_directory: Path) -> None:
        """One folder for each stage, with config.json and model.safetensors; called by save_pretrained."""
        for name in self.stages:
            self.stage(name).save(save_directory / name)

    def stage(self, name: str) -> Stage:
        """The stage of that name: base, sr64 or sr256."""
        return cast(Stage, self.stages[name])

    @property
    def vocabulary(self) -> str:
        """The vocabulary that every stage was trained on: "whole", or "starter" if one knows only that."""
        known = {self.stage(name).config.vocabulary for name in self.stages}
        return "whole" if known == {"whole"} else "starter"

    @torch.no_grad()
    def generate(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        guidance: float = SampleConfig.guidance,
        steps: int | None = None,
        last: str | None = None,
        callback: Callable[[str, int, Tensor, Tensor], object] | None = None,
        draw_stage: Callable[..., Tensor] | None = None,
        **options: Any,
    ) -> dict[str, Tensor]:
        """The images of every stage by its name, each (B, 3, H, W) in [−1, 1].

        Image i depends on prompts[i] and seeds[i] alone. guidance: of stages whose config has none of its own.
        steps: of the base stage; None: its config's. last: the stage to stop after. callback(stage, i, x_s, x̂_0)
        is called after each step. draw_stage: what draws a stage in place of Stage.sample, with the same arguments
        (see control.py). options: sampler and threshold, as in Stage.sample. Raises UserError where prompts, seeds
        or last do not fit.
        """
        prompts, seeds = _checked(prompts, seeds)
        if last is not None and last not in self.stages:
            raise UserError(f"there is no stage {last!r} here: there are {', '.join(self.stages)}")
        for prompt in prompts:
            for warning in self.text_encoder.check(prompt):
                # above this frame are torch's no_grad, then the caller
                warnings.warn(warning, TextWarning, stacklevel=3)
        text, mask = (z.to(self.device) for z in self.text_encoder(prompts))
        draw, noise_sampler = draw_stage or Stage.sample, ancestral_noise(seeds)
        images: dict[str, Tensor] = {}
        low_res: Tensor | None = None
        for name in self.stages:
            stage = self.stage(name)
            own_guidance = stage.config.guidance
            noise, low_res_noise = self.noise(seeds, name)
            images[name] = low_res = draw(
                stage,
                noise,
                text,
                mask,
                low_res,
                None if low_res is None else low_res_noise,
                guidance=guidance if own_guidance is None else own_guidance,
                steps=steps if name == "base" else None,
                callback=None if callback is None else partial(callback, name),
                noise_sampler=noise_sampler,
                **options,
            )
            if name == last:
                break
        return images

    def noise(self, seeds: Sequence[int], name: str) -> tuple[Tensor, Tensor]:
        """What a stage starts from, (B, 3, H, W), and the noise in its low-resolution image, (B, 3, H/4, W/4)."""
        k, side = list(self.stages).index(name), RESOLUTIONS[name]
        noise = seeded_noise(seeds, (3, side, side), 2 * k)
        low_res_noise = seeded_noise(seeds, (3, side // 4, side // 4), 2 * k + 1)
        return noise.to(self.device), low_res_noise.to(self.device)

    @property
    def device(self) -> torch.device:
        """Where the stages are."""
        return next(self.parameters()).device

    def sample(
        self,
        prompts: Sequence[str],
        guidance: float = SampleConfig.guidance,
        steps: int = SampleConfig.steps,
        seed: int = 0,
    ) -> list[Image.Image]:
        """One image for each prompt, as PIL images of the last stage. Image i has seed `seed + i`."""
        prompts = [prompts] if isinstance(prompts, str) else list(prompts)
        seeds = [seed + i for i in range(len(prompts))]
        return to_pil(list(self.generate(prompts, seeds, guidance, steps).values())[-1])


def _checked(prompts: Sequence[str], seeds: Sequence[int]) -> tuple[list[str], list[int]]:
    """Prompts and seeds as lists, NumPy's and torch's whole numbers too. Raises UserError where they do not fit."""
    if isinstance(prompts, str):
        raise UserError("give a list of prompts, not one text: put it in [ ]")
    try:
        prompts, numbers = list(prompts), [operator.index(seed) for seed in seeds]
    except TypeError as error:
        raise UserError(
            f"give a list of prompts and a list of whole numbers, their seeds ({error})"
        ) from error
    if not prompts:
        raise UserError("there is no prompt: give at least one")
    if len(prompts) != len(numbers):
        raise UserError(f"{len(prompts)} prompts need as many seeds, not {len(numbers)}")
    for seed in numbers:
        if not 0 <= seed <= MAX_SEED:
            raise UserError(f"a seed is a whole number from 0 to {MAX_SEED}, not {seed}")
    return prompts, numbers


def _download(name: str, **options: Any) -> Path:
    try:
        wanted = ["*/config.json", "*/model.safetensors"]
        return Path(snapshot_download(name, allow_patterns=wanted, **options))
    except (OSError, ValueError) as error:  # every error of the hub is one of these
        raise UserError(
            f"there is no cascade at {name!r}: it is no folder here, and no hub gave it "
            f"({type(error).__name__})"
        ) from error
