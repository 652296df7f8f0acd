"""Chapter 04: how few steps are enough. During sampling all pictures share a time: a log-SNR is one number, ()."""

from __future__ import annotations

import torch

from .base import Core
from .given import alpha_sigma


def ddpm_step(x_t, x_0, log_snr, next_log_snr, noise):
    """One ancestral step (Ho et al. 2020, algorithm 2; Imagen eq. 6 with γ = 0): x_s from q(x_s | x_t, x̂_0).

    x_t, the network's guess x_0, noise from N(0, I), and the result: (B, C, H, W). log_snr () at t, next_log_snr
    () at s. With c = 1 − exp(log_snr − next_log_snr): mean (1 − c) α_s/α_t x_t + c α_s x_0, variance c σ_s².
    """
    (alpha_t, _), (alpha_s, sigma_s) = alpha_sigma(log_snr), alpha_sigma(next_log_snr)
    c = -torch.expm1(log_snr - next_log_snr)  # 1 − e^…, exact for small steps too
    mean = (1 - c) * alpha_s / alpha_t * x_t + c * alpha_s * x_0
    return mean + c.sqrt() * sigma_s * noise


def ddim_step(x_t, x_0, log_snr, next_log_snr):
    """One DDIM step (Song et al. 2021, eq. 12 with σ = 0; Imagen eq. 5): keep the noise that x̂_0 implies.

    x_t, the network's guess x_0, and the result (B, C, H, W). log_snr () at t, next_log_snr () at s.
    ε̂ = (x_t − α_t x_0) / σ_t, then x_s = α_s x_0 + σ_s ε̂.
    """
    (alpha_t, sigma_t), (alpha_s, sigma_s) = alpha_sigma(log_snr), alpha_sigma(next_log_snr)
    eps = (x_t - alpha_t * x_0) / sigma_t
    return alpha_s * x_0 + sigma_s * eps


def sample_loop(denoise, x, log_snrs, step):
    """From noise x (B, C, H, W) to a picture, along log_snrs (N + 1,), from pure noise to a clean picture.

    denoise(x_t, log_snr (B,)) gives x̂_0; step(x_t, x̂_0, log_snr (), next_log_snr (), last) gives x_s, where last
    is None at first, then the pair (x̂_0, log_snr) of the step before. denoise is called N times, at log_snrs[0] to
    log_snrs[N − 1]; its N-th answer is the picture, so step is called N − 1 times. Returns it, (B, C, H, W).
    """
    last = None
    for i in range(len(log_snrs) - 1):
        now, then = log_snrs[i], log_snrs[i + 1]
        x_0 = denoise(x, now.expand(len(x)))
        if i == len(log_snrs) - 2:
            return x_0
        x = step(x, x_0, now, then, last)
        last = x_0, now


def dpm_solver_step(x_t, x_0, log_snr, next_log_snr, last=None):
    """One step of DPM-Solver++(2M) (Lu et al. 2022, algorithm 2): DDIM with a guess that looks ahead.

    λ = log_snr / 2, h = λ_s − λ_t. last: None in the first step, else the pair (x̂_0, log_snr ()) of the step
    before, whose width was h' = λ_t − λ_before (λ_before half of that log_snr). The guess goes on along its line by
    half a step: D = x_0 + (x_0 − x̂_before) · h / (2 h'); D = x_0 in the first step.
    x_s = σ_s/σ_t x_t − α_s (e^−h − 1) D.
    """
    _, sigma_t = alpha_sigma(log_snr)
    alpha_s, sigma_s = alpha_sigma(next_log_snr)
    h = (next_log_snr - log_snr) / 2
    d = x_0
    if last is not None:
        last_x_0, last_log_snr = last
        d = x_0 + (x_0 - last_x_0) * h / (log_snr - last_log_snr)
    return sigma_s / sigma_t * x_t - alpha_s * torch.expm1(-h) * d


