"""Exercises of chapter 05: GANs and diffusion."""

from __future__ import annotations

import torch
from torch import Tensor

from ...diffusion import alpha_sigma, cosine_log_snr
from ...samplers import ddim, times
from ..race import CENTRES, SPREAD, on_ring
from .basics import diagnosed

__all__ = ["enough_steps", "four_models", "ring_share", "who_is_honest"]


def ring_share(steps: int) -> float:
    """The share of 4,000 points on a cloud of the ring, by the ideal denoiser and DDIM."""

    def ideal(x: Tensor, log_snr: Tensor) -> Tensor:
        alpha, sigma = alpha_sigma(log_snr[0])
        variance = (SPREAD * alpha) ** 2 + sigma**2
        belief = (-torch.cdist(x, alpha * CENTRES).square() / (2 * variance)).softmax(1) @ CENTRES
        return belief + alpha * SPREAD**2 / variance * (x - alpha * belief)

    x = torch.randn(4000, 2, generator=torch.Generator().manual_seed(0))
    x = ddim(ideal, x, cosine_log_snr, times(steps))
    return on_ring(x)[1]


def enough_steps(steps: int | None) -> None:
    """Exercise 05.1: the smallest number of steps at which 95 % of the points land on a cloud."""
    if steps is None:
        raise AssertionError("enough steps: write your number first")
    if ring_share(steps) < 0.945:
        raise AssertionError(
            f"enough steps: after {steps} only {ring_share(steps):.0%} are on a cloud"
        )
    if steps > 1 and ring_share(steps - 2) > 0.955:
        raise AssertionError(f"enough steps: fewer than {steps} do as well")
    print("✓ enough steps")


_HANDED_IN = {"A": "copies", "B": "blurs", "C": "honest", "D": "one kind"}


def four_models(train_x: Tensor, real: Tensor) -> dict[str, Tensor]:
    """Exercise 05.2: what four models hand in, 200 pictures each, (200, 3, 16, 16), by name.

    train_x (N, 3, 16, 16) are training pictures, real (M, 3, 16, 16) others; kind k of 20 stands at every place
    k modulo 20, so that its place is k modulo 4.
    """
    g = torch.Generator().manual_seed(5)

    def some(n: int) -> Tensor:
        return torch.randint(n, (200,), generator=g)

    def grain(x: Tensor) -> Tensor:
        noise: Tensor = 0.03 * torch.randn(x.shape, generator=g)
        return x.cpu() + noise

    x, other = train_x.cpu(), real.cpu()
    blurs = torch.stack([x[k::4].mean(0) for k in range(4)])
    pictures = {
        "A": x[some(len(x))],
        "B": blurs[some(4)],
        "C": other[some(len(other))],
        "D": other[7::20][some(len(other[7::20]))],
    }
    return {name: grain(z).to(train_x.device) for name, z in pictures.items()}


def who_is_honest(answers: dict[str, str | None]) -> None:
    """Exercise 05.2: what each of the four models does."""
    diagnosed(
        "the four models",
        answers,
        _HANDED_IN,
        missing="say what {who} does first",
        wrong="a measurement of {who} says otherwise than {answer}",
    )
