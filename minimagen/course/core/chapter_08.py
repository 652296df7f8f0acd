"""Chapter 08: how to make it listen."""

from __future__ import annotations

import numpy as np
import torch

from .base import Core
from .given import null_text


def guided(network, x_t, log_snr, text, mask, w):
    """Classifier-free guidance (Imagen eq. 2): w · with caption + (1 − w) · without, in one pass of a double batch.

    network(x_t, log_snr, text, mask) → (B, C, H, W). x_t and the result (B, C, H, W); log_snr (B,); text (B, L, D);
    mask (B, L); w, one number. null_text(text, mask) (given) is the caption that says nothing, in the same
    shapes. The double batch has all four twice. w = 1 is no guidance: then the network is called with the
    captions alone.
    """
    if w == 1:
        return network(x_t, log_snr, text, mask)
    nothing, alone = null_text(text, mask)
    both = network(
        torch.cat([x_t, x_t]),
        torch.cat([log_snr, log_snr]),
        torch.cat([text, nothing]),
        torch.cat([mask, alone]),
    )
    told, untold = both.chunk(2)
    return w * told + (1 - w) * untold


def dynamic_threshold(x_0, percentile=0.995):
    """Dynamic thresholding (Imagen section 2.3): bring a guided guess back to [−1, 1], picture by picture.

    s (B,) is the quantile `percentile` of |x_0| over all values of a picture; where below 1, it is 1.
    Clip to [−s, s], then divide by s.
    x_0 (B, C, H, W), any numbers; the result has the same shape.
    """
    s = torch.quantile(x_0.flatten(1).abs(), percentile, dim=1).clamp(min=1)  # (B,)
    s = s.reshape(-1, 1, 1, 1)
    return x_0.clamp(-s, s) / s


class _Listener:
    """A network by formula, which counts how often it is called, and with how many pictures."""

    def __init__(self, a, b):
        self.a, self.b, self.calls = a, b, []

    def __deepcopy__(self, memo):
        return _Listener(self.a, self.b)

    def __call__(self, x_t, log_snr, text, mask):
        B = len(x_t)
        if not len(log_snr) == len(text) == len(mask) == B:
            raise ValueError(
                f"{B} pictures with {len(log_snr)} log-SNRs, {len(text)} texts, {len(mask)} masks"
            )
        self.calls.append(B)
        told = (text.sum(-1) * mask).sum(1) + 0.3 * mask.sum(1)  # (B,)
        return torch.tanh(self.a * x_t) + (told + self.b * log_snr).reshape(-1, 1, 1, 1)


def _guided_by_hand(network, x_t, log_snr, text, mask, w):
    B, a, b = len(x_t), network.a, network.b
    told = (text.double().sum(-1) * mask).sum(1) + 0.3 * mask.sum(
        1
    )  # the caption that says nothing gives 0.3
    network.calls.append(B if w == 1 else 2 * B)
    there = told * w + 0.3 * (1 - w) + b * log_snr
    return torch.tanh(a * x_t) + there.reshape(-1, 1, 1, 1)


def _seen(function, network, *inputs):
    """The result, the number of calls, and how many pictures each had."""
    out = function(network, *inputs)
    return None if out is None else (out, network.calls)


def _both(network, x_t, log_snr, text, mask, mix, keep_mask=False, keep_text=False):
    nothing, alone = null_text(text, mask)
    both = network(torch.cat([x_t, x_t]), torch.cat([log_snr] * 2),
                   torch.cat([text, text if keep_text else nothing]),
                   torch.cat([mask, mask if keep_mask else alone]))  # fmt: skip
    return mix(*both.chunk(2))


def _guided_with(mix, **keep):
    def wrong(network, x_t, log_snr, text, mask, w):
        if w == 1:
            return network(x_t, log_snr, text, mask)
        return _both(
            network, x_t, log_snr, text, mask, lambda told, untold: mix(told, untold, w), **keep
        )

    return wrong


def _two_calls(network, x_t, log_snr, text, mask, w):
    told = network(x_t, log_snr, text, mask)
    if w == 1:
        return told
    return w * told + (1 - w) * network(x_t, log_snr, *null_text(text, mask))


def _always_both(network, x_t, log_snr, text, mask, w):
    return _both(
        network, x_t, log_snr, text, mask, lambda told, untold: w * told + (1 - w) * untold
    )


