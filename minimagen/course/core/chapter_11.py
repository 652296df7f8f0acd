"""Chapter 11: is it any good. These stay in their notebook."""

from __future__ import annotations

import math

import torch

from .base import Core


def wilson_interval(hits, n, z=1.96):
    """Wilson's interval of a share (Wilson 1927): which true shares p could well have given `hits` of n?

    Those with |hits/n − p| ≤ z √(p (1 − p)/n). At its two ends this is an equality, a quadratic equation in p;
    with p̂ = hits/n its solutions are (p̂ + z²/2n ± z √(p̂ (1 − p̂)/n + z²/4n²)) / (1 + z²/n).
    hits 0 … n, n ≥ 1; z = 1.96 is for 95 %. Returns (low, high).
    """
    p = hits / n
    middle = p + z**2 / (2 * n)
    half = z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    scale = 1 + z**2 / n
    return (middle - half) / scale, (middle + half) / scale


def alignment(answers):
    """Alignment (in place of Imagen's CLIP score, section 3): the share of pictures that show all that is asked.

    answers: one dict a picture: each attribute that its prompt names → does the judge read it there? A prompt that
    names nothing is met by any picture. At least one picture. Returns (share, low, high), the ends by
    `wilson_interval` (yours).
    """
    hits = sum(all(named.values()) for named in answers)
    return hits / len(answers), *wilson_interval(hits, len(answers))


def frechet_distance(a, b):
    """Fréchet distance of two sets of features, each taken for a Gaussian (Heusel et al. 2017, eq. 6).

    |μ_a − μ_b|² + tr(Σ_a + Σ_b − 2 (Σ_a Σ_b)^½). a (N, D), b (M, D), N, M ≥ 2. Returns a tensor ().
    The trace of (Σ_a Σ_b)^½ is the sum of the square roots of the eigenvalues of Σ_a Σ_b; these are real and ≥ 0
    but for rounding.
    """
    a, b = a.double(), b.double()
    cov_a, cov_b = torch.cov(a.T), torch.cov(b.T)  # (D, D)
    roots = torch.linalg.eigvals(cov_a @ cov_b).real.clamp(min=0).sqrt()
    return (a.mean(0) - b.mean(0)).square().sum() + cov_a.trace() + cov_b.trace() - 2 * roots.sum()


def nearest(pictures, known):
    """For each picture the most similar one of a set: by the root mean square difference of their values.

    pictures (B, C, H, W), known (N, C, H, W). Returns (distance, index), (B,) each; index says which of `known`.
    Mind the memory: (B, N, C, H, W) would be gigabytes; torch.cdist compares rows.
    """
    a, b = pictures.flatten(1), known.flatten(1)
    distance, index = torch.cdist(a, b).min(dim=1)
    return distance / a.shape[1] ** 0.5, index


def _answers(d):
    attributes = ("object", "number", "place", "style")

    def one():
        named = [a for a in attributes if d.size(0, 2)] or ["object"]
        return {a: bool(d.size(0, 3)) for a in named}

    return [([one() for _ in range(d.size(12, 30))],) for _ in range(3)] + [([{"place": False}],)]


def _gaussian(a, b, root):
    a, b = a.double(), b.double()
    return float(
        (a.mean(0) - b.mean(0)).square().sum()
        + torch.cov(a.T).trace()
        + torch.cov(b.T).trace()
        - 2 * root(a, b)
    )


def _root(a, b):
    """tr (Σ_a Σ_b)^½ by another way: (Σ_a^½ Σ_b Σ_a^½)^½ is symmetric, with the same eigenvalues."""
    e, v = torch.linalg.eigh(torch.cov(a.T))
    half = v @ e.clamp(min=0).sqrt().diag() @ v.T
    return torch.linalg.eigvalsh(half @ torch.cov(b.T) @ half).clamp(min=0).sqrt().sum()


def _in_double(value):
    """A tensor of whatever precision; anything else as it is."""
    return value.double() if isinstance(value, torch.Tensor) else value


