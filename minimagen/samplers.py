"""From noise to a picture: three samplers as pure functions on one schedule.

Each takes denoise(x_t, log_snr) → x̂_0, which hides the network, the text, guidance and thresholding, and
walks through `times` from 1 to 0. All states are (B, C, H, W). callback(step, x_s, x̂_0)
sees every step: where it went, and the picture that it believed in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .diffusion import Schedule, alpha_sigma, append_dims, to_eps

Denoise = Callable[[Tensor, Tensor], Tensor]  # x_t (B, C, H, W), log_snr (B,) → x̂_0 (B, C, H, W)
Callback = Callable[[int, Tensor, Tensor], object]
NoiseSampler = Callable[[Tensor], Tensor]  # noise of the shape of its argument


def times(steps: int) -> Tensor:
    """steps + 1 times from 1, which is pure noise, down to 0, evenly spaced."""
    if steps < 1:
        raise ValueError(f"sampling needs at least one step, not {steps}")
    return torch.linspace(1, 0, steps + 1, dtype=torch.float64)


def _levels(x: Tensor, schedule: Schedule, t: Tensor) -> list[Tensor]:
    """The log-SNR at each time as (B,) in the picture's dtype, computed in float64."""
    levels = schedule(t).to(x.dtype)  # on the CPU: not every device has float64
    return [value.expand(len(x)) for value in levels.to(x.device)]


def ddpm(
    denoise: Denoise,
    x: Tensor,
    schedule: Schedule,
    t: Tensor,
    noise: NoiseSampler = torch.randn_like,
    callback: Callback | None = None,
) -> Tensor:
    """Ancestral sampling (Imagen eq. 6 with γ = 0; Ho et al. 2020, algorithm 2).

    Draws from q(x_s | x_t, x̂_0), s < t. With λ the log-SNR and c = 1 − e^(λ_t − λ_s):
    mean = (1 − c) α_s/α_t x_t + c α_s x̂_0, variance = c σ_s².
    """
    levels = _levels(x, schedule, t)
    for i, (now, then) in enumerate(zip(levels, levels[1:], strict=False)):
        x_0 = denoise(x, now)
        if i + 2 == len(levels):  # the last step adds no noise
            x = x_0
        else:
            alpha_t, _ = alpha_sigma(append_dims(now, x))
            alpha_s, sigma_s = alpha_sigma(append_dims(then, x))
            c = -torch.expm1(append_dims(now - then, x))
            mean = (1 - c) * alpha_s / alpha_t * x + c * alpha_s * x_0
            x = mean + c.sqrt() * sigma_s * noise(x)
        if callback is not None:
            callback(i, x, x_0)
    return x


def ddim(
    denoise: Denoise, x: Tensor, schedule: Schedule, t: Tensor, callback: Callback | None = None
) -> Tensor:
    """DDIM with η = 0 (Imagen eq. 5; Song et al. 2021, eq. 12): keep the noise that x̂_0 implies, no new noise."""
    levels = _levels(x, schedule, t)
    for i, (now, then) in enumerate(zip(levels, levels[1:], strict=False)):
        x_0 = denoise(x, now)
        eps = to_eps(x, x_0, now)
        alpha_s, sigma_s = alpha_sigma(append_dims(then, x))
        x = x_0 if i + 2 == len(levels) else alpha_s * x_0 + sigma_s * eps
        if callback is not None:
            callback(i, x, x_0)
    return x


def dpm_solver(
    denoise: Denoise, x: Tensor, schedule: Schedule, t: Tensor, callback: Callback | None = None
) -> Tensor:
    """DPM-Solver++(2M) (Lu et al. 2022, algorithm 2): x̂_0 is extrapolated from the last two steps.

    With λ = log_snr/2 and h = λ_s − λ_t: x_s = σ_s/σ_t x_t − α_s (e^{−h} − 1) D. The last step is of first
    order, as it lands on the clean picture, where λ has no end.
    """
    levels = _levels(x, schedule, t)
    last: tuple[Tensor, Tensor] | None = None  # x̂_0 and h of the step before
    for i, (now, then) in enumerate(zip(levels, levels[1:], strict=False)):
        x_0 = denoise(x, now)
        alpha_s, sigma_s = alpha_sigma(append_dims(then, x))
        _, sigma_t = alpha_sigma(append_dims(now, x))
        h = append_dims(then - now, x) / 2
        d = x_0
        if last is not None and i + 2 < len(levels):
            d = x_0 + (x_0 - last[0]) * h / (2 * last[1])
        x = x_0 if i + 2 == len(levels) else sigma_s / sigma_t * x - alpha_s * torch.expm1(-h) * d
        last = x_0, h
        if callback is not None:
            callback(i, x, x_0)
    return x


SAMPLERS: dict[str, Callable[..., Tensor]] = {"ddpm": ddpm, "ddim": ddim, "dpm_solver": dpm_solver}


def seeded_noise(seeds: Sequence[int], shape: Sequence[int], stream: int = 0) -> Tensor:
    """Noise (B, *shape) in which picture i depends on seeds[i] alone, not on its neighbours or the device.

    stream, 0 to 7: a seed has eight streams of numbers, so that no two noises of a picture are the same.
    """
    generator = torch.Generator()
    rows = [torch.randn(*shape, generator=generator.manual_seed(s * 8 + stream)) for s in seeds]
    return torch.stack(rows)
