"""Exercises of chapter 09: super-resolution."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ...diffusion import alpha_sigma, cosine_log_snr
from ...images import upsample
from .basics import Exercise

__all__ = ["honest_level", "small_crop", "three_inputs", "who_enlarges_wrong"]


def _crop(x: Tensor, i: int, j: int, n: int) -> Tensor:
    return x[..., i : i + n, j : j + n]


small_crop = Exercise(  # 1: answer(small, i, j, side) is what belongs to the large crop at (i, j)
    "the crop's small version",
    lambda small, i, j, side: _crop(small, i // 4, j // 4, side // 4),
    {
        "rows come before columns": lambda x, i, j, n: _crop(x, j // 4, i // 4, n // 4),
        "the corner must be divided by 4 as well": lambda x, i, j, n: _crop(x, i, j, n // 4),
        "the side must be divided by 4 as well": lambda x, i, j, n: _crop(x, i // 4, j // 4, n),
    },
    (torch.arange(3 * 32 * 32.0).reshape(1, 3, 32, 32), 8, 4, 16),
)


def honest_level(level: float | None) -> None:
    """Exercise 09.2: the level at which σ/α is 0.15."""
    if level is None:
        raise AssertionError("an honest level: write your level first")
    alpha, sigma = alpha_sigma(cosine_log_snr(torch.tensor(float(level))))
    ratio = (sigma / alpha).item()
    told = "more" if ratio > 0.15 else "less"
    if abs(ratio - 0.15) > 0.01:
        raise AssertionError(f"an honest level: {told} noise is told than there is ({ratio:.2f})")
    print("✓ an honest level")


_ALPHA, _SIGMA = (z.item() for z in alpha_sigma(cosine_log_snr(torch.tensor(0.2))))


def _late(x: Tensor, eps: Tensor) -> Tensor:
    return _ALPHA * upsample(x) + _SIGMA * torch.randn_like(upsample(x))


_WRONG: dict[str, tuple[str, Callable[[Tensor, Tensor], Tensor]]] = {
    "A": ("noised in [0, 1]", lambda x, e: upsample(_ALPHA * (x + 1) + 2 * _SIGMA * e - 1)),
    "B": ("noised after enlarging", _late),
    "C": ("pixels repeated", lambda x, e: F.interpolate(_ALPHA * x + _SIGMA * e, scale_factor=4)),
}  # 09.3: each is augmentation at level 0.2 with one mistake


def three_inputs(small: Tensor) -> dict[str, Tensor]:
    """Exercise 09.3: what three networks are given for small (3, h, w) at level 0.2, each (3, 4h, 4w)."""
    eps = torch.randn_like(small[None])
    return {who: noised(small[None], eps)[0] for who, (_, noised) in _WRONG.items()}


def who_enlarges_wrong(answers: dict[str, str | None]) -> None:
    """Exercise 09.3: the mistake of each."""
    known = [mistake for mistake, _ in _WRONG.values()]
    for who, (mistake, _) in _WRONG.items():
        answer = answers.get(who)
        if answer is None:
            raise AssertionError(f"the three inputs: name the mistake of {who} first")
        if answer not in known:
            raise AssertionError(f"the three inputs: {answer!r} is none of {', '.join(known)}")
        if answer != mistake:
            raise AssertionError(f"the three inputs: {answer!r} would not look like {who}'s input")
    print("✓ the three inputs")
