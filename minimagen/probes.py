"""What the doctor measures: a few numbers each, from one or two calls of a network or of `Stage.sample`.

Every probe takes the stage as it is and runs it as a user would: what no file shows is seen too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .diffusion import TARGETS, q_sample, to_x_0
from .images import downsample
from .stage import Stage
from .text import TextEncoder
from .training.batches import ImageDataset

FLOAT16_MAX = 65504.0


@dataclass(frozen=True)
class Batch:
    """Real images x_0 (B, 3, H, W) with their text (B, L, D), mask (B, L), and noise eps (B, 3, H, W)."""

    x_0: Tensor
    text: Tensor
    mask: Tensor
    eps: Tensor

    @classmethod
    def of(
        cls, images: ImageDataset, encoder: TextEncoder, count: int, crop: int | None = None
    ) -> Batch:
        """The first images, their captions encoded, and noise that is always the same; crop: their corner alone."""
        x_0, captions = images.batch(list(range(min(count, len(images)))))
        x_0 = x_0[..., :crop, :crop]
        eps = torch.randn(x_0.shape, generator=torch.Generator().manual_seed(0))
        text, mask = encoder(captions)
        return cls(x_0, text, mask, eps)

    def __getitem__(self, part: slice) -> Batch:
        return Batch(self.x_0[part], self.text[part], self.mask[part], self.eps[part])

    @property
    def low_res(self) -> Tensor:
        """The images at a quarter of their resolution, (B, 3, H/4, W/4)."""
        return downsample(self.x_0, self.x_0.shape[-1] // 4)


def rms(a: Tensor, b: Tensor) -> float:
    """The root mean square of a − b."""
    return (a - b).square().mean().sqrt().item()


@torch.no_grad()
def denoised(stage: Stage, batch: Batch, log_snr: float, silent: bool = False) -> dict[str, Tensor]:
    """x̂_0 (B, 3, H, W) from one call at a noise level, as each of TARGETS would read the same output.

    silent: every state of the text is zero, under the same mask, so that only what the text says differs.
    """
    config, x_0 = stage.config, batch.x_0
    levels = torch.full((len(x_0),), log_snr)
    extra: tuple[Tensor, ...] = ()
    if config.unet.low_res:
        small = batch.low_res
        extra = stage.augment(
            small, torch.full_like(levels, config.aug_level), torch.zeros_like(small)
        )
    x_t = q_sample(x_0, levels, batch.eps)
    text = torch.zeros_like(batch.text) if silent else batch.text
    output = stage.unet(x_t, levels, text, batch.mask, *extra)
    return {target: to_x_0(x_t, output, levels, target) for target in TARGETS}


def x_0_errors(stage: Stage, batch: Batch, log_snr: float) -> dict[str, float]:
    """The mean square error of x̂_0 at a noise level, by the target that the output is read as."""
    read = denoised(stage, batch, log_snr)
    return {target: (x_0 - batch.x_0).square().mean().item() for target, x_0 in read.items()}


@dataclass(frozen=True)
class Sampled:
    """What `Stage.sample` returned, and its last step: the state x_s it ended in, and the x̂_0 it was made from."""

    image: Tensor
    x_s: Tensor
    x_0: Tensor


def sampled(
    stage: Stage, batch: Batch, guidance: float = 1.0, steps: int = 1, threshold: str = "none"
) -> Sampled:
    """Sample from the noise of the batch, as a user would; super-resolution from its small images.

    One step without threshold: x_0 is x̂_0 of pure noise, guided, and nothing is clipped.
    """
    last: list[Tensor] = []

    def keep(_: int, x_s: Tensor, x_0: Tensor) -> None:
        last[:] = x_s, x_0

    low_res: tuple[Tensor, ...] = ()
    if stage.config.unet.low_res:
        small = batch.low_res
        low_res = small, torch.randn(small.shape, generator=torch.Generator().manual_seed(1))
    options: dict[str, Any] = {"guidance": guidance, "steps": steps, "threshold": threshold}
    image = stage.sample(batch.eps, batch.text, batch.mask, *low_res, callback=keep, **options)
    return Sampled(image, *last)


def guess(stage: Stage, batch: Batch, guidance: float = 1.0) -> Tensor:
    """x̂_0 of pure noise, (B, 3, H, W), guided, not clipped."""
    return sampled(stage, batch, guidance).x_0


def follows(stage: Stage, batch: Batch, steps: int = 2) -> tuple[float, float]:
    """How a super-resolution stage follows its small image: slope and offset of its output over it, 1 and 0.

    Both at the small resolution, by least squares over all pixels.
    """
    small, made = batch.low_res, sampled(stage, batch, stage.config.guidance or 1.0, steps).image
    made = downsample(made, small.shape[-1])
    spread = small - small.mean()
    slope = ((made - made.mean()) * spread).sum() / spread.square().sum()
    return slope.item(), (made.mean() - slope * small.mean()).item()


@torch.no_grad()
def largest_activation(stage: Stage, batch: Batch, log_snr: float) -> tuple[float, str]:
    """The largest absolute value that a layer of the U-Net gives at a noise level, and the layer's name."""
    found = [(0.0, "")]

    def look(name: str) -> Any:
        def hook(module: object, inputs: object, output: object) -> None:
            if isinstance(output, Tensor):
                found.append((output.abs().max().item(), name))

        return hook

    hooks = [m.register_forward_hook(look(n)) for n, m in stage.unet.named_modules() if n]
    try:
        denoised(stage, batch, log_snr)
    finally:
        for hook in hooks:
            hook.remove()
    return max(found)


# Of pictures, by a base stage that knows what they show


@torch.no_grad()
def errors_with(
    base: Stage, x_0: Tensor, text: Tensor, mask: Tensor, log_snr: float = -1.0
) -> Tensor:
    """The error of x̂_0 of each image (B,), under its own text and noise that is always the same."""
    eps = torch.randn(x_0.shape[1:], generator=torch.Generator().manual_seed(0)).expand_as(x_0)
    levels = torch.full((len(x_0),), log_snr)
    x_t = q_sample(x_0, levels, eps)
    output = base.unet(x_t, levels, text, mask)
    return (to_x_0(x_t, output, levels, base.config.target) - x_0).square().mean((1, 2, 3))


def errors_by_caption(base: Stage, x_0: Tensor, text: Tensor, mask: Tensor) -> Tensor:
    """The error of x̂_0 of image i under caption j, (B, B)."""
    # a row: one image under all captions
    return torch.stack([errors_with(base, image.expand_as(x_0), text, mask) for image in x_0])


def surely_less(a: Tensor, b: Tensor, factor: float) -> bool:
    """Whether a (N,) is on average below factor · b (N,), by four standard errors of the paired difference."""
    d = factor * b - a
    return len(d) >= 8 and bool(d.mean() > 4 * d.std() / len(d) ** 0.5)
