"""Exercises of chapter 05: GANs and diffusion."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ...diffusion import alpha_sigma, cosine_log_snr
from ...samplers import ddim, times
from .basics import Exercise

__all__ = ["best_discriminator", "enough_steps", "generator_loss", "modes_covered", "ring_share"]

generator_loss = Exercise(  # 1: answer(d_fake) is the non-saturating loss
    "the generator's loss",
    lambda d: F.softplus(-d).mean(),
    {
        "this rewards G when D calls its pictures fake: turn the sign of D": lambda d: F.softplus(d).mean(),
        "this is the first game, flat where G is bad: take softplus(−D)": lambda d: -F.softplus(d).mean(),
        "take the mean over the batch, so that its size does not matter": lambda d: F.softplus(-d).sum(),
        "one number: the mean over the batch is missing": lambda d: F.softplus(-d),
    },
    (torch.tensor([[-3.0], [0.5], [1.0], [4.0]]),),
)  # fmt: skip

modes_covered = Exercise(  # 2: answer(counts) is how many modes have a tenth of their fair share
    "modes covered",
    lambda counts: (counts >= counts.float().mean() / 10).sum(),
    {
        "one picture is not enough: ask for a tenth of the fair share": lambda c: (c > 0).sum(),
        "a tenth of all pictures is not a tenth of the fair share": lambda c: (
            c >= c.sum() / 10
        ).sum(),
        "you ask for the whole fair share, not a tenth of it": lambda c: (
            c >= c.float().mean()
        ).sum(),
    },
    (torch.tensor([200, 30, 2, 0, 9, 12, 41, 106]),),
)


def best_discriminator(probability: float | None) -> None:
    """Exercise 05.3: p_real / (p_real + p_fake), with densities 0.03 and 0.01."""
    if probability is None:
        raise AssertionError("the best discriminator: write your number first")
    if abs(probability - 0.03 / (0.03 + 0.01)) > 0.02:
        raise AssertionError(
            f"the best discriminator: {probability:.2f} is off; weigh the two densities"
        )
    print("✓ the best discriminator")


def ring_share(steps: int) -> float:
    """The share of 4,000 points on a cloud of the ring, by the ideal denoiser and DDIM."""
    angles = torch.arange(8) * torch.pi / 4
    centres = torch.stack([angles.cos(), angles.sin()], dim=1)

    def ideal(x: Tensor, log_snr: Tensor) -> Tensor:
        alpha, sigma = alpha_sigma(log_snr[0])
        variance = (0.05 * alpha) ** 2 + sigma**2
        belief = (-torch.cdist(x, alpha * centres).square() / (2 * variance)).softmax(1) @ centres
        return belief + alpha * 0.05**2 / variance * (x - alpha * belief)

    x = torch.randn(4000, 2, generator=torch.Generator().manual_seed(0))
    x = ddim(ideal, x, cosine_log_snr, times(steps))
    return float((torch.cdist(x, centres).min(1).values < 0.2).float().mean())


def enough_steps(steps: int) -> None:
    """Exercise 05.4: the smallest number of steps at which 95 % of the points land on a cloud."""
    if ring_share(steps) < 0.945:
        raise AssertionError(
            f"enough steps: after {steps} only {ring_share(steps):.0%} are on a cloud"
        )
    if steps > 1 and ring_share(steps - 2) > 0.955:
        raise AssertionError(f"enough steps: fewer than {steps} do as well")
    print("✓ enough steps")