def _features(d):
    found = []
    for _ in range(2):
        D = d.size(2, 5)
        N, M = d.sizes(20, 40, 2)
        mix = d.normal(D, D)
        found.append((d.normal(N, D) @ mix + 1, 2 * d.normal(M, D) + d.normal(D)))
    return found


def _pictures(d):
    found = []
    for _ in range(2):
        B, N, (H, W) = d.size(3, 5), d.size(20, 40), d.sizes(4, 8, 2)
        found.append((d.picture(B, 3, H, W), d.picture(N, 3, H, W)))
    return found


def _wilson_by_search(hits, n, z=1.96):
    """The ends by bisection of their definition."""
    ends = []
    for inside, outside in ((hits / n, 0.0), (hits / n, 1.0)):
        for _ in range(200):
            p = (inside + outside) / 2
            if abs(hits / n - p) <= z * math.sqrt(p * (1 - p) / n):
                inside = p
            else:
                outside = p
        ends.append(inside)
    return tuple(ends)


CORE = (
    Core(
        11,
        wilson_interval,
        hints=(
            "Four lines: p̂, the middle, the half width, the divisor. math.sqrt takes roots.",
            "<code>half = z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))</code>, and both ends are divided by "
            "<code>1 + z**2 / n</code>.",
        ),
        cases=lambda d: [
            (d.size(3, 17), 20, 1.96), (d.size(20, 80), d.size(90, 400), 1.96), (d.size(5, 20), 30, 2.58),
            (24, 24, 1.96), (0, d.size(5, 20), 1.96),
        ],
        oracle=_wilson_by_search,
        mistakes={
            "this is p̂ ± z √(p̂ (1 − p̂)/n): with 24 of 24 it has no width, though 24 pictures prove little":
                lambda h, n, z=1.96: (h / n - z * math.sqrt(h / n * (1 - h / n) / n),
                                      h / n + z * math.sqrt(h / n * (1 - h / n) / n)),
            "the division by 1 + z²/n is missing": lambda h, n, z=1.96: tuple(
                h / n + z**2 / (2 * n) + s * z * math.sqrt(h / n * (1 - h / n) / n + z**2 / (4 * n**2)) for s in (-1, 1)),
            "under the root it is z²/4n², with n squared": lambda h, n, z=1.96: tuple(
                (h / n + z**2 / (2 * n) + s * z * math.sqrt(h / n * (1 - h / n) / n + z**2 / (4 * n))) / (1 + z**2 / n)
                for s in (-1, 1)),
            "low comes first, then high": lambda h, n, z=1.96: wilson_interval(h, n, z)[::-1],
            "z is an argument: you have 1.96 in its place": lambda h, n, z=1.96: wilson_interval(h, n, 1.96),
        },
        in_file=False,
    ),
    Core(
        11,
        alignment,
        hints=(
            "A picture is a hit where all values of its dict are True. A bool counts as 0 or 1 in a sum.",
            "<code>hits = sum(all(named.values()) for named in answers)</code>; then the share, and wilson_interval(hits, "
            "len(answers)).",
        ),
        cases=_answers,
        oracle=lambda answers: (
            sum(False not in a.values() for a in answers) / len(answers),
            *_wilson_by_search(sum(False not in a.values() for a in answers), len(answers)),
        ),
        mistakes={
            "a picture counts only where ALL that was asked for is there: you count one that shows any of it": lambda answers: (
                sum(any(a.values()) for a in answers) / len(answers),
                *wilson_interval(sum(any(a.values()) for a in answers), len(answers))),
            "this is the share of attributes: the picture is the unit": lambda answers: (
                sum(v for a in answers for v in a.values()) / sum(map(len, answers)),
                *wilson_interval(sum(v for a in answers for v in a.values()), sum(map(len, answers)))),
            "the intervals are those of all attributes: n is the number of pictures": lambda answers: (
                sum(all(a.values()) for a in answers) / len(answers),
                *wilson_interval(sum(all(a.values()) for a in answers), sum(map(len, answers)))),
            "the interval comes last: return (share, low, high)": lambda answers: (
                *wilson_interval(sum(all(a.values()) for a in answers), len(answers)),
                sum(all(a.values()) for a in answers) / len(answers)),
        },
        uses=("wilson_interval",),
        in_file=False,
    ),
    Core(
        11,
        frechet_distance,
        hints=(
            "torch.cov wants features as rows, observations as columns: turn a with .T. Take .double(): the roots are "
            "sensitive.",
            "<code>torch.linalg.eigvals(cov_a @ cov_b).real.clamp(min=0).sqrt().sum()</code> is the trace of the root.",
        ),
        cases=_features,
        oracle=lambda a, b: _gaussian(a, b, lambda a, b: _root(a, b)),
        observe=lambda function, a, b: _in_double(function(a, b)),
        mistakes={
            "the root of each entry is no root of a matrix: take the eigenvalues": lambda a, b: _gaussian(
                a, b, lambda a, b: (torch.cov(a.T) @ torch.cov(b.T)).clamp(min=0).sqrt().trace()),
            "the root is missing: this is the trace of the product itself":
                lambda a, b: _gaussian(a, b, lambda a, b: (torch.cov(a.T) @ torch.cov(b.T)).trace()),
            "the term with the root is missing": lambda a, b: _gaussian(a, b, lambda a, b: torch.zeros(())),
            "the term with the root counts twice: − 2 tr(…)": lambda a, b: _gaussian(a, b, lambda a, b: _root(a, b) / 2),
            "the means are missing: two clouds in different places are not the same": lambda a, b: _gaussian(
                a, b, _root) - float((a.double().mean(0) - b.double().mean(0)).square().sum()),
            "the distance of the means is squared in the formula": lambda a, b: _gaussian(a, b, _root) - float(
                (a.double().mean(0) - b.double().mean(0)).square().sum()) + float((a.double().mean(0) - b.double().mean(0)).norm()),
        },
        errors={r"must be the same|must match|size mismatch|inconsistent":
                "a and b have different numbers of rows: covariances are (D, D), so turn the features with .T"},
        in_file=False,
    ),
    Core(
        11,
        nearest,
        hints=(
            "Flatten each picture to a row: (B, C·H·W) against (N, C·H·W). torch.cdist gives all distances, (B, N).",
            "<code>torch.cdist(a, b).min(dim=1)</code> gives values and indices. A root of a <i>mean</i> is asked for, "
            "and cdist has the root of a sum.",
        ),
        cases=_pictures,
        oracle=lambda pictures, known: (lambda far: (far.min(dim=1).values, far.min(dim=1).indices))(
            torch.stack([(p - known).square().mean(dim=(1, 2, 3)).sqrt() for p in pictures])),
        mistakes={
            "cdist has the root of a sum: divide by the root of how many values a picture has":
                lambda p, k: torch.cdist(p.flatten(1), k.flatten(1)).min(dim=1),
            "this is divided by the number of values, not by its root": lambda p, k: (
                torch.cdist(p.flatten(1), k.flatten(1)).min(dim=1).values / p[0].numel(),
                torch.cdist(p.flatten(1), k.flatten(1)).min(dim=1).indices),
            "this is the most different one": lambda p, k: (
                torch.cdist(p.flatten(1), k.flatten(1)).max(dim=1).values / p[0].numel() ** 0.5,
                torch.cdist(p.flatten(1), k.flatten(1)).max(dim=1).indices),
            "distance comes first, then index": lambda p, k: nearest(p, k)[::-1],
            "one answer for each picture, not for each of the known ones: the minimum is along the other axis":
                lambda p, k: nearest(k, p),
            "the root is missing: a root mean square is asked for": lambda p, k: (nearest(p, k)[0] ** 2, nearest(p, k)[1]),
        },
        in_file=False,
    ),
)  # fmt: skip
