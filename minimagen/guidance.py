"""Classifier-free guidance (Imagen, section 2.2) and thresholding (section 2.3), as one denoiser x̂_0(x_t, λ)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .diffusion import to_x_0

Network = Callable[..., Tensor]  # x_t, log_snr, text, mask, *extra → output, (B, C, H, W)


def null_text(text: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """The null conditioning: zeros of the shape of text (B, L, D), and a mask (B, L) of one token.

    Imagen zeroes the embeddings. That the mask is cut to one token too, so that the length of the caption
    does not leak, is ours.
    """
    null_mask = torch.zeros_like(mask)
    null_mask[:, 0] = True
    return torch.zeros_like(text), null_mask


def drop_captions(text: Tensor, mask: Tensor, drop_prob: float, u: Tensor) -> tuple[Tensor, Tensor]:
    """For training: null conditioning where u < drop_prob (Imagen: 0.1).

    text (B, L, D), mask (B, L), u (B,) uniform in [0, 1). Returns text and mask.
    """
    dropped = u < drop_prob
    zeros, null_mask = null_text(text, mask)
    text = torch.where(dropped[:, None, None], zeros, text)
    return text, torch.where(dropped[:, None], null_mask, mask)


def guided(
    network: Network,
    x_t: Tensor,
    log_snr: Tensor,
    text: Tensor,
    mask: Tensor,
    w: float,
    extra: tuple[Tensor, ...] = (),
    negative: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """w · conditional + (1 − w) · unconditional output (Imagen eq. 2), in one batched pass; w = 1: no guidance.

    x_t and the result (B, C, H, W); log_snr (B,); text (B, L, D); mask (B, L); extra: further inputs of the
    network, the same in both halves; negative: text and mask of what guidance leads away from, of the shapes of
    text and mask, in place of the null text. The paper guides ε. ε, x_0 and v are affine in each other at a
    given x_t, and the weights add up to one, so guiding any of them is equivalent.
    """
    if w == 1:
        return network(x_t, log_snr, text, mask, *extra)
    away_text, away_mask = negative or null_text(text, mask)
    both = network(
        torch.cat([x_t, x_t]),
        torch.cat([log_snr, log_snr]),
        torch.cat([text, away_text]),
        torch.cat([mask, away_mask]),
        *(torch.cat([z, z]) for z in extra),
    )
    conditional, unconditional = both.chunk(2)
    return w * conditional + (1 - w) * unconditional


def static_threshold(x_0: Tensor) -> Tensor:
    """Clip the guided x̂_0 (B, C, H, W) to the range of images, [−1, 1]."""
    return x_0.clamp(-1, 1)


def dynamic_threshold(x_0: Tensor, percentile: float = 0.995) -> Tensor:
    """Imagen section 2.3: s = percentile of |x̂_0| of each image, at least 1; clip to [−s, s], divide by s.

    x_0 (B, C, H, W), the result within [−1, 1]. 0.995 is given in the caption of fig. A.10. s has no upper
    bound: bounded by 1 it would be static thresholding.
    """
    s = torch.quantile(x_0.flatten(1).abs().float(), percentile, dim=1).clamp(min=1)  # (B,)
    s = s.to(x_0).reshape(-1, 1, 1, 1)
    return x_0.clamp(-s, s) / s


THRESHOLDS: dict[str, Callable[[Tensor], Tensor]] = {
    "dynamic": dynamic_threshold,
    "static": static_threshold,
    "none": lambda x_0: x_0,
}


@dataclass(frozen=True)
class Denoiser:
    """x̂_0(x_t, λ), as the samplers call it: the network's output, guided, turned into x̂_0, thresholded.

    network: x_t, log_snr, text, mask, *extra → output; text (B, L, D), mask (B, L); target: what the network
    predicts, one of diffusion.TARGETS; guidance: w of Imagen's eq. 2; threshold: one of THRESHOLDS;
    extra: further inputs of the network, such as the low-resolution image; negative: as in `guided`.
    """

    network: Network
    text: Tensor
    mask: Tensor
    target: str
    guidance: float = 1.0
    threshold: str = "none"
    extra: tuple[Tensor, ...] = ()
    negative: tuple[Tensor, Tensor] | None = None

    def __call__(self, x_t: Tensor, log_snr: Tensor) -> Tensor:
        """x_t (B, C, H, W), log_snr (B,) → x̂_0 (B, C, H, W)."""
        output = guided(
            self.network,
            x_t,
            log_snr,
            self.text,
            self.mask,
            self.guidance,
            self.extra,
            self.negative,
        )
        return THRESHOLDS[self.threshold](to_x_0(x_t, output, log_snr, self.target))
