"""Exercises of chapter 04: sampling."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ...diffusion import alpha_sigma, cosine_log_snr
from ...samplers import ddim_step, ddpm_step, dpm_solver
from .basics import Exercise, diagnosed

__all__ = ["better_times", "keeping_some", "three_samplers", "who_samples_how"]

Last = tuple[Tensor, Tensor] | None


def _keeping(
    x_t: Tensor, x_0: Tensor, log_snr: Tensor, next_log_snr: Tensor, noise: Tensor, eta: float
) -> Tensor:
    (a_t, s_t), (a_s, s_s) = alpha_sigma(log_snr), alpha_sigma(next_log_snr)
    fresh = eta**2 * -torch.expm1(log_snr - next_log_snr)
    return a_s * x_0 + s_s * ((1 - fresh).sqrt() * (x_t - a_t * x_0) / s_t + fresh.sqrt() * noise)


def _keeping_with(
    share: Callable[[Tensor, float], Tensor], kept: bool = True
) -> Callable[..., Tensor]:
    def step(
        x: Tensor, x_0: Tensor, now: Tensor, then: Tensor, noise: Tensor, eta: float
    ) -> Tensor:
        (a_t, s_t), (a_s, s_s) = alpha_sigma(now), alpha_sigma(then)
        fresh = share(-torch.expm1(now - then), eta)
        old = (1 - fresh).sqrt() if kept else 1.0
        return a_s * x_0 + s_s * (old * (x - a_t * x_0) / s_t + fresh.sqrt() * noise)

    return step


def _inputs() -> tuple[Tensor | float, ...]:
    own = torch.Generator().manual_seed(int(torch.randint(2**31, (1,), generator=_fresh())))
    x_t, x_0, noise = torch.randn(3, 2, 3, 4, 4, generator=own)
    now = 4 * torch.rand((), generator=own) - 3
    return x_t, x_0, now, now + 0.5 + torch.rand((), generator=own), noise, 0.3


def _fresh() -> torch.Generator:
    made = torch.Generator()  # the notebook's own numbers stay as they are
    made.seed()
    return made


def keeping_some(step: Callable[..., Tensor] | None) -> None:
    """Exercise 04.1: step(x_t, x_0, log_snr, next_log_snr, noise, eta), between DDIM (0) and ancestral (1)."""
    Exercise(
        "between the two",
        _keeping,
        {
            "η multiplies the noise, so its square belongs to the variance": _keeping_with(lambda f, e: e * f),
            "what is kept must shrink as the fresh part grows: √(1 − η²f)": _keeping_with(
                lambda f, e: e**2 * f, kept=False),
            "that is DDIM for every η": _keeping_with(lambda f, e: 0 * f),
            "that is ancestral sampling for every η": _keeping_with(lambda f, e: f),
        },
        _inputs(),
    )(step)  # fmt: skip


def _no_root(x: Tensor, x_0: Tensor, now: Tensor, then: Tensor, last: Last) -> Tensor:
    none = torch.zeros_like(x)
    c, (_, sigma) = -torch.expm1(now - then), alpha_sigma(then)
    return ddpm_step(x, x_0, now, then, none) + c * sigma**2 * torch.randn_like(x)


def _same_noise() -> Callable[..., Tensor]:
    drawn: dict[torch.Size, Tensor] = {}

    def step(x: Tensor, x_0: Tensor, now: Tensor, then: Tensor, last: Last) -> Tensor:
        if last is None or x.shape not in drawn:
            drawn[x.shape] = torch.randn_like(x)
        return ddpm_step(x, x_0, now, then, drawn[x.shape].to(x))

    return step


def _too_far(x: Tensor, x_0: Tensor, now: Tensor, then: Tensor, last: Last) -> Tensor:
    if last is not None:
        x_0 = x_0 + (x_0 - last[0]) * (then - now) / (now - last[1])
    return ddim_step(x, x_0, now, then)


_WRONG = {  # 04.3: each is one step with one mistake
    "A": ("looks a whole step ahead", lambda: _too_far),
    "B": ("variance without its root", lambda: _no_root),
    "C": ("one noise for all steps", _same_noise),
}


def three_samplers() -> dict[str, Callable[..., Tensor]]:
    """Exercise 04.3: a step (x_t, x_0, log_snr, next_log_snr, last) with a mistake, for each of three samplers."""
    return {who: make() for who, (_, make) in _WRONG.items()}


def who_samples_how(answers: dict[str, str | None]) -> None:
    """Exercise 04.3: the mistake of each sampler."""
    diagnosed(
        "three samplers",
        answers,
        {who: mistake for who, (mistake, _) in _WRONG.items()},
        missing="name the mistake of {who} first",
        wrong="{answer} would not give {who}'s crowd",
    )


def _humps(x_t: Tensor, log_snr: Tensor) -> Tensor:
    """The ideal denoiser of the chapter's world: three humps on a line."""
    m, w, p = torch.tensor([[-1.0, 0.2, 1.0], [0.25, 0.15, 0.2], [0.3, 0.2, 0.5]]).to(x_t)
    alpha, sigma = (z[:, None] for z in alpha_sigma(log_snr))
    var, x = alpha**2 * w**2 + sigma**2, x_t.flatten(1)
    odds = (p.log() - var.log() / 2 - (x - alpha * m) ** 2 / (2 * var)).softmax(1)
    return (odds * (m + alpha * w**2 / var * (x - alpha * m))).sum(1).view_as(x_t)


def better_times(t: Tensor) -> None:
    """Exercise 04.2: 11 times for which ten steps make at most 2/3 of the error that even ones make."""
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
