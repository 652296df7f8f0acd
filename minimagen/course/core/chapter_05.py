"""Chapter 05: why not a GAN. These two stay in their notebook: the finished system has no GAN."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from .base import Core


def generator_loss(generated_logits):
    """What the generator lowers (Goodfellow et al. 2014, section 3): −log sigmoid(D(G(z))), a mean: one number.

    generated_logits, of any shape: the discriminator's answers D(G(z)) to generated pictures, not pictures.
    They are logits: positive for "real". softplus(a) = log(1 + eᵃ), so −log sigmoid(D) = softplus(−D).
    """
    return F.softplus(-generated_logits).mean()


def discriminator_loss(real_logits, generated_logits):
    """What the discriminator lowers (Goodfellow et al. 2014, eq. 1): it should say "real" to real pictures alone.

    −log sigmoid(D) for real pictures, −log(1 − sigmoid(D)) for generated ones, the mean of each, added: one number.
    real_logits, generated_logits, each of any shape: its answers D to the two kinds, logits, positive for "real".
    """
    return F.softplus(-real_logits).mean() + F.softplus(generated_logits).mean()


def _entropy(answers, truth):
    return F.binary_cross_entropy_with_logits(
        answers.double(), torch.full_like(answers, truth).double()
    )


def _cases(d):
    return [
        (3 * d.normal(d.size(4, 9), 1), 3 * d.normal(d.size(10, 16), 1)),
        (3 * d.normal(d.size(3, 9)),) * 2,
    ]


CORE = (
    Core(
        5,
        generator_loss,
        hints=(
            "It wants D to say “real” to its pictures: the loss must fall where D rises.",
            "<code>F.softplus(-generated_logits)</code> is −log sigmoid(D) of every picture. One number is asked for.",
        ),
        cases=lambda d: [(made,) for _, made in _cases(d)],
        oracle=lambda made: _entropy(made, 1.0),
        is_loss=True,
        mistakes={
            "this is the saturating game: it is flat just where the generator is bad":
                lambda made: -F.softplus(made).mean(),
            "the sign is turned round: this teaches the generator to be found out": lambda made: F.softplus(made).mean(),
            "the answers are added up: take their mean": lambda made: F.softplus(-made).sum(),
            "one number is asked for: the mean is missing": lambda made: F.softplus(-made),
            "this is sigmoid without its logarithm": lambda made: -torch.sigmoid(made).mean(),
        },
        in_file=False,
    ),
    Core(
        5,
        discriminator_loss,
        hints=(
            "Two terms, one for each kind of picture. 1 − sigmoid(D) = sigmoid(−D).",
            "<code>F.softplus(-real_logits).mean()</code> is the first; for the second, turn the sign.",
        ),
        cases=_cases,
        oracle=lambda real, made: _entropy(real, 1.0) + _entropy(made, 0.0),
        is_loss=True,
        mistakes={
            "real and generated are swapped": lambda r, m: F.softplus(r).mean() + F.softplus(-m).mean(),
            "generated pictures are called real, too": lambda r, m: F.softplus(-r).mean() + F.softplus(-m).mean(),
            "the term of the real pictures is missing": lambda r, m: F.softplus(m).mean(),
            "the term of the generated pictures is missing": lambda r, m: F.softplus(-r).mean(),
            "the second term has the wrong sign: it is lowered too":
                lambda r, m: F.softplus(-r).mean() - F.softplus(m).mean(),
            "it is half of what is asked for: the two means are added": lambda r, m: (
                F.softplus(-r).mean() + F.softplus(m).mean()) / 2,
        },
        in_file=False,
    ),
)  # fmt: skip
