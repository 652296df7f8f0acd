"""Chapter 14: where is it used, and what could go wrong. These stay in their notebook."""

from __future__ import annotations

import torch

from .base import Core


def effective_number(counts):
    """How many kinds there are as if each were equally frequent: e^H, H = −Σ p log p, the entropy (Jost 2006).

    counts (K,), how often each kind was seen, 0 or more, not all 0. Returns a number from 1 (always the same kind)
    to K (all alike), as a tensor (). A kind that was never seen adds nothing: p log p → 0 for p → 0.
    """
    p = counts / counts.sum()
    p = p[p > 0]
    return (-(p * p.log()).sum()).exp()


def band_pass(noise, low, high):
    """Keep only waves of medium length, and bring the rest to standard deviation 1: the pattern of a watermark.

    noise (H, W). Its Fourier transform says how much of each wave it holds; the wave at [i, j] has the frequencies
    (torch.fft.fftfreq(H)[i], torch.fft.fftfreq(W)[j]), in waves a pixel. Kept are those with
    low < √(f_y² + f_x²) < high. Returns (H, W), real, with standard deviation 1 (with n or n − 1).
    """
    f_y, f_x = (torch.fft.fftfreq(n) for n in noise.shape)
    f = (f_y[:, None] ** 2 + f_x**2).sqrt()  # (H, W)
    kept = torch.fft.ifft2(torch.fft.fft2(noise) * ((f > low) & (f < high))).real
    return kept / kept.std()


def matching_peak(signal, pattern):
    """How well does a pattern fit a picture, wherever it may lie? The highest peak of their cross-correlation.

    For all shifts at once: c = F⁻¹(F(signal) · conj F(pattern)), the correlation theorem. signal (B, H, W), pattern
    (H, W). Returns (B,): how many standard deviations of c (with n or n − 1) its highest value lies above its mean.
    """
    c = torch.fft.ifft2(torch.fft.fft2(signal) * torch.fft.fft2(pattern).conj()).real  # (B, H, W)
    c = c.flatten(1)
    return (c.amax(dim=1) - c.mean(dim=1)) / c.std(dim=1)


def _counts(d):
    found = []
    for _ in range(3):
        counts = d.integers(0, 40, d.size(4, 12)).float()
        counts[0], counts[1] = 0, 7
        found.append((counts,))
    return found


def _entropy(counts):
    p = counts.double() / counts.sum()
    return torch.special.entr(p).sum().exp()


def _noises(d):
    return [(d.normal(*d.sizes(16, 32, 2)), 0.1, 0.3), (d.normal(*d.sizes(16, 32, 2)), 0.05, 0.2)]


def _by_waves(noise, low, high):
    """The same by writing each wave down."""
    H, W = noise.shape
    noise = noise.double()
    y, x = torch.arange(H).double(), torch.arange(W).double()
    total = torch.zeros(H, W, dtype=torch.float64)
    waves_y = torch.exp(-2j * torch.pi * torch.outer(torch.fft.fftfreq(H).double(), y))
    waves_x = torch.exp(-2j * torch.pi * torch.outer(torch.fft.fftfreq(W).double(), x))
    amount = waves_y @ noise.to(torch.complex128) @ waves_x.T
    f = (torch.fft.fftfreq(H)[:, None] ** 2 + torch.fft.fftfreq(W) ** 2).sqrt()
    amount = amount * ((f > low) & (f < high))
    total = (waves_y.conj().T @ amount @ waves_x.conj()).real / (H * W)
    return (total / total.std()).float()


def _signals(d):
    found = []
    for _ in range(2):
        B, (H, W) = d.size(3, 5), d.sizes(8, 14, 2)
        pattern = d.normal(H, W)
        signal = d.normal(B, H, W)
        signal[0] += 2 * pattern.roll((2, 3), (0, 1))
        signal[1] -= 3 * pattern.roll((3, 2), (0, 1))  # a hole, deeper than chance is high
        found.append((signal, pattern))
    return found


def _by_shifts(signal, pattern):
    H, W = pattern.shape
    rows = [
        [(signal * pattern.roll((i, j), (0, 1))).sum(dim=(1, 2)) for j in range(W)]
        for i in range(H)
    ]
    c = torch.stack([z for row in rows for z in row], dim=1).double()
    return ((c.amax(dim=1) - c.mean(dim=1)) / c.std(dim=1)).float()


