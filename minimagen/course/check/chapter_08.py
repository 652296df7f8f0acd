"""Exercises of chapter 08: guidance and thresholding."""

from __future__ import annotations

import torch
from torch import Tensor

from ...diffusion import alpha_sigma, cosine_log_snr
from ...guidance import dynamic_threshold, static_threshold
from ...samplers import ddim, times
from .basics import Exercise

__all__ = ["dynamic_thresholding", "guide", "smallest_weight", "what_becomes_of_a_half"]

guide = Exercise(  # 1: answer(with_text, without, w) is the guided prediction
    "guidance",
    lambda c, u, w: w * c + (1 - w) * u,
    {
        "the other convention: w = 1 must give the prediction with text": lambda c, u, w: (1 + w) * c - w * u,
        "the two predictions have changed places": lambda c, u, w: w * u + (1 - w) * c,
        "you walk away from the text: the difference is with_text − without": lambda c, u, w: u + w * (u - c),
        "the weights must add up to 1": lambda c, u, w: w * c - u,
    },
    (torch.linspace(-1, 2, 12), torch.linspace(1, -0.5, 12), 3.0),
)  # fmt: skip


def _clip(x: Tensor, s: Tensor, divide: bool = True) -> Tensor:
    s = s.reshape(-1, 1, 1, 1)
    return x.clamp(-s, s) / (s if divide else 1)


def _s(x: Tensor, least: float = 1, share: float = 0.995) -> Tensor:
    return torch.quantile(x.flatten(1).abs(), share, dim=1).clamp(min=least)


dynamic_thresholding = Exercise(  # 2: answer(x_0) for pictures (B, 3, H, W)
    "dynamic thresholding",
    dynamic_threshold,
    {
        "this is static thresholding: s may be larger than 1": static_threshold,
        "a picture in range was stretched: s is at least 1": lambda x: _clip(x, _s(x, 0)),
        "each picture needs its own s": lambda x: _clip(x, _s(x.flatten()[None])),
        "you clipped to [−s, s] and did not divide by s": lambda x: _clip(x, _s(x), False),
        "s is the 99.5th percentile, not the maximum": lambda x: _clip(x, _s(x, 1, 1)),
    },
    (
        torch.linspace(-1.5, 1.5, 384).sin().reshape(2, 3, 8, 8)
        * torch.tensor([3.0, 0.9])[:, None, None, None],
    ),
)


def what_becomes_of_a_half(value: float | None) -> None:
    """Exercise 08.3: 3 % of the values at 2.5, the others within ±0.8."""
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


def smallest_weight(w: float) -> None:
    """Exercise 08.4: the smallest w at which 99.5 % of the toy's samples lie above 0."""

    def share(w: float) -> float:
        def denoise(x: Tensor, log_snr: Tensor) -> Tensor:
            alpha, sigma = alpha_sigma(log_snr)
            v = 0.49 * alpha**2 + sigma**2
            high, low = (mu + 0.49 * alpha / v * (x - alpha * mu) for mu in (1, -1))
            p = torch.sigmoid(2 * alpha * x / v)
            return w * high + (1 - w) * (p * high + (1 - p) * low)

        start = torch.special.ndtri((torch.arange(4000.0) + 0.5) / 4000)
        return (ddim(denoise, start, cosine_log_snr, times(100)) > 0).float().mean().item()

    if share(w + 0.1) < 0.995:
        raise AssertionError(f"the smallest weight: only {share(w):.1%} lie above 0: go higher")
    if share(w - 0.2) >= 0.995:
        raise AssertionError("the smallest weight: a smaller one is enough")
    print("✓ the smallest weight")
