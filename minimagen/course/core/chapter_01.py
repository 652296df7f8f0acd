"""Chapter 01: how a picture becomes noise."""

from __future__ import annotations

import torch

from .base import Core
from .given import alpha_sigma, append_dims


def markov_step(x, beta, eps):
    """One step of noise (Ho et al. 2020, eq. 2): x_t = √(1 − β) x_{t−1} + √β ε.

    x and eps have any shape, the same; beta () is the variance that this step adds. Returns x_t, as x.
    """
    return (1 - beta) ** 0.5 * x + beta**0.5 * eps


def alpha_bar(betas):
    """What is left of the picture's variance after each step: ᾱ_t = (1 − β_1)(1 − β_2) … (1 − β_t).

    betas (T,), the variance that each step adds. Returns ᾱ (T,), one number a step.
    """
    return (1 - betas).cumprod(dim=0)


def q_sample(x_0, log_snr, eps):
    """Jump to a time in one go (Imagen section 2.2): x_t = α_t x_0 + σ_t ε.

    x_0, eps (B, C, H, W); log_snr (B,), one number a picture. α_t and σ_t come from alpha_sigma(log_snr);
    append_dims(α, x_0) turns (B,) into (B, 1, 1, 1), so that it multiplies picture by picture.
    Returns x_t (B, C, H, W).
    """
    alpha, sigma = alpha_sigma(append_dims(log_snr, x_0))  # (B, 1, 1, 1)
    return alpha * x_0 + sigma * eps


def _by_angle(x, beta, eps):
    """The same step as a turn: √(1 − β) and √β are cosine and sine of one angle."""
    angle = torch.asin(beta.double() ** 0.5)
    return x * angle.cos() + eps * angle.sin()


def _jump_by_angle(x_0, log_snr, eps):
    angle = torch.atan(torch.exp(-log_snr.double() / 2)).reshape(-1, 1, 1, 1)
    return x_0 * angle.cos() + eps * angle.sin()


def _four(values):
    return values.reshape(-1, 1, 1, 1)


CORE = (
    Core(
        1,
        markov_step,
        hints=(
            "A variance of 1 must stay 1: shrink the picture by as much as the noise will add.",
            "Multiplying by a multiplies a variance by a². So the picture is multiplied by √(1 − β): "
            "<code>(1 - beta) ** 0.5 * x</code>. The noise needs its own root.",
        ),
        cases=lambda d: [
            (d.normal(3, n, n + 1), d.uniform(0.05, 0.6, 1)[0], d.normal(3, n, n + 1))
            for n in (d.size(4, 9), d.size(4, 9))
        ]
        + [(d.normal(n := d.size(50, 90)), d.uniform(0.05, 0.6, 1)[0], d.normal(n))],
        oracle=_by_angle,
        mistakes={
            "the noise is multiplied by β: it must be √β": lambda x, b, e: (1 - b) ** 0.5 * x + b * e,
            "β and 1 − β are there without their roots": lambda x, b, e: (1 - b) * x + b * e,
            "the picture must shrink too, by √(1 − β), or the variance grows with every step":
                lambda x, b, e: x + b**0.5 * e,
            "the picture is multiplied by 1 − β: it must be its root": lambda x, b, e: (1 - b) * x + b**0.5 * e,
            "the two roots are swapped: √β belongs to the noise": lambda x, b, e: b**0.5 * x + (1 - b) ** 0.5 * e,
        },
    ),
    Core(
        1,
        alpha_bar,
        hints=(
            "Each step leaves 1 − β of what was left before: shares multiply.",
            "<code>torch.cumprod</code> multiplies as it goes: its element t is the product of the first t.",
        ),
        cases=lambda d: [(d.uniform(1e-3, 0.2, d.size(5, 40)),) for _ in range(3)],
        oracle=lambda betas: torch.log1p(-betas.double()).cumsum(0).exp(),
        mistakes={
            "you added the betas up: what is left multiplies": lambda b: 1 - b.cumsum(0),
            "this multiplies the betas: multiply what each step leaves, 1 − β": lambda b: b.cumprod(0),
            "this is √ᾱ, the factor of the picture: ᾱ is its square": lambda b: (1 - b).cumprod(0) ** 0.5,
            "this is what each step leaves by itself: multiply up to t": lambda b: 1 - b,
            "this is what is gone, 1 − ᾱ": lambda b: 1 - (1 - b).cumprod(0),
            "this is the last number alone: one for every step is asked for": lambda b: (1 - b).prod(),
        },
    ),
    Core(
        1,
        q_sample,
        hints=(
            "<code>alpha_sigma(log_snr)</code> gives two tensors of shape (B,). A picture has four axes.",
            "<code>append_dims(log_snr, x_0)</code> makes (B,) into (B, 1, 1, 1). Give that to "
            "<code>alpha_sigma</code>; then the equation is one line.",
        ),
        cases=lambda d: [
            (d.picture(B, 3, n, n + 2), d.uniform(-4, 4, B), d.normal(B, 3, n, n + 2))
            for B, n in ((d.size(2, 5), d.size(6, 9)), (d.size(2, 5), d.size(6, 9)), (1, 7))
        ],
        oracle=_jump_by_angle,
        mistakes={
            "α² and σ² are the variances: the picture and the noise are multiplied by α and σ":
                lambda x, snr, e: _four(snr.sigmoid()) * x + _four((-snr).sigmoid()) * e,
            "α and σ are swapped: α belongs to the picture":
                lambda x, snr, e: _four(alpha_sigma(snr)[1]) * x + _four(alpha_sigma(snr)[0]) * e,
            "the noise is not multiplied by σ": lambda x, snr, e: _four(alpha_sigma(snr)[0]) * x + e,
            "σ is not 1 − α: their squares add up to one":
                lambda x, snr, e: _four(alpha_sigma(snr)[0]) * x + _four(1 - alpha_sigma(snr)[0]) * e,
            "every picture got the noise of the first: log_snr has one number a picture":
                lambda x, snr, e: alpha_sigma(snr[0])[0] * x + alpha_sigma(snr[0])[1] * e,
        },
        errors={
            "size of tensor|must match|broadcast": "two shapes do not fit: log_snr (B,) has to become (B, 1, 1, 1) "
            "before it can be multiplied with pictures; append_dims does that",
        },
    ),
)  # fmt: skip
