"""Chapter 09: how 16×16 becomes 256×256."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from .base import Core
from .chapter_01 import q_sample
from .given import cosine_log_snr, upsample


def augment(low_res, level, eps):
    """Noise-conditioning augmentation (Imagen section 2.4, fig. A.32): the small picture is noised, then enlarged.

    low_res (B, 3, h, w) in [−1, 1] is taken to time `level` (B,), in [0, 1], of the cosine schedule with eps
    (B, 3, h, w), at the small size, where the stage below makes its mistakes; only then upsample (given).
    Returns the
    enlarged picture (B, 3, 4h, 4w) and its log-SNR (B,), which the network is told.
    """
    log_snr = cosine_log_snr(level)  # (B,)
    return upsample(q_sample(low_res, log_snr, eps)), log_snr


def sr_first_layer(unet, x_t, emb, low_res, low_res_log_snr):
    """How a super-resolution U-Net takes in the low-resolution picture (Imagen appendix B).

    x_t (B, 3, H, W); low_res (B, 3, H, W), already enlarged; emb (B, E), of time and text. unet.stem is a
    convolution with six input channels, x_t's first; unet.noise_level(low_res_log_snr) is an embedding (B, E) of
    how noisy low_res is, added to emb. Returns what the stem gives (B, C, H, W) and the new emb (B, E).
    """
    h = unet.stem(torch.cat([x_t, low_res], dim=1))  # (B, 6, H, W) → (B, C, H, W)
    return h, emb + unet.noise_level(low_res_log_snr)


def _augmented_plainly(low_res, level, eps):
    """By angle, and torch's own interpolation to a size."""
    log_snr = cosine_log_snr(level.double())
    angle = torch.atan(torch.exp(-log_snr / 2)).reshape(-1, 1, 1, 1)
    noisy = angle.cos() * low_res + angle.sin() * eps
    side = [4 * n for n in low_res.shape[-2:]]
    return F.interpolate(noisy, size=side, mode="bilinear", align_corners=False), log_snr


def _augment_with(noised=q_sample, told=lambda level, log_snr: log_snr, large=upsample):
    def wrong(low_res, level, eps):
        log_snr = cosine_log_snr(level)
        return large(noised(low_res, log_snr, eps)), told(level, log_snr)

    return wrong


def _level_for_log_snr(told, large=upsample):
    def wrong(low_res, level, eps):
        return large(q_sample(low_res, level, eps)), told(level)

    return wrong


def _late_noise(low_res, level, eps):
    log_snr = cosine_log_snr(level)
    return q_sample(
        upsample(low_res), log_snr, eps.repeat_interleave(4, 2).repeat_interleave(4, 3)
    ), log_snr


class _Entrance(nn.Module):
    def __init__(self, d, C, E):
        super().__init__()
        self.stem = d.layer(nn.Conv2d(6, C, 3, padding=1))
        self.rates = d.normal(E)

    def noise_level(self, log_snr):
        return torch.sin(log_snr[:, None] * self.rates)


def _entered_plainly(unet, x_t, emb, low_res, low_res_log_snr):
    """A convolution is a sum over its input channels: three of them for each picture."""
    weight, bias = unet.stem.weight, unet.stem.bias
    h = F.conv2d(x_t, weight[:, :3], bias, padding=1) + F.conv2d(
        low_res, weight[:, 3:], None, padding=1
    )
    return h, emb + unet.noise_level(low_res_log_snr)


def _enter_with(
    join=lambda x, low: torch.cat([x, low], 1), told=lambda unet, emb, s: emb + unet.noise_level(s)
):
    def wrong(unet, x_t, emb, low_res, low_res_log_snr):
        return unet.stem(join(x_t, low_res)), told(unet, emb, low_res_log_snr)

    return wrong


def _cases_of_augment(d):
    made = []
    for _ in range(2):
        B, h, w = d.sizes(2, 7, 3)
        made.append((d.picture(B, 3, h, w), d.uniform(0.05, 0.9, B), d.normal(B, 3, h, w)))
    return made


def _cases_of_entrance(d):
    made = []
    for _ in range(2):
        (B, C, E), n = d.sizes(2, 9, 3), d.size(4, 7)
        shape = (B, 3, n, n + 1)
        made.append(
            (
                _Entrance(d, C, E),
                d.normal(*shape),
                d.normal(B, E),
                d.picture(*shape),
                d.uniform(-4, 4, B),
            )
        )
    return made


CORE = (
    Core(
        9,
        augment,
        hints=(
            "Three things in a row, each a function that you have: the log-SNR of the level, q_sample, upsample.",
            "The noise comes first, at the small size: <code>upsample(q_sample(low_res, log_snr, eps))</code>. The "
            "second result is log_snr, not level.",
        ),
        cases=_cases_of_augment,
        oracle=_augmented_plainly,
        mistakes={
            "the network is told the level: it wants the log-SNR": _augment_with(told=lambda level, log_snr: level),
            "the level is taken for a log-SNR: cosine_log_snr(level) is what q_sample and the network want": (
                _level_for_log_snr(told=lambda level: level),
                _level_for_log_snr(told=cosine_log_snr),
                _level_for_log_snr(told=lambda level: level, large=lambda x: x)),
            "the noise comes after upsampling: it must be added to the small picture": _late_noise,
            "no noise was added": _augment_with(noised=lambda x, s, e: x),
            "the picture does not shrink: q_sample multiplies it by α": _augment_with(
                noised=lambda x, s, e: x + (-s).sigmoid().sqrt().reshape(-1, 1, 1, 1) * e),
            "the small picture is taken to [0, 1] first: noise it in [−1, 1], as in training": _augment_with(
                noised=lambda x, s, e: q_sample((x + 1) / 2, s, e)),
            "upsampling repeats pixels: it must be bilinear, upsample does that": _augment_with(
                large=lambda x: F.interpolate(x, scale_factor=4, mode="nearest")),
            "the picture stays small: upsample is missing": _augment_with(large=lambda x: x),
        },
        uses=("q_sample",),
    ),
    Core(
        9,
        sr_first_layer,
        hints=(
            "Six channels go into the stem: three of each picture, joined over the axis of channels.",
            "<code>torch.cat([x_t, low_res], dim=1)</code>, in this order, or the weights read the wrong picture. "
            "And the embedding of the noise is added to emb.",
        ),
        cases=_cases_of_entrance,
        oracle=_entered_plainly,
        mistakes={
            "x_t comes first, then the low-resolution picture": _enter_with(lambda x, low: torch.cat([low, x], 1)),
            "the network is not told how noisy the picture is: add unet.noise_level(low_res_log_snr) to emb":
                _enter_with(told=lambda unet, emb, s: emb),
            "the embedding of the noise takes the place of emb: add it":
                _enter_with(told=lambda unet, emb, s: unet.noise_level(s)),
            "x_t stands there twice": _enter_with(lambda x, low: torch.cat([x, x], 1)),
            "the low-resolution picture stands there twice": _enter_with(lambda x, low: torch.cat([low, low], 1)),
        },
        errors={"to have 6 channels": "the stem wants six channels: join x_t and low_res over axis 1"},
    ),
)  # fmt: skip