def _bayes(x_t, x_0, log_snr, next_log_snr, noise):
    """The same from Bayes' rule: x_s is near α_s x_0, and a known step of noise away from x_t; precisions add up."""
    (a_t, s_t), (a_s, s_s) = alpha_sigma(log_snr.double()), alpha_sigma(next_log_snr.double())
    forward, between = a_t / a_s, s_t**2 - (a_t / a_s * s_s) ** 2
    precision = 1 / s_s**2 + forward**2 / between
    mean = (a_s * x_0 / s_s**2 + forward * x_t / between) / precision
    return mean + noise / precision.sqrt()


def _along(x_t, x_0, log_snr, next_log_snr):
    """The exact path while x̂_0 stays: what is not α x_0 shrinks as σ does."""
    (a_t, s_t), (a_s, s_s) = alpha_sigma(log_snr.double()), alpha_sigma(next_log_snr.double())
    return s_s / s_t * x_t + (a_s - a_t * s_s / s_t) * x_0


def _ahead(x_t, x_0, log_snr, next_log_snr, last=None):
    """DDIM towards the point on the line through both guesses, half a step ahead in λ."""
    if last is not None:
        then, before = next_log_snr.double() / 2, last[1].double() / 2
        now = log_snr.double() / 2
        x_0 = torch.lerp(
            last[0].double(), x_0.double(), ((now + then) / 2 - before) / (now - before)
        )
    return _along(x_t, x_0, log_snr, next_log_snr)


def _levels(log_snr, next_log_snr):
    return (*alpha_sigma(log_snr), *alpha_sigma(next_log_snr))


def _ddpm_with(formula):
    """formula(x_t, x_0, noise, c, α_t, σ_t, α_s, σ_s)"""

    def step(x_t, x_0, log_snr, next_log_snr, noise):
        c = 1 - torch.exp(log_snr - next_log_snr)
        return formula(x_t, x_0, noise, c, *_levels(log_snr, next_log_snr))

    return step


def _ddim_with(formula):
    def step(x_t, x_0, log_snr, next_log_snr):
        return formula(x_t, x_0, *_levels(log_snr, next_log_snr))

    return step


def _dpm_with(ahead=lambda h, before: h / (2 * before), width=0.5, sign=1):
    def step(x_t, x_0, log_snr, next_log_snr, last=None):
        _, s_t, a_s, s_s = _levels(log_snr, next_log_snr)
        h, d = (next_log_snr - log_snr) * width, x_0
        if last is not None:
            d = x_0 + (x_0 - last[0]) * ahead(h, (log_snr - last[1]) * width)
        return s_s / s_t * x_t - sign * a_s * torch.expm1(-h) * d

    return step


def _times(d):
    """Two log-SNRs of a step towards the picture."""
    low = d.uniform(-3, 1, 1)[0]
    return low, low + d.uniform(0.5, 2, 1)[0]


def _shape(d):
    n = d.size(3, 6)
    return d.size(2, 4), 3, n, n + 1


def _cases_of_dpm(d):
    made = []
    for first in (True, False, False):
        shape, (now, then) = _shape(d), _times(d)
        last = None if first else (d.picture(*shape), now - d.uniform(0.3, 1.5, 1)[0])
        made.append((d.normal(*shape), d.picture(*shape), now, then, last))
    return made


def _denoiser(d):
    a, b = d.uniform(0.3, 0.9, 1), d.uniform(0.3, 0.9, 1)

    def denoise(x_t, log_snr):
        if tuple(log_snr.shape) != (len(x_t),):
            raise ValueError("denoise wants one log-SNR a picture, (B,): log_snr.expand(len(x))")
        return torch.tanh(a * x_t + b * log_snr.reshape(-1, 1, 1, 1))

    return denoise


def _stepper(d):
    w = d.uniform(0.3, 0.9, 3)

    def step(x_t, x_0, log_snr, next_log_snr, last):
        x = w[0] * x_t + w[1] * x_0 + 0.1 * torch.sin(3 * log_snr + next_log_snr)
        return x if last is None else x + w[2] * last[0] * torch.cos(last[1])

    return step