def _filtered(noise, keep):
    f_y, f_x = (torch.fft.fftfreq(n) for n in noise.shape)
    return torch.fft.ifft2(torch.fft.fft2(noise) * keep(f_y[:, None], f_x)).real


def _in_band(f, of_transform=lambda z: z.real):
    """Waves whose f(f_y, f_x) lies in the band, brought to standard deviation 1."""

    def wrong(noise, low, high):
        f_y, f_x = (torch.fft.fftfreq(n) for n in noise.shape)
        size = f(f_y[:, None], f_x)
        kept = of_transform(torch.fft.ifft2(torch.fft.fft2(noise) * ((size > low) & (size < high))))
        return kept / kept.std()

    return wrong


def _peak_of(end, real=lambda z: z.real):
    """What `end` makes of the cross-correlation c, (B, H W)."""

    def wrong(signal, pattern):
        c = torch.fft.ifft2(torch.fft.fft2(signal) * torch.fft.fft2(pattern).conj())
        return end(real(c).flatten(1))

    return wrong


def _peak_with_n(signal, pattern):
    n = pattern.numel()
    return _by_shifts(signal, pattern) * (n / (n - 1)) ** 0.5


def _band_with_n(noise, low, high):
    z = _by_waves(noise, low, high)
    return z / z.std(correction=0)


