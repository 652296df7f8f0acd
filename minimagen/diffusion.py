"""Forward diffusion in continuous time (Imagen, appendix A; Kingma et al. 2021, Variational Diffusion Models).

An image x_0 becomes x_t = α_t x_0 + σ_t ε, with ε ~ N(0, I), t in [0, 1] and α_t² + σ_t² = 1.
The noise level is written as log_snr = λ_t = log(α_t² / σ_t²). α_t² is ᾱ_t in Ho et al. 2020.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

Schedule = Callable[[Tensor], Tensor]
TARGETS = ("eps", "x_0", "v")


def cosine_log_snr(t: Tensor) -> Tensor:
    """Cosine schedule (Nichol & Dhariwal 2021), α_t = cos(π t / 2): log-SNR in [−12, 12], t in [0, 1] of any shape.

    They shift the schedule by s = 0.008 to keep β_t away from 0 near t = 0; the bounds ±12 do that here.
    """
    low, high = math.atan(math.exp(-6)), math.atan(math.exp(6))
    return -2 * torch.log(torch.tan(low + t * (high - low)))


def linear_log_snr(t: Tensor) -> Tensor:
    """Linear schedule (Ho et al. 2020): log-SNR for t in [0, 1], any shape.

    β rises from 1e-4 to 0.02 over 1000 steps; in continuous time ᾱ_t = exp(−∫β).
    """
    return -torch.log(torch.expm1(1e-4 + 0.1 * t + 9.95 * t**2))


SCHEDULES: dict[str, Schedule] = {"cosine": cosine_log_snr, "linear": linear_log_snr}


def alpha_sigma(log_snr: Tensor) -> tuple[Tensor, Tensor]:
    """α_t and σ_t, of the shape of log_snr: α² = sigmoid(log_snr), σ² = sigmoid(−log_snr)."""
    return torch.sigmoid(log_snr).sqrt(), torch.sigmoid(-log_snr).sqrt()


def append_dims(values: Tensor, like: Tensor) -> Tensor:
    """(B,) → (B, 1, 1, 1): one number an image, to broadcast over `like` (B, C, H, W)."""
    return values.reshape(-1, *[1] * (like.ndim - 1))


def q_sample(x_0: Tensor, log_snr: Tensor, eps: Tensor) -> Tensor:
    """Sample q(x_t | x_0): x_t = α_t x_0 + σ_t ε (Imagen section 2.1; its z_t).

    x_0, eps and the result (B, C, H, W); log_snr (B,).
    """
    alpha, sigma = alpha_sigma(append_dims(log_snr, x_0))
    return alpha * x_0 + sigma * eps  # (B, C, H, W)


def training_target(x_0: Tensor, eps: Tensor, log_snr: Tensor, target: str) -> Tensor:
    """What the network is trained to predict: ε, x_0, or v = α ε − σ x_0 (Salimans & Ho 2022).

    x_0, eps and the result (B, C, H, W); log_snr (B,); target one of TARGETS. Raises ValueError for another.
    """
    if target == "eps":
        return eps
    if target == "x_0":
        return x_0
    if target == "v":
        alpha, sigma = alpha_sigma(append_dims(log_snr, x_0))
        return alpha * eps - sigma * x_0
    raise ValueError(f"target must be one of {', '.join(TARGETS)}, not {target!r}")


def to_x_0(x_t: Tensor, output: Tensor, log_snr: Tensor, target: str) -> Tensor:
    """x̂_0, the estimate of the image that a network's output implies.

    x_t, output and the result (B, C, H, W); log_snr (B,); target one of TARGETS. Raises ValueError for another.
    """
    alpha, sigma = alpha_sigma(append_dims(log_snr, x_t))
    if target == "eps":
        return (x_t - sigma * output) / alpha
    if target == "x_0":
        return output
    if target == "v":
        return alpha * x_t - sigma * output
    raise ValueError(f"target must be one of {', '.join(TARGETS)}, not {target!r}")


def to_eps(x_t: Tensor, x_0: Tensor, log_snr: Tensor) -> Tensor:
    """The noise that an image implies: ε = (x_t − α x_0) / σ. All (B, C, H, W); log_snr (B,)."""
    alpha, sigma = alpha_sigma(append_dims(log_snr, x_t))
    return (x_t - alpha * x_0) / sigma


def loss_weight(log_snr: Tensor, target: str, max_loss_weight: float | None) -> Tensor:
    """The weight w_t of each image's squared error on the target, (B,) for log_snr (B,).

    An error of x̂_0 appears in the target multiplied by SNR for ε, 1 for x_0 and SNR + 1 = 1/σ² for v. With
    max_loss_weight every target has the same weight on x_0, min(SNR + 1, max_loss_weight): that of v, capped
    as in min-SNR (Hang et al. 2023). None: plain MSE on the target, w_t = 1.
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
    """Imagen eq. 1, E[w_t ‖network(x_t, log_snr) − target‖²]: the mean over pixels and images, a scalar.

    x_0, eps (B, C, H, W); t (B,) in [0, 1]; network: (B, C, H, W), (B,) → (B, C, H, W).
    """
    log_snr = schedule(t)  # (B,)
    x_t = q_sample(x_0, log_snr, eps)
    error = (network(x_t, log_snr) - training_target(x_0, eps, log_snr, target)).square()
    return (error.mean(dim=(1, 2, 3)) * loss_weight(log_snr, target, max_loss_weight)).mean()
