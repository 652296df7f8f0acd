"""Imagen: a cascade of diffusion models that turns a sentence into a picture, stage by stage (fig. A.4).

16×16 from text, then 16 → 64 and 64 → 256 by text-conditioned super-resolution with noise-conditioning
augmentation (section 2.4).
"""

from __future__ import annotations

import operator
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from huggingface_hub import ModelHubMixin, snapshot_download
from PIL import Image
from torch import Tensor, nn

from .assets import CASCADE
from .errors import TextWarning, UserError
from .images import to_pil
from .samplers import seeded_noise
from .stage import RESOLUTIONS, STAGES, Stage
from .text import TextEncoder


class Imagen(nn.Module, ModelHubMixin, paper_url="https://arxiv.org/abs/2205.11487"):
    """The whole cascade with its frozen text encoder; `push_to_hub` and the rest as ModelHubMixin has it."""

    def __init__(self, stages: dict[str, Stage], text_encoder: TextEncoder) -> None:
        super().__init__()
        for name, stage in stages.items():
            if (own := stage.config.text_encoder) not in ("", text_encoder.fingerprint):
                raise ValueError(
                    f"stage {name} was trained with text encoder {own} and cannot read "
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
        """From a folder that holds base/ sr64/ sr256/, or a name on the hub; by default the shipped one.

        download: revision, token, cache_dir, force_download, local_files_only, for a name on the hub.
        Raises ValueError with a sentence where something is missing, broken or does not fit.
        """
        folder = Path(source) if Path(source).is_dir() else _download(str(source), **download)
        loaded = {name: Stage.load(folder / name) for name in stages}
        for name, stage in loaded.items():
            if stage.config.name != name:
                raise ValueError(f"{folder / name} holds a stage {stage.config.name}, not {name}")
        return cls(loaded, text_encoder or TextEncoder())

    def _save_pretrained(self, save_directory: Path) -> None:
        """One folder a stage, config.json and model.safetensors in each; called by save_pretrained."""
        for name in self.stages:
            self.stage(name).save(save_directory / name)

    def stage(self, name: str) -> Stage:
        return cast(Stage, self.stages[name])

    @property
    def vocabulary(self) -> str:
        """What every stage has met: "whole", or else "starter"."""
        return min(self.stage(name).config.vocabulary for name in self.stages)

    @torch.no_grad()
    def generate(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        guidance: float = 4.0,
        steps: int | None = None,
        last: str | None = None,
        callback: Callable[[str, int, Tensor, Tensor], object] | None = None,
        **options: Any,
    ) -> dict[str, Tensor]:
        """Every stage's pictures, (B, 3, side, side) in [−1, 1]. callback(stage, step, x_s, x̂_0) sees each step.

        Picture i depends on prompts[i] and seeds[i] alone. `steps` is the base stage's; `last` is the stage
        to stop after; options go to Stage.sample: sampler, threshold.
        """
        prompts, seeds = _checked(prompts, seeds)
        for told in [t for prompt in prompts for t in self.text_encoder.check(prompt)]:
            warnings.warn(told, TextWarning, stacklevel=3)  # of torch's no_grad, and of the caller
        if last is not None and last not in self.stages:
            raise ValueError(f"there is no stage {last!r} here: there are {', '.join(self.stages)}")
        device = next(self.parameters()).device
        text, mask = (z.to(device) for z in self.text_encoder(prompts))
        pictures: dict[str, Tensor] = {}
        below: Tensor | None = None
        # streams 0 to 5 of a seed are the noise of three stages and of their low-res pictures, 6 is ddpm's
        own = [torch.Generator().manual_seed(seed * 8 + 6) for seed in seeds]

        def noise_sampler(like: Tensor) -> Tensor:
            return torch.stack([torch.randn(like.shape[1:], generator=g) for g in own]).to(like)

        for k, name in enumerate(self.stages):
            stage, side = self.stage(name), RESOLUTIONS[name]
            noise = seeded_noise(seeds, (3, side, side), 2 * k).to(device)
            extra = seeded_noise(seeds, (3, side // 4, side // 4), 2 * k + 1).to(device)

            def watch(step: int, x_s: Tensor, x_0: Tensor, name: str = name) -> None:
                if callback is not None:
                    callback(name, step, x_s, x_0)

            pictures[name] = below = stage.sample(
                noise,
                text,
                mask,
                below,
                None if below is None else extra,
                guidance=guidance if stage.config.guidance is None else stage.config.guidance,
                steps=steps if name == "base" else None,
                callback=watch,
                noise_sampler=noise_sampler,
                **options,
            )
            if name == last:
                break
        return pictures

    def sample(
        self, prompts: Sequence[str], guidance: float = 4.0, steps: int = 20, seed: int = 0
    ) -> list[Image.Image]:
        """One picture a prompt, as PIL images. Picture i has seed `seed + i`."""
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
        if not 0 <= seed < 2**29:  # larger ones would begin again with the noise of small ones
            raise UserError(f"a seed is a whole number from 0 to {2**29 - 1}, not {seed}")
    return prompts, numbers


def _download(name: str, **options: Any) -> Path:
    try:
        wanted = ["*/config.json", "*/model.safetensors"]
        return Path(snapshot_download(name, allow_patterns=wanted, **options))
    except (OSError, ValueError) as error:  # every error of the hub's is one of these
        raise ValueError(
            f"there is no cascade at {name!r}: it is no folder here, and no hub gave it "
            f"({type(error).__name__})"
        ) from error
