"""The numbers and pictures in the diagrams, read from what is shipped: a new cascade redraws them."""

from __future__ import annotations

import inspect
import io
import json
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from minimagen.assets import CASCADE, DEFAULT_ENCODER
from minimagen.config import RESOLUTIONS
from minimagen.diffusion import cosine_log_snr, q_sample
from minimagen.imagen import Imagen
from minimagen.scenes import Scenes
from minimagen.stage import StageConfig
from minimagen.unet import UNet, num_parameters


@dataclass(frozen=True)
class Facts:
    """A stage as shipped."""

    config: StageConfig
    side: int
    parameters: int

    @property
    def millions(self) -> str:
        return f"{self.parameters / 1e6:.2f} M"

    @property
    def strides(self) -> list[int]:
        """Of each DBlock, as UNet has them."""
        unet = self.config.unet
        return [2 if unet.efficient or i else 1 for i in range(len(unet.channels))]

    @property
    def sides(self) -> list[int]:
        """Of the features at each level."""
        sides, side = [], self.side
        for stride in self.strides:
            side //= stride
            sides.append(side)
        return sides

    @property
    def guidance(self) -> float:
        """The weight at sampling: the stage's own, or else what Imagen.generate takes."""
        default = inspect.signature(Imagen.generate).parameters["guidance"].default
        return default if self.config.guidance is None else self.config.guidance


@cache
def stage(name: str) -> Facts:
    values = json.loads((CASCADE / name / "config.json").read_text("utf-8"))
    config = StageConfig.from_dict(values)
    with torch.device("meta"):
        count = num_parameters(UNet(config.unet))
    return Facts(config, RESOLUTIONS[name], count)


@cache
def encoder() -> dict:
    """The text encoder's config.json."""
    return json.loads((DEFAULT_ENCODER / "config.json").read_text("utf-8"))


# --- pictures --------------------------------------------------------------------------------


@cache
def scene(side: int, thing: str = "cat", place: str = "grass", style: str = "3d") -> Tensor:
    """A true scene (3, side, side) in [−1, 1]: one thing by day. Every side shows the same one."""
    scenes = Scenes(side, "all", "whole", objects=[thing], places=[place], styles=[style])
    for i in range(1_000):
        truth = scenes.describe(i)[0]
        alone = truth.things[0]
        if len(truth.things) == 1 and alone.colour is alone.size is None and truth.time == "day":
            return scenes[i].image
    raise ValueError(f"no {thing} is alone by day in a thousand scenes")


def noise(side: int, seed: int = 0) -> Tensor:
    """ε (3, side, side)."""
    return torch.randn(3, side, side, generator=torch.Generator().manual_seed(seed))


def noised(x_0: Tensor, t: float, seed: int = 0) -> Tensor:
    """x_t of a picture (3, H, W) on the cosine schedule."""
    log_snr = cosine_log_snr(torch.tensor([t]))
    return q_sample(x_0[None], log_snr, noise(x_0.shape[-1], seed)[None])[0]


def _pil(image: Tensor) -> Image.Image:
    pixels = ((image.clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
    return Image.fromarray(np.ascontiguousarray(pixels))


def png(image: Tensor, colours: int = 0) -> bytes:
    """(3, H, W) in [−1, 1] as PNG, for the smallest ones; colours: of a palette."""
    buffer, picture = io.BytesIO(), _pil(image)
    if colours:
        picture = picture.quantize(colours)
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def webp(image: Tensor, quality: int = 80) -> bytes:
    buffer = io.BytesIO()
    _pil(image).save(buffer, "WEBP", quality=quality, method=6)
    return buffer.getvalue()