def _cases_of_loop(d):
    made = []
    for N in (d.size(3, 6), d.size(3, 6), 1):
        made.append((_denoiser(d), d.normal(*_shape(d)), torch.linspace(-5, 5, N + 1) + d.uniform(0, 1, 1),
                     _stepper(d)))  # fmt: skip
    return made


def _recursion(denoise, x, log_snrs, step, last=None):
    x_0 = denoise(x, log_snrs[0].repeat(len(x)))
    if len(log_snrs) == 2:
        return x_0
    onward = step(x, x_0, log_snrs[0], log_snrs[1], last)
    return _recursion(denoise, onward, log_snrs[1:], step, (x_0, log_snrs[0]))


def _loop_with(
    lands=True, remembers=lambda x, x_0, now, then: (x_0, now), turn=False, end="x_0", into="x"
):
    def loop(denoise, x, log_snrs, step):
        last = None
        levels = log_snrs.flip(0) if turn else log_snrs
        start = x
        for now, then in zip(levels[:-1], levels[1:], strict=True):
            x_0 = denoise(start if into == "start" else x, now.expand(len(x)))
            before, x = x, step(x, x_0, now, then, last)
            last = remembers(before, x_0, now, then)
        return x_0 if lands else x

    return loop


def _one_short(denoise, x, log_snrs, step):
    return _recursion(denoise, x, log_snrs[:-1] if len(log_snrs) > 2 else log_snrs, step)


