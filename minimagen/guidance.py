"""Classifier-free guidance (Imagen, section 2.2) and thresholding (section 2.3)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Network = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]  # x_t, log_snr, text, mask → output


def null_text(text: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """The caption that says nothing: states (B, L, D) all zero, and a mask (B, L) of length one.

    Imagen zeroes the states; that no length shows through is ours.
    """
    alone = torch.zeros_like(mask)
    alone[:, 0] = True
    return torch.zeros_like(text), alone


def drop_captions(text: Tensor, mask: Tensor, share: float, u: Tensor) -> tuple[Tensor, Tensor]:
    """In training, zero the captions where u < share (Imagen: 10 %). text (B, L, D), mask (B, L), u (B,)."""
    dropped = u < share
    zeros, alone = null_text(text, mask)
    text = torch.where(dropped[:, None, None], zeros, text)
    return text, torch.where(dropped[:, None], alone, mask)


def guided(
    network: Network, x_t: Tensor, log_snr: Tensor, text: Tensor, mask: Tensor, w: float
) -> Tensor:
    """w · conditional + (1 − w) · unconditional (Imagen eq. 2), in one batched pass; w = 1 is no guidance.

    x_t and the result (B, C, H, W); log_snr (B,); text (B, L, D); mask (B, L).
    The paper guides ε. ε, x_0 and v are affine in each other at a given x_t, and the weights add up to one,
    so guiding any of them is the same.
    """
    if w == 1:
        return network(x_t, log_snr, text, mask)
    zeros, alone = null_text(text, mask)
    twice = torch.cat([x_t, x_t]), torch.cat([log_snr, log_snr])
    both = network(*twice, torch.cat([text, zeros]), torch.cat([mask, alone]))
    conditional, unconditional = both.chunk(2)
    return w * conditional + (1 - w) * unconditional


def static_threshold(x_0: Tensor) -> Tensor:
    """Clip the guided x̂_0 (B, C, H, W) to the range of pictures, [−1, 1]."""
    return x_0.clamp(-1, 1)


def dynamic_threshold(x_0: Tensor, percentile: float = 0.995) -> Tensor:
    """Imagen section 2.3: s = percentile of |x̂_0| of each picture, at least 1; clip to [−s, s], divide by s.

    x_0 (B, C, H, W), the result within [−1, 1]. 0.995 is what the caption of fig. A.10 gives. There is no upper
    cap on s: a cap of 1 would be static.
    """
    s = torch.quantile(x_0.flatten(1).abs().float(), percentile, dim=1).clamp(min=1)  # (B,)
    s = s.to(x_0).reshape(-1, 1, 1, 1)
    return x_0.clamp(-s, s) / s
