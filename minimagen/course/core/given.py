"""What the course gives to the learner's functions: small helpers that my_imagen.py holds too, as they are."""

import math

import torch
import torch.nn.functional as F
from torch import nn


def alpha_sigma(log_snr):
    """α_t and σ_t, the shares of picture and noise (same shape as log_snr); α² + σ² = 1."""
    return torch.sigmoid(log_snr).sqrt(), torch.sigmoid(-log_snr).sqrt()


def append_dims(values, like):
    """(B,) → (B, 1, 1, 1), so that one number a picture broadcasts over `like` (B, C, H, W)."""
    return values.reshape(-1, *[1] * (like.ndim - 1))


def cosine_log_snr(t):
    """Cosine schedule (Nichol & Dhariwal 2021): α_t = cos(π t / 2), its log-SNR kept within ±12."""
    low, high = math.atan(math.exp(-6)), math.atan(math.exp(6))
    return -2 * torch.log(torch.tan(low + t * (high - low)))


def linear_log_snr(t):
    """Linear schedule (Ho et al. 2020, β from 1e-4 to 0.02 over 1000 steps) in continuous time."""
    return -torch.log(torch.expm1(1e-4 + 0.1 * t + 9.95 * t**2))


def null_text(text, mask):
    """The caption that says nothing: states (B, L, D) all zero, and a mask (B, L) of length one."""
    alone = torch.zeros_like(mask)
    alone[:, 0] = True
    return torch.zeros_like(text), alone


def downsample(images, side):
    """Average down to side × side."""
    return F.interpolate(images, size=(side, side), mode="area")


def upsample(images, factor=4):
    """Bilinear: (B, C, H, W) → (B, C, factor · H, factor · W)."""
    return F.interpolate(images, scale_factor=factor, mode="bilinear", align_corners=False)


def group_norm(channels):
    """Group norm of at most 16 groups."""
    return nn.GroupNorm(math.gcd(channels, 16), channels)


def zero_module(layer):
    """The layer, with all its weights at 0: a branch that begins as nothing."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


GIVEN = {
    f.__name__: f
    for f in (
        alpha_sigma, append_dims, cosine_log_snr, linear_log_snr, null_text,
        downsample, upsample, group_norm, zero_module,
    )
}  # fmt: skip
MODULES = {"math": math, "torch": torch, "nn": nn, "F": F}
