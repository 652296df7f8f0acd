"""Exercises of chapter 08: guidance and thresholding."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ...diffusion import alpha_sigma, cosine_log_snr
from ...guidance import dynamic_threshold
from ...samplers import ddim, times
from .basics import diagnosed

__all__ = ["three_guides", "what_becomes_of_a_half", "who_guides_wrong"]


def what_becomes_of_a_half(value: float | None) -> None:
    """Exercise 08.1: 3 % of the values at 2.5, the others within ±0.8."""
    if value is None:
        raise AssertionError("what becomes of a half: write your number first")
    x = torch.linspace(-0.8, 0.8, 1000)
    x[:30], x[500] = 2.5, 0.5
    truth = dynamic_threshold(x.reshape(1, 1, 20, 50)).flatten()[500].item()
    if abs(value - 0.5) < 0.01:
        raise AssertionError("what becomes of a half: so static thresholding would leave it")
    if abs(value - truth) > 0.01:
        raise AssertionError("what becomes of a half: s is 2.5, and every value is divided by s")
    print("✓ what becomes of a half")


_WRONG: dict[str, tuple[str, Callable[[Tensor, Tensor, float], Tensor]]] = {
    "A": ("told twice", lambda told, untold, w: w * told + (1 - w) * told),
    "B": ("swapped", lambda told, untold, w: w * untold + (1 - w) * told),
    "C": ("other convention", lambda told, untold, w: (1 + w) * told - w * untold),
}  # 08.2: each is guidance with one mistake


def _mean(mix: Callable[[Tensor, Tensor, float], Tensor], w: float, count: int = 2000) -> Tensor:
    """The mean of the samples for the caption whose numbers are N(1, 0.7²); the other caption's are N(−1, 0.7²)."""

    def denoise(x: Tensor, log_snr: Tensor) -> Tensor:
        alpha, sigma = alpha_sigma(log_snr)
        v = 0.49 * alpha**2 + sigma**2
        high, low = (mu + 0.49 * alpha / v * (x - alpha * mu) for mu in (1, -1))
        p = torch.sigmoid(2 * alpha * x / v)
        return mix(high, p * high + (1 - p) * low, w)

    start = torch.special.ndtri((torch.arange(count, dtype=torch.float64) + 0.5) / count).float()
    return ddim(denoise, start, cosine_log_snr, times(50)).mean()


def three_guides(weights: Sequence[float]) -> dict[str, Tensor]:
    """Exercise 08.2: for each guide the mean of its samples of "high" at each weight, (len(weights),)."""
    return {
        who: torch.stack([_mean(mix, float(w)) for w in weights])
        for who, (_, mix) in _WRONG.items()
    }


def who_guides_wrong(answers: dict[str, str | None]) -> None:
    """Exercise 08.2: the mistake of each guide."""
    diagnosed(
        "the three guides",
        answers,
        {who: mistake for who, (mistake, _) in _WRONG.items()},
        missing="name the mistake of {who} first",
        wrong="{answer} would not look like {who}'s line",
    )
