"""Control beyond the prompt: from a picture, inside a mask, away from words, and between two drawings (chapter 12).

None of it trains anything. Each changes one thing in sampling: where it begins (SDEdit, Meng et al. 2022), what is
already known (the replacement of Song et al. 2021, appendix I.2, and RePaint, Lugmayr et al. 2022, eq. 8), what
guidance leads away from (negative prompts), or the noise and the text that go in (interpolation).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .diffusion import q_sample
from .errors import UserError
from .imagen import Imagen
from .images import downsample
from .samplers import Denoise, times
from .stage import Stage


def times_from(strength: float, steps: int) -> Tensor:
    """The times of SDEdit, (steps + 1,) float64, from t_0 = strength down to 0.

    SDEdit leaves out the steps above t_0. All steps are taken here, so that little strength still has enough of
    them. Raises UserError for a strength outside [0, 1].
    """
    if not 0 <= strength <= 1:
        raise UserError(f"strength is a number from 0 to 1, not {strength}")
    return strength * times(steps)


def inpainting(denoise: Denoise, x_0: Tensor, mask: Tensor) -> Denoise:
    """A denoiser that knows the image x_0 (B, 3, H, W) outside the mask (B, 1, H, W): x̂_0 ← m x̂_0 + (1 − m) x_0.

    mask: 1 where the image is drawn anew. Where sampling starts from x_0 with noise ε, every x_s is then
    α_s x_0 + σ_s ε outside the mask: RePaint's eq. 8, with the same ε at every step. In ddpm, x_s is drawn there
    from q(x_s | x_t, x_0). The last step lands on x_0 itself.
    """
    return lambda x_t, log_snr: torch.where(mask > 0, denoise(x_t, log_snr), x_0)


def slerp(a: Tensor, b: Tensor, share: Tensor) -> Tensor:
    """Spherical interpolation (Shoemake 1985) of noise: sin((1 − s) θ) / sin θ · a + sin(s θ) / sin θ · b.

    a, b (B, C, H, W); share (B,) in [0, 1]; θ is the angle between a and b, image by image. Unlike the straight
    line it keeps the length, and so the variance, that the network knows of noise.
    """
    u, v = F.normalize(a.flatten(1), dim=1), F.normalize(b.flatten(1), dim=1)
    # atan2, as acos is inexact for small angles; between equal noise the line is the arc
    theta = 2 * torch.atan2((u - v).norm(dim=1), (u + v).norm(dim=1))
    theta = theta.clamp(1e-4, math.pi - 1e-4)
    first, second = torch.sin((1 - share) * theta), torch.sin(share * theta)
    first, second = (
        z[:, None, None, None] / theta.sin()[:, None, None, None] for z in (first, second)
    )
    return first * a + second * b


def blend_texts(
    a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor], share: Tensor
) -> tuple[Tensor, Tensor]:
    """Text between two: the embeddings (1 − s) a + s b token by token, and the mask of both.

    a, b: embeddings (B, L, D), zero at padding, and mask (B, L), each of its own L; share (B,).
    """
    (text_a, mask_a), (text_b, mask_b) = same_length(a, b)
    # at both ends the tokens of that end alone
    mask = torch.where((share < 1)[:, None], mask_a, False) | torch.where(
        (share > 0)[:, None], mask_b, False
    )
    return torch.lerp(text_a, text_b, share[:, None, None]), mask


def same_length(*texts: tuple[Tensor, Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Embeddings (B, L, D) and masks (B, L), padded at the end to the longest L among them."""
    longest = max(mask.shape[1] for _, mask in texts)
    padding = [longest - mask.shape[1] for _, mask in texts]
    return [
        (F.pad(text, (0, 0, 0, more)), F.pad(mask, (0, more)))
        for (text, mask), more in zip(texts, padding, strict=True)
    ]