def _cases_of_guidance(d):
    made = []
    for w in (4.0, 1.0, float(d.uniform(1.5, 9, 1))):
        B, L, D = d.sizes(2, 6, 3)
        n = d.size(3, 6)
        network = _Listener(d.uniform(0.3, 0.9, 1), d.uniform(0.1, 0.3, 1))
        made.append(
            (network, d.normal(B, 3, n, n + 1), d.normal(B), d.normal(B, L, D), d.mask(B, L), w)
        )
    return made


def _threshold_by_numpy(x_0, percentile=0.995):
    rows = []
    for picture in x_0.double().numpy():
        s = max(1.0, np.percentile(np.abs(picture), 100 * percentile))
        rows.append(np.clip(picture / s, -1, 1))
    return torch.from_numpy(np.stack(rows))


def _threshold_with(
    of=lambda x: x.abs(), least=1.0, most=None, clip=True, divide=True, whole=False
):
    def wrong(x_0, percentile=0.995):
        values = of(x_0).flatten(0 if whole else 1)
        s = (
            torch.quantile(values, percentile, dim=-1)
            .clamp(min=least, max=most)
            .reshape(-1, 1, 1, 1)
        )
        x = x_0.clamp(-s, s) if clip else x_0
        return x / s if divide else x

    return wrong


def _cases_of_threshold(d):
    made = []
    for percentile in ((), (float(d.uniform(0.85, 0.97, 1)),)):
        B, n = d.size(3, 5), d.size(6, 9)
        x = d.normal(B, 3, n, n + 1) * d.uniform(1.5, 4, B, 1, 1, 1) + 0.5
        x[0] = 0.2 * x[0].clamp(-1, 1)  # a picture that needs nothing
        made.append((x, *percentile))
    return made


CORE = (
    Core(
        8,
        guided,
        hints=(
            "torch.cat makes two batches into one: first all with their captions, then all without. The network sees "
            "2B pictures once.",
            "<code>told, untold = network(torch.cat([x_t, x_t]), …).chunk(2)</code>. The second half of text and mask "
            "is what null_text gives. Then the equation.",
        ),
        cases=_cases_of_guidance,
        oracle=_guided_by_hand,
        observe=_seen,
        mistakes={
            "the weights are 1 + w and −w, as in other papers: in Imagen's equation they are w and 1 − w":
                _guided_with(lambda told, untold, w: (1 + w) * told - w * untold),
            "with and without caption are swapped": _guided_with(lambda told, untold, w: w * untold + (1 - w) * told),
            "the weights must add up to one: w and 1 − w": _guided_with(lambda told, untold, w: w * told - untold),
            "the difference alone is missing what it is added to": _guided_with(
                lambda told, untold, w: w * (told - untold)),
            "the caption that says nothing has length one: its mask is null_text's second": _guided_with(
                lambda told, untold, w: w * told + (1 - w) * untold, keep_mask=True),
            "the states must be zero without a caption: null_text's first": _guided_with(
                lambda told, untold, w: w * told + (1 - w) * untold, keep_text=True),
            "the network was called twice: one pass of a double batch does both": _two_calls,
            "for w = 1 the network is called with the captions alone: half the work": _always_both,
        },
        errors={"pictures with": "pictures, log-SNRs, texts and masks must all be doubled"},
    ),
    Core(
        8,
        dynamic_threshold,
        hints=(
            "One s a picture: flatten all axes but the first. torch.quantile has an argument dim.",
            "<code>torch.quantile(x_0.flatten(1).abs(), percentile, dim=1).clamp(min=1)</code> is s, (B,). It needs "
            "the shape (B, 1, 1, 1) for clamp and division.",
        ),
        cases=_cases_of_threshold,
        oracle=_threshold_by_numpy,
        mistakes={
            "this is static thresholding: s is always 1": lambda x, p=0.995: x.clamp(-1, 1),
            "s must be at least 1, or a pale picture is blown up": _threshold_with(least=1e-6),
            "all pictures share one s: each has its own": _threshold_with(whole=True),
            "the division by s is missing": _threshold_with(divide=False),
            "the clipping to [−s, s] is missing": _threshold_with(clip=False),
            "s is the percentile of |x_0|, not of x_0": _threshold_with(of=lambda x: x),
            "s is the largest value: it is a percentile": lambda x, p=0.995: (
                x / x.abs().amax((1, 2, 3), keepdim=True).clamp(min=1)),
        },
        errors={"size of tensor|must match": "two shapes do not fit: s (B,) must become (B, 1, 1, 1)"},
    ),
)  # fmt: skip
