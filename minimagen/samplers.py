"""Three samplers: one loop over the times and one pure step function each (Imagen, appendix A, eq. 5 and 6).

A sampler takes denoise(x_t, log_snr) → x̂_0, which hides the network, the text, guidance and thresholding,
starts at x (B, C, H, W), which is noise, and goes through the times `t`, (steps + 1,), from 1 down to 0.
callback(i, x_s, x̂_0) is called after step i. Step functions go from time t to an earlier time s < t; the
last one goes to λ_s = ∞, where α_s = 1 and σ_s = 0: to x̂_0 itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from .diffusion import Schedule, alpha_sigma, append_dims, to_eps

Denoise = Callable[[Tensor, Tensor], Tensor]  # x_t (B, C, H, W), log_snr (B,) → x̂_0 (B, C, H, W)
Step = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]  # x_t, x̂_0, λ_t, λ_s → x_s
Callback = Callable[[int, Tensor, Tensor], object]  # step, x_s, x̂_0
NoiseSampler = Callable[[Tensor], Tensor]  # standard normal noise of the shape of its argument


def times(steps: int) -> Tensor:
    """steps + 1 times from 1 (pure noise) down to 0, evenly spaced, float64. Raises ValueError for steps < 1."""
    if steps < 1:
        raise ValueError(f"sampling needs at least one step, not {steps}")
    return torch.linspace(1, 0, steps + 1, dtype=torch.float64)


def sample_loop(
    step: Step,
    denoise: Denoise,
    x: Tensor,
    schedule: Schedule,
    t: Tensor,
    callback: Callback | None = None,
) -> Tensor:
    """Denoise and step from each time to the next; returns the last x, (B, C, H, W)."""
    # log-SNR (B,) at each time, from the schedule in float64; the last step lands on the clean image
    levels = schedule(t).to(x.dtype)  # on the CPU: not every device has float64
    log_snrs = [value.expand(len(x)) for value in levels.to(x.device)]
    log_snrs[-1] = torch.full_like(log_snrs[-1], math.inf)
    for i, (log_snr_t, log_snr_s) in enumerate(pairwise(log_snrs)):
        x_0 = denoise(x, log_snr_t)
        x = step(x, x_0, log_snr_t, log_snr_s)
        if callback is not None:
            callback(i, x, x_0)
    return x


def ddpm_step(
    x_t: Tensor, x_0: Tensor, log_snr_t: Tensor, log_snr_s: Tensor, noise: Tensor
) -> Tensor:
    """Draw x_s from q(x_s | x_t, x̂_0) (Imagen eq. 6 with γ = 0; Ho et al. 2020, algorithm 2).

    With c = 1 − e^(λ_t − λ_s): mean = (1 − c) α_s/α_t x_t + c α_s x̂_0, variance = c σ_s².
    """
    alpha_t, _ = alpha_sigma(append_dims(log_snr_t, x_t))
    alpha_s, sigma_s = alpha_sigma(append_dims(log_snr_s, x_t))
    c = -torch.expm1(append_dims(log_snr_t - log_snr_s, x_t))
    mean = (1 - c) * alpha_s / alpha_t * x_t + c * alpha_s * x_0
    return mean + c.sqrt() * sigma_s * noise


def ddim_step(x_t: Tensor, x_0: Tensor, log_snr_t: Tensor, log_snr_s: Tensor) -> Tensor:
    """x_s = α_s x̂_0 + σ_s ε̂ with the noise that x̂_0 implies, η = 0 (Imagen eq. 5; Song et al. 2021, eq. 12)."""
    alpha_s, sigma_s = alpha_sigma(append_dims(log_snr_s, x_t))
    return alpha_s * x_0 + sigma_s * to_eps(x_t, x_0, log_snr_t)


def dpm_solver_step(
    x_t: Tensor,
    x_0: Tensor,
    log_snr_t: Tensor,
    log_snr_s: Tensor,
    last: tuple[Tensor, Tensor] | None,
) -> Tensor:
    """DPM-Solver++(2M) (Lu et al. 2022, algorithm 2): x̂_0 is extrapolated from this step and the one before.

    With λ = log_snr/2 and h = λ_s − λ_t: x_s = σ_s/σ_t x_t − α_s (e^{−h} − 1) D. last: x̂_0 and log-SNR of the
    step before. Without it, and where λ_s → ∞, the step is of first order, D = x̂_0.
    """
    alpha_s, sigma_s = alpha_sigma(append_dims(log_snr_s, x_t))
    _, sigma_t = alpha_sigma(append_dims(log_snr_t, x_t))
    h = append_dims(log_snr_s - log_snr_t, x_t) / 2
    d = x_0
    if last is not None:
        h_last = append_dims(log_snr_t - last[1], x_t) / 2
        d = torch.where(h.isinf(), x_0, x_0 + (x_0 - last[0]) * h / (2 * h_last))
    return sigma_s / sigma_t * x_t - alpha_s * torch.expm1(-h) * d


def ddpm(
    denoise: Denoise,
    x: Tensor,
    schedule: Schedule,
    t: Tensor,
    noise_sampler: NoiseSampler = torch.randn_like,
    callback: Callback | None = None,
) -> Tensor:
    """Ancestral sampling: `ddpm_step`, with new noise from noise_sampler at every step but the last."""
    steps_left = len(t) - 1

    def step(x_t: Tensor, x_0: Tensor, log_snr_t: Tensor, log_snr_s: Tensor) -> Tensor:
        nonlocal steps_left
        steps_left -= 1
        noise = noise_sampler(x_t) if steps_left else torch.zeros_like(x_t)
        return ddpm_step(x_t, x_0, log_snr_t, log_snr_s, noise)

    return sample_loop(step, denoise, x, schedule, t, callback)


def ddim(
    denoise: Denoise, x: Tensor, schedule: Schedule, t: Tensor, callback: Callback | None = None
) -> Tensor:
    """DDIM: `ddim_step`, which is deterministic."""
    return sample_loop(ddim_step, denoise, x, schedule, t, callback)


def dpm_solver(
    denoise: Denoise, x: Tensor, schedule: Schedule, t: Tensor, callback: Callback | None = None
) -> Tensor:
    """DPM-Solver++(2M): `dpm_solver_step`, which is deterministic and remembers the step before."""
    last: tuple[Tensor, Tensor] | None = None

    def step(x_t: Tensor, x_0: Tensor, log_snr_t: Tensor, log_snr_s: Tensor) -> Tensor:
        nonlocal last
        x_s = dpm_solver_step(x_t, x_0, log_snr_t, log_snr_s, last)
        last = x_0, log_snr_t
        return x_s

    return sample_loop(step, denoise, x, schedule, t, callback)


SAMPLERS: dict[str, Callable[..., Tensor]] = {"ddpm": ddpm, "ddim": ddim, "dpm_solver": dpm_solver}
