"""Exercises of chapter 04: sampling."""

from __future__ import annotations

import torch
from torch import Tensor

from ...diffusion import alpha_sigma, cosine_log_snr
from ...samplers import dpm_solver
from .basics import Exercise

__all__ = ["error_at_32", "ddim_step", "extrapolated", "better_times"]

error_at_32 = Exercise(  # 1: answer() is the errors of DDIM and of DPM-Solver++ at 32 steps
    "the errors at 32 steps",
    lambda: torch.tensor([0.08 / 4, 0.04 / 16]),
    {
        "that is one doubling: from 8 to 32 there are two": lambda: torch.tensor([0.04, 0.01]),
        "that is first order for both": lambda: torch.tensor([0.02, 0.01]),
        "that is second order for both": lambda: torch.tensor([0.005, 0.0025]),
    },
    (),
)  # fmt: skip

ddim_step = Exercise(  # 2: answer(x_t, x_0, alpha_t, sigma_t, alpha_s, sigma_s) is x_s
    "a DDIM step",
    lambda x, x_0, a, s, b, r: b * x_0 + r * (x - a * x_0) / s,
    {
        "α_t is missing: the implied noise is (x_t − α_t x̂_0) / σ_t": lambda x, x_0, a, s, b, r: (
            b * x_0 + r * (x - x_0) / s
        ),
        "divide by σ_t: the noise has variance 1": lambda x, x_0, a, s, b, r: b * x_0 + r * (x - a * x_0),
        "the guess shrinks too, by α_s": lambda x, x_0, a, s, b, r: x_0 + r * (x - a * x_0) / s,
        "mix with the shares of the new time, s": lambda x, x_0, a, s, b, r: x,
        "you put x_t in where the implied noise belongs": lambda x, x_0, a, s, b, r: b * x_0 + r * x,
    },
    (torch.linspace(-1, 2, 7), torch.linspace(1, -1, 7), *torch.tensor([0.6, 0.8, 0.96, 0.28])),
)  # fmt: skip

extrapolated = Exercise(  # 3: answer(x_0, last, h, h_last) is D of DPM-Solver++(2M)
    "the guess of DPM-Solver++",
    lambda x, last, h, k: x + (x - last) * h / (2 * k),
    {
        "only half of the coming step: divide by 2": lambda x, last, h, k: x + (x - last) * h / k,
        "the two widths are the other way round": lambda x, last, h, k: x + (x - last) * k / (2 * h),
        "a sign: go on, not back": lambda x, last, h, k: x - (x - last) * h / (2 * k),
        "the steps have different widths: h / h_last is missing": lambda x, last, h, k: x + (x - last) / 2,
        "begin at the guess of now, not at the last": lambda x, last, h, k: last + (x - last) * h / (2 * k),
    },
    (torch.linspace(-1, 1, 5), torch.linspace(0, -1, 5), torch.tensor(0.9), torch.tensor(0.6)),
)  # fmt: skip


def _humps(x_t: Tensor, log_snr: Tensor) -> Tensor:
    """The ideal denoiser of the chapter's world: three humps on a line."""
    m, w, p = torch.tensor([[-1.0, 0.2, 1.0], [0.25, 0.15, 0.2], [0.3, 0.2, 0.5]]).to(x_t)
    alpha, sigma = (z[:, None] for z in alpha_sigma(log_snr))
    var, x = alpha**2 * w**2 + sigma**2, x_t.flatten(1)
    odds = (p.log() - var.log() / 2 - (x - alpha * m) ** 2 / (2 * var)).softmax(1)
    return (odds * (m + alpha * w**2 / var * (x - alpha * m))).sum(1).view_as(x_t)


def better_times(t: Tensor) -> None:
    """Exercise 04.4: 11 times for which ten steps make at most 2/3 of the error that even ones make."""
    title, t = "better times", torch.as_tensor(t).double().flatten()
    if len(t) != 11 or t[0] != 1 or t[-1] != 0:
        raise AssertionError(f"{title}: ten steps are 11 times, from 1 to 0")
    if (t.diff() >= 0).any():
        raise AssertionError(f"{title}: the times must fall")
    rank = (torch.arange(500, dtype=torch.float64) + 0.5) / 500
    x = torch.special.ndtri(rank).view(-1, 1, 1, 1)
    fine, even = (torch.linspace(1, 0, n, dtype=torch.float64) for n in (401, 11))
    exact, old, new = (dpm_solver(_humps, x, cosine_log_snr, z) for z in (fine, even, t))
    share = ((new - exact).abs().mean() / (old - exact).abs().mean()).item()
    if share > 2 / 3:
        raise AssertionError(
            f"{title}: {share:.2f} of the even error; where does the guess change most? Put steps there"
        )
    print(f"✓ {title}")
