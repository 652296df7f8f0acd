"""Forward diffusion in continuous time (Imagen, appendix A; Kingma et al. 2021, Variational Diffusion).

A picture x_0 becomes x_t = α_t x_0 + σ_t ε, with ε ~ N(0, I), t in [0, 1] and α_t² + σ_t² = 1.
Everything follows from one number a time: log_snr = log(α_t² / σ_t²). α_t² is called ᾱ_t elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

Schedule = Callable[[Tensor], Tensor]
TARGETS = ("eps", "x_0", "v")


def cosine_log_snr(t: Tensor) -> Tensor:
    """Cosine schedule (Nichol & Dhariwal 2021): α_t = cos(π t / 2), kept within ±12. t in [0, 1], any shape.

    Theirs begins a little later (s = 0.008), so that β is never too small; the bounds do that here.
    """
    low, high = math.atan(math.exp(-6)), math.atan(math.exp(6))
    return -2 * torch.log(torch.tan(low + t * (high - low)))


def linear_log_snr(t: Tensor) -> Tensor:
    """Linear schedule (Ho et al. 2020, β from 1e-4 to 0.02 over 1000 steps) in continuous time: ᾱ_t = exp(−∫β)."""
    return -torch.log(torch.expm1(1e-4 + 0.1 * t + 9.95 * t**2))


SCHEDULES: dict[str, Schedule] = {"cosine": cosine_log_snr, "linear": linear_log_snr}


def alpha_sigma(log_snr: Tensor) -> tuple[Tensor, Tensor]:
    """α_t and σ_t (same shape as log_snr): α² = sigmoid(log_snr), σ² = sigmoid(−log_snr)."""
    return torch.sigmoid(log_snr).sqrt(), torch.sigmoid(-log_snr).sqrt()


def append_dims(values: Tensor, like: Tensor) -> Tensor:
    """(B,) → (B, 1, 1, 1), so that one number a picture broadcasts over `like` (B, C, H, W)."""
    return values.reshape(-1, *[1] * (like.ndim - 1))


def q_sample(x_0: Tensor, log_snr: Tensor, eps: Tensor) -> Tensor:
    """x_t = α_t x_0 + σ_t ε: jump straight to time t (Imagen eq. 1's z_t). x_0, eps (B, C, H, W); log_snr (B,)."""
    alpha, sigma = alpha_sigma(append_dims(log_snr, x_0))
    return alpha * x_0 + sigma * eps  # (B, C, H, W)


def training_target(x_0: Tensor, eps: Tensor, log_snr: Tensor, target: str) -> Tensor:
    """What the network is asked for: ε, x_0, or v = α ε − σ x_0 (Salimans & Ho 2022). All (B, C, H, W)."""
    if target == "eps":
        return eps
    if target == "x_0":
        return x_0
    if target == "v":
        alpha, sigma = alpha_sigma(append_dims(log_snr, x_0))
        return alpha * eps - sigma * x_0
    raise ValueError(f"target must be one of {', '.join(TARGETS)}, not {target!r}")


def to_x_0(x_t: Tensor, output: Tensor, log_snr: Tensor, target: str) -> Tensor:
    """The picture that a network output implies. All (B, C, H, W); log_snr (B,)."""
    alpha, sigma = alpha_sigma(append_dims(log_snr, x_t))
    if target == "eps":
        return (x_t - sigma * output) / alpha
    if target == "x_0":
        return output
    if target == "v":
        return alpha * x_t - sigma * output
    raise ValueError(f"target must be one of {', '.join(TARGETS)}, not {target!r}")


def to_eps(x_t: Tensor, x_0: Tensor, log_snr: Tensor) -> Tensor:
    """The noise that a picture implies: ε = (x_t − α x_0) / σ. All (B, C, H, W); log_snr (B,)."""
    alpha, sigma = alpha_sigma(append_dims(log_snr, x_t))
    return (x_t - alpha * x_0) / sigma


def loss_weight(log_snr: Tensor, target: str, max_loss_weight: float | None) -> Tensor:
    """The weight of each picture's squared error, (B,).

    Plain MSE on each target is one loss on x_0 under another weight: SNR for ε, 1 for x_0, SNR + 1 = 1/σ²
    for v. With `max_loss_weight`, every target gets the weight min(SNR + 1, max_loss_weight) on x_0, that is
    v's, capped as in min-SNR (Hang et al. 2023). None: plain MSE on the target.
    """
    if max_loss_weight is None:
        return torch.ones_like(log_snr)
    snr = log_snr.exp()
    on_x_0 = {"eps": snr, "x_0": torch.ones_like(snr), "v": snr + 1}[target]
    return (snr + 1).clamp(max=max_loss_weight) / on_x_0


def diffusion_loss(
    network: Callable[[Tensor, Tensor], Tensor],
    x_0: Tensor,
    t: Tensor,
    eps: Tensor,
    schedule: Schedule,
    target: str = "v",
    max_loss_weight: float | None = None,
) -> Tensor:
    """Imagen eq. 1, E[w_t ‖network(x_t, log_snr) − target‖²], a mean over pixels: one number.

    x_0, eps (B, C, H, W); t (B,) in [0, 1].
    """
    log_snr = schedule(t)  # (B,)
    x_t = q_sample(x_0, log_snr, eps)
    error = (network(x_t, log_snr) - training_target(x_0, eps, log_snr, target)).square()
    return (error.mean(dim=(1, 2, 3)) * loss_weight(log_snr, target, max_loss_weight)).mean()