@dataclass(frozen=True)
class Control:
    """Draws a stage in place of Stage.sample, under control.

    image: (B, 3, S, S) in [−1, 1], what sampling begins with; stages whose images are larger begin with noise.
    strength: the diffusion time at which it begins. mask: (B, 1, S, S), 1 where it is drawn anew; None: everywhere.
    negative: embeddings (B, L, D) and mask (B, L) of what guidance leads away from.
    """

    image: Tensor | None = None
    strength: float = 1.0
    mask: Tensor | None = None
    negative: tuple[Tensor, Tensor] | None = None

    def __call__(
        self,
        stage: Stage,
        noise: Tensor,
        text: Tensor,
        mask: Tensor,
        *low_res: Tensor | None,
        steps: int | None = None,
        guidance: float = 1.0,
        threshold: str | None = None,
        **options: Any,
    ) -> Tensor:
        """As Stage.sample; low_res: the low-resolution image and its noise."""
        negative = self.negative
        if negative is not None:
            (text, mask), negative = same_length((text, mask), negative)
        guide = stage.denoiser(text, mask, *low_res, guidance=guidance, threshold=threshold)
        denoise: Denoise = replace(guide, negative=negative)
        steps = steps or stage.config.steps
        if self.image is None or self.image.shape[-1] < noise.shape[-1]:
            return stage.denoise_along(times(steps), denoise, noise, **options)
        x_0 = downsample(self.image, noise.shape[-1]).to(noise).expand_as(noise)
        if self.strength == 0:
            return x_0
        if self.mask is not None:  # any pixel that the hole touches is drawn anew
            hole = F.adaptive_max_pool2d(self.mask.to(noise), noise.shape[-1])
            denoise = inpainting(denoise, x_0, hole)
        t = times_from(self.strength, steps)
        log_snr = stage.schedule(t[:1]).to(noise).expand(len(noise))
        return stage.denoise_along(t, denoise, q_sample(x_0, log_snr, noise), **options)


def edit(
    imagen: Imagen,
    prompts: Sequence[str],
    seeds: Sequence[int],
    image: Tensor | None = None,
    strength: float = 1.0,
    mask: Tensor | None = None,
    negative: str | None = None,
    **options: Any,
) -> dict[str, Tensor]:
    """Imagen.generate under control: the images of every stage by its name, each (B, 3, H, W) in [−1, 1].

    image (1 or B, 3, S, S) in [−1, 1] and strength in [0, 1]: SDEdit; 0 gives the image itself, 1 forgets it.
    mask (1 or B, 1, S, S), 1 where it is drawn anew: inpainting; outside it the image stays as it is. negative: a
    text that guidance leads away from. S is the side of the last stage, or that of an earlier one for a sketch:
    then the stages above it draw as always, and a mask holds up to that stage. options: as in Imagen.generate.
    Raises UserError where a shape, the strength or a text does not fit.
    """
    times_from(strength, 1)
    if mask is not None and (image is None or mask.shape[-2:] != image.shape[-2:]):
        raise UserError(
            "a mask needs an image of its own size: give both, as (B, 3, S, S) and (B, 1, S, S)"
        )
    if image is None and negative is None:
        return imagen.generate(prompts, seeds, **options)
    told = None
    if negative is not None:
        text, known = imagen.text_encoder([negative] * len(prompts))
        told = text.to(imagen.device), known.to(imagen.device)
    control = Control(image, strength, mask, told)
    return imagen.generate(prompts, seeds, draw_stage=control, **options)


def interpolate(
    imagen: Imagen,
    prompts: tuple[str, str],
    seeds: tuple[int, int],
    shares: Sequence[float],
    **options: Any,
) -> dict[str, Tensor]:
    """Images between two drawings, each of a prompt and a seed: of shares of the second; as Imagen.generate.

    The noise of every stage goes along the arc between the two seeds', the embeddings along the line between the
    two prompts'. Equal prompts: only the noise moves; equal seeds: only the words.
    """
    count, s = len(shares), torch.tensor(shares).float().to(imagen.device)
    text, known = imagen.text_encoder([prompts[1]] * count)
    other = text.to(imagen.device), known.to(imagen.device)

    def draw_between(
        stage: Stage,
        noise: Tensor,
        text: Tensor,
        mask: Tensor,
        low_res: Tensor | None,
        low_res_noise: Tensor | None,
        **more: Any,
    ) -> Tensor:
        other_noise, other_low_res_noise = imagen.noise([seeds[1]] * count, stage.config.name)
        noise = slerp(noise, other_noise, s)
        if low_res_noise is not None:
            low_res_noise = slerp(low_res_noise, other_low_res_noise, s)
        text, mask = blend_texts((text, mask), other, s)
        return stage.sample(noise, text, mask, low_res, low_res_noise, **more)

    return imagen.generate(
        [prompts[0]] * count, [seeds[0]] * count, draw_stage=draw_between, **options
    )
