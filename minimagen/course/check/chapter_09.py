"""Exercises of chapter 09: super-resolution."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...diffusion import alpha_sigma, cosine_log_snr
from ...images import downsample, upsample
from ...scenes import Scenes
from ..student import seed_of
from .basics import diagnosed

__all__ = ["honest_level", "three_inputs", "who_enlarges_wrong"]


# what else an answer may be, of the grain's true standard deviation s, and the sentence for it
_MISSED = (
    (lambda s: math.tan(math.pi * s / 2), "this is the grain's standard deviation: which level has it?"),
    (lambda s: s * math.sqrt(2), "a difference of two pixels has the grain of both in it: √2 times as much"),
    (lambda s: 0.6745 * s, "a median is not a standard deviation: divide it by 0.6745"),
)  # fmt: skip


def honest_level(answer: Callable[[Tensor], Any]) -> None:
    """Exercise 09.1: answer(damaged) is the level of the grain in small pictures (B, 3, 16, 16)."""
    title = "an honest level"
    grains, told = [], []  # two, or one number would fit both
    with torch.random.fork_rng(
        devices=[]
    ):  # fresh ones, and the notebook's own numbers stay as they are
        torch.manual_seed(seed_of(title))
        for grain in (0.2 + 0.02 * torch.rand(()).item(), 0.4 - 0.02 * torch.rand(()).item()):
            numbers = torch.randint(10**6, (64,)).tolist()
            small = downsample(Scenes(64, vocabulary="whole").batch(numbers)[0], 16)
            level = answer(small + grain * torch.randn_like(small))
            if level is None or level is ...:
                raise AssertionError(f"{title}: write the function first")
            grains.append(grain)
            told.append(math.tan(math.pi * float(level) / 2))  # σ/α
    if all(abs(t / g - 1) < 0.2 for t, g in zip(told, grains, strict=True)):
        print(f"✓ {title}")
        return
    for missed, sentence in _MISSED:
        if all(abs(t / missed(1.12 * g) - 1) < 0.13 for t, g in zip(told, grains, strict=True)):
            raise AssertionError(f"{title}: {sentence}")
    t, g = max(zip(told, grains, strict=True), key=lambda pair: abs(pair[0] / pair[1] - 1))
    more = "more" if t > g else "less"
    raise AssertionError(f"{title}: you tell {more} noise than there is, {t:.2f} for {g:.2f}")


_ALPHA, _SIGMA = (z.item() for z in alpha_sigma(cosine_log_snr(torch.tensor(0.2))))


def _late(x: Tensor, eps: Tensor) -> Tensor:
    return _ALPHA * upsample(x) + _SIGMA * torch.randn_like(upsample(x))


_WRONG: dict[str, tuple[str, Callable[[Tensor, Tensor], Tensor]]] = {
    "A": ("noised in [0, 1]", lambda x, e: upsample(_ALPHA * (x + 1) + 2 * _SIGMA * e - 1)),
    "B": ("noised after enlarging", _late),
    "C": ("pixels repeated", lambda x, e: F.interpolate(_ALPHA * x + _SIGMA * e, scale_factor=4)),
}  # 09.2: each is augmentation at level 0.2 with one mistake


def three_inputs(small: Tensor) -> dict[str, Tensor]:
    """Exercise 09.2: what three networks are given for small (3, h, w) at level 0.2, each (3, 4h, 4w)."""
    eps = torch.randn_like(small[None])
    return {who: noised(small[None], eps)[0] for who, (_, noised) in _WRONG.items()}


def who_enlarges_wrong(answers: dict[str, str | None]) -> None:
    """Exercise 09.2: the mistake of each."""
    diagnosed(
        "the three inputs",
        answers,
        {who: mistake for who, (mistake, _) in _WRONG.items()},
        missing="name the mistake of {who} first",
        wrong="{answer} would not look like {who}'s input",
    )