CORE = (
    Core(
        14,
        effective_number,
        hints=(
            "Shares first: counts / counts.sum(). Shares that are 0 must go: 0 · log 0 is nan.",
            "<code>p = p[p > 0]</code>, then e to the power of <code>-(p * p.log()).sum()</code>.",
        ),
        cases=_counts,
        oracle=_entropy,
        mistakes={
            "this is the entropy H itself: a number of kinds is e^H": lambda c: _entropy(c).log(),
            "the sign is turned round: H = −Σ p log p": lambda c: 1 / _entropy(c),
            "this counts the kinds that were seen: frequent ones must count more": lambda c: (c > 0).sum().float(),
            "0 · log 0 is nan: leave out what was never seen": lambda c: (
                -((c / c.sum()) * (c / c.sum()).log()).sum()).exp(),
            "the counts must become shares first": lambda c: (-(c[c > 0] * c[c > 0].log()).sum()).exp(),
            "this is Simpson's number, 1 / Σ p²: e^H is asked for": lambda c: 1 / (c / c.sum()).square().sum(),
            "the logarithm of 2 and the power of e do not go together": lambda c: (_entropy(c).log() / torch.tensor(2.0).log()).exp(),
        },
        in_file=False,
    ),
    Core(
        14,
        band_pass,
        hints=(
            "f, (H, W), from both fftfreq: one as a column, one as a row. A mask times the transform keeps what you want.",
            "<code>torch.fft.ifft2(torch.fft.fft2(noise) * mask).real</code>; then divide by its standard deviation.",
        ),
        cases=_noises,
        oracle=_by_waves,
        also=(_band_with_n,),
        mistakes={
            "its standard deviation is not 1": lambda n, low, high: _filtered(
                n, lambda y, x: (((y**2 + x**2).sqrt() > low) & ((y**2 + x**2).sqrt() < high))),
            "this keeps all but the medium waves": lambda n, low, high: (lambda z: z / z.std())(_filtered(
                n, lambda y, x: ~(((y**2 + x**2).sqrt() > low) & ((y**2 + x**2).sqrt() < high)))),
            "this keeps all waves below high: those below low must go, too": lambda n, low, high: (lambda z: z / z.std())(
                _filtered(n, lambda y, x: (y**2 + x**2).sqrt() < high)),
            "this keeps all waves above low: those above high must go, too": lambda n, low, high: (lambda z: z / z.std())(
                _filtered(n, lambda y, x: (y**2 + x**2).sqrt() > low)),
            "the root is missing: it is √(f_y² + f_x²)": lambda n, low, high: (lambda z: z / z.std())(_filtered(
                n, lambda y, x: (((y**2 + x**2) > low) & ((y**2 + x**2) < high)))),
            "the band is square: the frequency is √(f_y² + f_x²), a length": (
                _in_band(lambda y, x: torch.maximum(y.abs(), x.abs())),
                _in_band(lambda y, x: y.abs() + x.abs()),
                lambda n, low, high: (lambda z: z / z.std())(_filtered(
                    n, lambda y, x: (y.abs() > low) & (y.abs() < high) & (x.abs() > low) & (x.abs() < high)))),
            "the absolute value folds the negative half up: take the real part, .real": _in_band(
                lambda y, x: (y**2 + x**2).sqrt(), torch.abs),
            "its standard deviation is 1, and its largest value is not asked for": (
                lambda n, low, high: (lambda z: z / z.abs().max())(_by_waves(n, low, high)),
                lambda n, low, high: (lambda z: z / z.max())(_by_waves(n, low, high))),
            "divide by the standard deviation: the variance is its square": lambda n, low, high: (lambda z: z / z.var())(
                _filtered(n, lambda y, x: (((y**2 + x**2).sqrt() > low) & ((y**2 + x**2).sqrt() < high)))),
            "the frequency has two parts, f_y and f_x: you look at one": lambda n, low, high: (lambda z: z / z.std())(
                _filtered(n, lambda y, x: ((x.abs() > low) & (x.abs() < high)).expand(len(y), -1))),
        },
        errors={r"must match|broadcast": "f_y is a column and f_x is a row: f_y[:, None] and f_x give (H, W)"},
        in_file=False,
    ),
    Core(
        14,
        matching_peak,
        hints=(
            "torch.fft.fft2 works on the last two axes, for a whole batch. .conj() is the complex conjugate.",
            "<code>c = torch.fft.ifft2(torch.fft.fft2(signal) * torch.fft.fft2(pattern).conj()).real.flatten(1)</code>; "
            "then (highest − mean) / standard deviation, along dim 1.",
        ),
        cases=_signals,
        oracle=_by_shifts,
        also=(_peak_with_n,),
        mistakes={
            "conj is missing: this turns the pattern upside down first (a convolution)": lambda s, p: (
                lambda c: (c.amax(1) - c.mean(1)) / c.std(1))(torch.fft.ifft2(torch.fft.fft2(s) * torch.fft.fft2(p)).real.flatten(1)),
            "the mean is not taken away": lambda s, p: (lambda c: c.amax(1) / c.std(1))(
                torch.fft.ifft2(torch.fft.fft2(s) * torch.fft.fft2(p).conj()).real.flatten(1)),
            "count in standard deviations: divide": lambda s, p: (lambda c: c.amax(1) - c.mean(1))(
                torch.fft.ifft2(torch.fft.fft2(s) * torch.fft.fft2(p).conj()).real.flatten(1)),
            "one number for each picture: mean and deviation are those of its own c": lambda s, p: (
                lambda c: (c.amax(1) - c.mean()) / c.std())(
                torch.fft.ifft2(torch.fft.fft2(s) * torch.fft.fft2(p).conj()).real.flatten(1)),
            "the peak is the highest value, and a deep hole is none: no absolute value": (
                _peak_of(lambda c: (c.abs().amax(1) - c.abs().mean(1)) / c.abs().std(1)),
                _peak_of(lambda c: (c.abs().amax(1) - c.mean(1)) / c.std(1)),
                _peak_of(lambda c: (c - c.mean(1, keepdim=True)).abs().amax(1) / c.std(1))),
            "this is where the peak lies: how high it is, is asked for": (
                _peak_of(lambda c: c.argmax(1)), _peak_of(lambda c: c.argmax(1).float())),
            "this is the highest value itself: how many standard deviations is it above the mean?": _peak_of(
                lambda c: c.amax(1)),
            "this divides by the variance: how many standard deviations is asked for": _peak_of(
                lambda c: (c.amax(1) - c.mean(1)) / c.var(1)),
            "this looks at one place only: take the highest value of all shifts": lambda s, p: (
                lambda c: (c[:, 0] - c.mean(1)) / c.std(1))(
                torch.fft.ifft2(torch.fft.fft2(s) * torch.fft.fft2(p).conj()).real.flatten(1)),
        },
        in_file=False,
    ),
)  # fmt: skip
