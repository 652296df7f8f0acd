"""Exercises of chapter 09: super-resolution."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ...diffusion import alpha_sigma, append_dims, cosine_log_snr, q_sample
from ...images import upsample
from .basics import Exercise

__all__ = ["alpha_bar_of_level", "augmentation", "honest_level", "small_crop"]


def _mix(x: Tensor, eps: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return upsample(append_dims(a, x) * x + append_dims(b, x) * eps)


def _shares(level: Tensor) -> tuple[Tensor, Tensor]:
    return alpha_sigma(cosine_log_snr(level))


def _unit(x: Tensor, level: Tensor, eps: Tensor) -> Tensor:
    return 2 * _mix((x + 1) / 2, eps, *_shares(level)) - 1


def _crop(x: Tensor, i: int, j: int, n: int) -> Tensor:
    return x[..., i : i + n, j : j + n]


_LOW = torch.linspace(-3, 3, 96).sin().reshape(2, 3, 4, 4)
augmentation = Exercise(  # 1: answer(low_res, level, eps) is the enlarged noisy picture
    "noise-conditioning augmentation",
    lambda x, t, e: _mix(x, e, *_shares(t)),
    {
        "you noised the picture in [0, 1]: training does it in [−1, 1]": _unit,
        "the picture must shrink too, by α": lambda x, t, e: _mix(x, e, t**0, _shares(t)[1]),
        "you used the level as σ: it is a time": lambda x, t, e: _mix(x, e, 1 - t, t),
        "α² and σ² are variances: take their roots": lambda x, t, e: _mix(x, e, *(s**2 for s in _shares(t))),
        "right, but not yet enlarged": lambda x, t, e: q_sample(x, cosine_log_snr(t), e),
    },
    (_LOW, torch.tensor([0.1, 0.4]), _LOW.flip(3).cos()),
)  # fmt: skip

small_crop = Exercise(  # 2: answer(small, i, j, side) is what belongs to the large crop at (i, j)
    "the crop's small version",
    lambda small, i, j, side: _crop(small, i // 4, j // 4, side // 4),
    {
        "rows come before columns": lambda x, i, j, n: _crop(x, j // 4, i // 4, n // 4),
        "the corner must be divided by 4 as well": lambda x, i, j, n: _crop(x, i, j, n // 4),
        "the side must be divided by 4 as well": lambda x, i, j, n: _crop(x, i // 4, j // 4, n),
    },
    (torch.arange(3 * 32 * 32.0).reshape(1, 3, 32, 32), 8, 4, 16),
)


def alpha_bar_of_level(value: float | None) -> None:
    """Exercise 09.3: ᾱ at level 0.4 of the cosine schedule."""
    if value is None:
        raise AssertionError("ᾱ of a level: write your number first")
    for wrong, sentence in (
        (math.cos(0.2 * math.pi), "this is α: ᾱ is its square"),
        (math.sin(0.2 * math.pi) ** 2, "this is σ², the share of the noise"),
        (0.6, "the level is a time: the share of the picture is not 1 − level"),
    ):
        if abs(value - wrong) < 0.01:
            raise AssertionError(f"ᾱ of a level: {sentence}")
    if abs(value - math.cos(0.2 * math.pi) ** 2) > 0.02:
        raise AssertionError("ᾱ of a level: not yet; α = cos(π ℓ / 2), and ᾱ = α²")
    print("✓ ᾱ of a level")


def honest_level(level: float) -> None:
    """Exercise 09.4: the level at which σ/α is 0.15."""
    alpha, sigma = alpha_sigma(cosine_log_snr(torch.tensor(float(level))))
    ratio = (sigma / alpha).item()
    told = "more" if ratio > 0.15 else "less"
    if abs(ratio - 0.15) > 0.01:
        raise AssertionError(f"an honest level: {told} noise is told than there is ({ratio:.2f})")
    print("✓ an honest level")
