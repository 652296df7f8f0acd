"""Previews of a training run: at each checkpoint, images of the data set beside samples for their captions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from ..config import SampleConfig
from ..images import downsample, grid, save_png, to_pil
from ..randomness import seeded_noise
from ..stage import Stage
from ..text import TextEncoder
from .batches import ImageDataset


def preview_of(
    dataset: ImageDataset, encoder: TextEncoder, out: Path, count: int = 8
) -> Callable[[Stage, int], None]:
    """A function of a stage and a step that writes out/previews/STEP.png, always from the same noise.

    It shows the first images of the data set, and below them samples of the stage for their captions.
    """
    images, captions = dataset.batch(list(range(min(count, len(dataset)))))
    small, seeds = downsample(images, images.shape[-1] // 4), range(len(images))
    device = encoder.device
    noise = seeded_noise(seeds, images.shape[1:], 0).to(device)
    low_res = [small.to(device), seeded_noise(seeds, small.shape[1:], 1).to(device)]
    folder = out / "previews"

    def preview(stage: Stage, step: int) -> None:
        guidance = stage.config.guidance
        if guidance is None:
            guidance = SampleConfig.guidance
        below = low_res if stage.config.unet.low_res else ()
        made = stage.sample(noise, *encoder(captions), *below, guidance=guidance)
        pair = [p.resize((128, 128), 0) for p in to_pil(torch.cat([images, made.cpu()]))]
        folder.mkdir(parents=True, exist_ok=True)
        save_png(
            grid(pair, len(images)), folder / f"{step:07}.png", " | ".join(captions), 0, str(out)
        )

    return preview