CORE = (
    Core(
        4,
        ddpm_step,
        hints=(
            "Three lines: α and σ at both times; c; the mean. What is multiplied with the noise is the root of "
            "the variance.",
            "<code>c = 1 - torch.exp(log_snr - next_log_snr)</code>, and the last term is "
            "<code>c.sqrt() * sigma_s * noise</code>.",
        ),
        cases=lambda d: [
            (d.normal(*s), d.picture(*s), *_times(d), d.normal(*s)) for s in (_shape(d), _shape(d))
        ],
        oracle=_bayes,
        mistakes={
            "the noise is multiplied by the variance: take its root": _ddpm_with(
                lambda x, x_0, z, c, at, st, a, s: (1 - c) * a / at * x + c * a * x_0 + c * s**2 * z),
            "no noise was added": _ddpm_with(
                lambda x, x_0, z, c, at, st, a, s: (1 - c) * a / at * x + c * a * x_0),
            "the noise has σ_s alone: only the part c of its variance is new": _ddpm_with(
                lambda x, x_0, z, c, at, st, a, s: (1 - c) * a / at * x + c * a * x_0 + s * z),
            "the noise has the σ of t: it must have that of s, where the step arrives": _ddpm_with(
                lambda x, x_0, z, c, at, st, a, s: (1 - c) * a / at * x + c * a * x_0 + c.sqrt() * st * z),
            "x_t must be taken from α_t to α_s: α_s/α_t is missing": _ddpm_with(
                lambda x, x_0, z, c, at, st, a, s: (1 - c) * x + c * a * x_0 + c.sqrt() * s * z),
            "c and 1 − c are swapped": _ddpm_with(
                lambda x, x_0, z, c, at, st, a, s: c * a / at * x + (1 - c) * a * x_0 + c.sqrt() * s * z),
            "α_s is missing before x_0": _ddpm_with(
                lambda x, x_0, z, c, at, st, a, s: (1 - c) * a / at * x + c * x_0 + c.sqrt() * s * z),
        },
    ),
    Core(
        4,
        ddim_step,
        hints=(
            "x_t = α_t x_0 + σ_t ε: which ε belongs to this x_t and this x_0?",
            "<code>eps = (x_t - alpha_t * x_0) / sigma_t</code>. Mix x_0 and this eps again, with the α and σ of s.",
        ),
        cases=lambda d: [(d.normal(*s), d.picture(*s), *_times(d)) for s in (_shape(d), _shape(d))],
        oracle=_along,
        mistakes={
            "the noise is mixed in with σ_t: it must be the σ of s, where the step arrives": _ddim_with(
                lambda x, x_0, at, st, a, s: a * x_0 + st * (x - at * x_0) / st),
            "x_0 is mixed in with α_t: it must be the α of s": _ddim_with(
                lambda x, x_0, at, st, a, s: at * x_0 + s * (x - at * x_0) / st),
            "ε̂ is not divided by σ_t": _ddim_with(lambda x, x_0, at, st, a, s: a * x_0 + s * (x - at * x_0)),
            "ε̂ is not x_t: take α_t x_0 from it, and divide by σ_t": _ddim_with(
                lambda x, x_0, at, st, a, s: a * x_0 + s * x),
            "ε̂ = (x_t − α_t x_0) / σ_t: the α_t is missing": _ddim_with(
                lambda x, x_0, at, st, a, s: a * x_0 + s * (x - x_0) / st),
            "the two times are swapped": _ddim_with(
                lambda x, x_0, at, st, a, s: at * x_0 + st * (x - a * x_0) / s),
        },
    ),
    Core(
        4,
        sample_loop,
        hints=(
            "Go through pairs of neighbours in log_snrs. In each: guess, then step, then remember.",
            "<code>denoise(x, now.expand(len(x)))</code>; in the last round return x_0 before any step; else "
            "<code>x = step(x, x_0, now, then, last)</code> and then <code>last = x_0, now</code>.",
        ),
        cases=_cases_of_loop,
        oracle=_recursion,
        mistakes={
            "the last step must land on x̂_0 itself, without step()": _loop_with(lands=False),
            "`last` is always None: remember (x_0, now) after each step": _loop_with(
                remembers=lambda x, x_0, now, then: None),
            "`last` holds the log-SNR of the next time: it is the one at which x̂_0 was guessed": _loop_with(
                remembers=lambda x, x_0, now, then: (x_0, then)),
            "`last` holds x_t: it must hold the guess x̂_0": _loop_with(remembers=lambda x, x_0, now, then: (x, now)),
            "the walk goes the wrong way: log_snrs already begins with pure noise": _loop_with(turn=True),
            "one step is missing: N + 1 numbers make N steps": _one_short,
            "every guess is made from the first noise: x must go on": _loop_with(into="start"),
        },
        errors={"one log-SNR a picture": "denoise wants one log-SNR a picture, (B,): now.expand(len(x))"},
    ),
    Core(
        4,
        dpm_solver_step,
        hints=(
            "Write the first step first (D = x_0): it is DDIM in other letters. Then the case where last is a pair.",
            "The halves cancel in h / (2 h'): <code>d = x_0 + (x_0 - last_x_0) * h / (log_snr - last_log_snr)</code>, "
            "with <code>h = (next_log_snr - log_snr) / 2</code>; <code>torch.expm1(-h)</code> is e^−h − 1.",
        ),
        cases=_cases_of_dpm,
        oracle=_ahead,
        mistakes={
            "`last` is not used: this is DDIM": _dpm_with(ahead=lambda h, before: 0.0),
            "the guess goes a whole step ahead: h / (2 h') has a 2": _dpm_with(ahead=lambda h, before: h / before),
            "h and h' are swapped: a long step looks farther ahead": _dpm_with(
                ahead=lambda h, before: before / (2 * h)),
            "the two widths differ, and the ratio h / h' is missing": _dpm_with(ahead=lambda h, before: 0.5),
            "the guess looks back: x_0 − last x̂_0, not the other way round": _dpm_with(
                ahead=lambda h, before: -h / (2 * before)),
            "λ is half the log-SNR: h is twice too large": _dpm_with(width=1.0),
            "the sign before α_s is wrong: e^−h − 1 is negative": _dpm_with(sign=-1),
        },
    ),
)  # fmt: skip
