"""The U-Nets of Imagen (appendix B, figures A.27 to A.30): one class, three shapes.

The base is in the style of ADM (Dhariwal & Nichol 2021): the embedding scales and shifts the features of every
residual block (adaptive group norm), and the text's keys and values are concatenated to those of
self-attention. The super-resolution stages are Efficient U-Nets: every DBlock downsamples first, most blocks
work at low resolution, and a UBlock upsamples last.

Departures from the figures: the base has no middle block, downsamples by strided convolution, and has one
attention layer and one long skip connection a level. Efficient blocks add the embedding once, without scale
and shift. A UBlock upsamples by 1×1 convolution and pixel shuffle. The residual skip is the identity where the
number of channels does not change. The features of the stem are concatenated again before the last layers.

Shapes: B images, C channels, H × W pixels, L tokens of width D (text_width), embeddings of width E.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class UNetConfig:
    """The architecture of a U-Net.

    channels, blocks, attention: the channels, the residual blocks and the kind of attention at each level, from
    the highest resolution to the lowest. attention "self": over pixels and text together; "cross": over the
    text only; "": none. Raises ValueError for lengths or kinds that do not fit.
    """

    channels: tuple[int, ...] = (48, 128, 192)
    blocks: tuple[int, ...] = (1, 2, 2)
    attention: tuple[str, ...] = ("", "self", "self")
    text_width: int = 256
    embedding: int = 160  # E: width of the embedding of noise level and pooled text
    # channels of an attention head; Imagen's 64 is too wide for channels like ours
    head_dim: int = 32
    # Efficient U-Net: every DBlock downsamples, the embedding enters once a level
    efficient: bool = False
    # super-resolution: conditioned on a low-resolution image and its noise level
    low_res: bool = False
    skip_scale: float = 1 / math.sqrt(2)  # factor of residual sums, from SR3 and score-SDE

    def __post_init__(self) -> None:
        for name in ("channels", "blocks", "attention"):
            object.__setattr__(self, name, tuple(getattr(self, name)))  # JSON brings lists
        if not len(self.channels) == len(self.blocks) == len(self.attention):
            raise ValueError("channels, blocks and attention must have one entry for each level")
        if any(a not in ("", "self", "cross") for a in self.attention):
            raise ValueError(
                f"attention is '', 'self' or 'cross' at each level, not {self.attention}"
            )
        if any(a and w % self.head_dim for a, w in zip(self.attention, self.channels, strict=True)):
            raise ValueError(
                f"channels with attention must be multiples of head_dim={self.head_dim}: {self.channels}"
            )


PRESETS: dict[str, UNetConfig] = {
    # named after the paper's 64×64 base, 64 → 256 and 256 → 1024 models; ours have a quarter of the resolution
    "base": UNetConfig(),
    "sr64": UNetConfig(
        channels=(32, 64, 160),
        blocks=(1, 2, 2),
        attention=("", "", "self"),
        efficient=True,
        low_res=True,
    ),
    "sr256": UNetConfig(
        channels=(24, 48, 96),
        blocks=(1, 1, 2),
        attention=("", "", "cross"),
        efficient=True,
        low_res=True,
    ),
}


def group_norm(channels: int) -> nn.GroupNorm:
    """Group norm with as many groups as divide the channels, at most 16: 16 for 48 channels, 8 for 24.

    Cast its input to float32 even under autocast: the statistics are more accurate, and a CPU is 3.4 times as
    fast as in bf16 (one core of an Intel Xeon with AVX512-BF16).
    """
    return nn.GroupNorm(math.gcd(channels, 16), channels)


def zero_module(layer: nn.Conv2d | nn.Linear) -> nn.Conv2d | nn.Linear:
    """Initialise a layer to zero and return it: the last one of a branch, so that a new block is the identity."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


class ResBlock(nn.Module):
    """GroupNorm → SiLU → 3×3 convolution, twice, added to a skip (fig. A.27); the sum is multiplied by `scale`.

    embedding: width of the embedding that scales and shifts the features; None: it does not enter here.
    """

    def __init__(self, c_in: int, c_out: int, embedding: int | None, scale: float) -> None:
        super().__init__()
        self.norm1, self.conv1 = group_norm(c_in), nn.Conv2d(c_in, c_out, 3, padding=1)
        self.norm2 = group_norm(c_out)
        self.conv2 = zero_module(nn.Conv2d(c_out, c_out, 3, padding=1))
        self.modulate = nn.Linear(embedding, 2 * c_out) if embedding else None
        self.skip = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else nn.Identity()
        self.scale = scale

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        """x (B, c_in, H, W), emb (B, E) → (B, c_out, H, W)."""
        h: Tensor = self.conv1(F.silu(self.norm1(x.float())))  # (B, C, H, W)
        h = self.norm2(h.float())
        if self.modulate is not None:  # ADM's adaptive group norm: scale and shift by the embedding
            scale, shift = self.modulate(emb)[:, :, None, None].chunk(2, dim=1)
            h = torch.addcmul(shift, h, 1 + scale)  # h · (1 + scale) + shift in one pass
        h = self.conv2(F.silu(h))
        skip: Tensor = self.skip(x)
        return (skip + h).mul_(self.scale)


class Attention(nn.Module):
    """Multi-head attention: queries from pixels, keys and values from pixels and text ("self") or text ("cross").

    head_dim: channels of a head; scale: factor of the residual sum.
    """

    def __init__(
        self, channels: int, text_width: int, head_dim: int, kind: str, scale: float
    ) -> None:
        super().__init__()
        self.head_dim, self.kind, self.scale = head_dim, kind, scale
        self.norm = group_norm(channels)
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_kv = nn.Linear(channels, 2 * channels, bias=False) if kind == "self" else None
        self.text_norm = nn.LayerNorm(text_width)
        self.text_kv = nn.Linear(text_width, 2 * channels, bias=False)
        self.out = zero_module(nn.Linear(channels, channels))

    def forward(self, x: Tensor, text: Tensor, mask: Tensor) -> Tensor:
        """x (B, C, H, W), text (B, L, D), mask (B, L) True at tokens → (B, C, H, W)."""
        H, W = x.shape[-2:]
        pixels = self.norm(x.float()).permute(0, 2, 3, 1).flatten(1, 2)  # (B, HW, C)
        kv = self.text_kv(self.text_norm(text))  # (B, L, 2C)
        attn_mask = mask
        if self.to_kv is not None:  # Imagen concatenates the text's keys and values to the pixels'
            kv = torch.cat([self.to_kv(pixels), kv], dim=1)  # (B, HW + L, 2C)
            attn_mask = F.pad(mask, (H * W, 0), value=True)
        k, v = kv.chunk(2, dim=-1)
        if x.is_cuda:
            h = self._attend(pixels, k, v, attn_mask)
        else:
            with torch.autocast(x.device.type, enabled=False):  # bf16 is 1.6 times slower there
                h = self._attend(pixels, k.float(), v.float(), attn_mask)
        h = self.out(h.transpose(1, 2).flatten(2))  # (B, HW, C)
        h = h.transpose(1, 2).reshape(x.shape)
        out: Tensor = (x + h).mul_(self.scale)
        return out

    def _attend(self, pixels: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        """pixels (B, HW, C), k and v (B, N, C), mask (B, N) → (B, heads, HW, head_dim)."""
        q, k, v = (
            z.reshape(*z.shape[:2], -1, self.head_dim).transpose(1, 2)
            for z in (self.to_q(pixels), k, v)
        )  # (B, heads, …, head_dim)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None, :])


class AttentionPool(nn.Module):
    """Attention pooling of the text: token embeddings (B, L, D) → one vector (B, out).

    Each of the heads has its own softmax over the tokens.
    """

    def __init__(self, text_width: int, out: int, heads: int = 8) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(text_width)
        self.score = nn.Linear(text_width, heads)
        self.value = nn.Linear(text_width, heads * 32)
        self.out = nn.Linear(heads * 32, out)
        self.heads = heads

    def forward(self, text: Tensor, mask: Tensor) -> Tensor:
        """text (B, L, D), mask (B, L) True at tokens → (B, out)."""
        states = self.norm(text)
        scores: Tensor = self.score(states)  # (B, L, heads)
        scores = scores.masked_fill(~mask[..., None], -math.inf)
        value = self.value(states).unflatten(-1, (self.heads, -1))  # (B, L, heads, 32)
        pooled = (scores.softmax(dim=1)[..., None] * value).sum(dim=1)  # (B, heads, 32)
        out: Tensor = self.out(pooled.flatten(1))
        return out


class NoiseLevelEmbedding(nn.Module):
    """The noise level, a log-SNR (B,), → (B, width): sines and cosines of 32 frequencies, then an MLP."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.rates: Tensor
        self.register_buffer("rates", torch.exp(torch.linspace(-3, 3, 32)), persistent=False)
        self.layers = nn.Sequential(nn.Linear(64, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, log_snr: Tensor) -> Tensor:
        """log_snr (B,) → (B, width)."""
        phase = log_snr[:, None] * self.rates  # (B, 32)
        out: Tensor = self.layers(torch.cat([phase.sin(), phase.cos()], dim=-1))
        return out


class UNetLevel(nn.Module):
    """What DBlock and UBlock have in common: the embedding, residual blocks, attention.

    level: index into the config's channels, blocks and attention; c_in: channels of the input.
    """

    def __init__(self, c_in: int, level: int, config: UNetConfig) -> None:
        super().__init__()
        c, scale = config.channels[level], config.skip_scale
        # the embedding enters once, before the blocks (CombineEmbs of fig. A.28), or in every block
        self.combine = nn.Linear(config.embedding, c_in) if config.efficient else None
        adaptive = None if config.efficient else config.embedding
        self.blocks = nn.ModuleList(
            ResBlock(c_in if i == 0 else c, c, adaptive, scale) for i in range(config.blocks[level])
        )
        kind = config.attention[level]
        self.attention = (
            Attention(c, config.text_width, config.head_dim, kind, scale) if kind else None
        )

    def forward(self, x: Tensor, emb: Tensor, text: Tensor, mask: Tensor) -> Tensor:
        """x (B, c_in, H, W), emb (B, E), text (B, L, D), mask (B, L) → (B, C, H, W)."""
        if self.combine is not None:
            x = x + self.combine(emb)[:, :, None, None]
        for block in self.blocks:
            x = block(x, emb)
        return x if self.attention is None else self.attention(x, text, mask)


class DBlock(UNetLevel):
    """Strided convolution, then the embedding, residual blocks and attention (fig. A.28)."""

    def __init__(self, c_in: int, level: int, config: UNetConfig, stride: int) -> None:
        super().__init__(config.channels[level], level, config)
        self.down = nn.Conv2d(c_in, config.channels[level], 3, stride=stride, padding=1)

    def forward(self, x: Tensor, emb: Tensor, text: Tensor, mask: Tensor) -> Tensor:
        """x (B, c_in, H, W), emb (B, E), text (B, L, D), mask (B, L) → (B, C, H / stride, W / stride)."""
        return super().forward(self.down(x), emb, text, mask)


class UBlock(UNetLevel):
    """The embedding, residual blocks and attention, then upsampling (fig. A.29)."""

    def __init__(self, c_in: int, level: int, config: UNetConfig, c_out: int, stride: int) -> None:
        super().__init__(c_in, level, config)
        self.up = nn.Sequential(
            nn.Conv2d(config.channels[level], c_out * stride**2, 1), nn.PixelShuffle(stride)
        )

    def forward(self, x: Tensor, emb: Tensor, text: Tensor, mask: Tensor) -> Tensor:
        """x (B, c_in, H, W), emb (B, E), text (B, L, D), mask (B, L) → (B, c_out, H · stride, W · stride)."""
        out: Tensor = self.up(super().forward(x, emb, text, mask))
        return out


class UNet(nn.Module):
    """A noisy image, its log-SNR and text → the prediction of the target (ε, x_0 or v), of the image's shape.

    H and W may be any multiples of the product of the strides.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.channels
        strides = [2 if config.efficient or i else 1 for i in range(len(channels))]
        self.time = NoiseLevelEmbedding(config.embedding)
        self.noise_level = NoiseLevelEmbedding(config.embedding) if config.low_res else None
        self.pool = AttentionPool(config.text_width, config.embedding)
        self.stem = nn.Conv2d(6 if config.low_res else 3, channels[0], 3, padding=1)
        inputs = (channels[0], *channels[:-1])
        self.down = nn.ModuleList(
            DBlock(inputs[i], i, config, strides[i]) for i in range(len(channels))
        )
        # A UBlock upsamples by the stride of its DBlock. All but the lowest have the long skip in their input.
        bottom = len(channels) - 1
        self.up = nn.ModuleList(
            UBlock(
                channels[i] if i == bottom else 2 * channels[i], i, config, inputs[i], strides[i]
            )
            for i in reversed(range(len(channels)))
        )
        # not in the paper: the stem's features are concatenated, a path for fine detail without downsampling
        self.out = nn.Sequential(
            nn.Conv2d(2 * channels[0], channels[0], 3, padding=1),
            nn.SiLU(),
            zero_module(nn.Conv2d(channels[0], 3, 3, padding=1)),
        )

    def forward(
        self,
        x_t: Tensor,
        log_snr: Tensor,
        text: Tensor,
        mask: Tensor,
        low_res: Tensor | None = None,
        low_res_log_snr: Tensor | None = None,
    ) -> Tensor:
        """x_t (B, 3, H, W), log_snr (B,), text (B, L, D), mask (B, L) True at tokens → (B, 3, H, W).

        Super-resolution also takes low_res (B, 3, H, W), upsampled to H × W, and low_res_log_snr (B,), the
        log-SNR of the noise in it. Raises ValueError where they are missing.
        """
        emb = self.time(log_snr) + self.pool(text, mask)  # (B, E)
        if self.noise_level is not None:
            if low_res is None or low_res_log_snr is None:
                raise ValueError("a super-resolution U-Net needs low_res and low_res_log_snr")
            emb = emb + self.noise_level(low_res_log_snr)
            x_t = torch.cat([x_t, low_res], dim=1)  # (B, 6, H, W)
        emb = F.silu(emb)
        stem = h = self.stem(x_t.contiguous(memory_format=torch.channels_last))
        skips = []
        for block in self.down:
            h = block(h, emb, text, mask)
            skips.append(h)
        h = skips.pop()
        for block in self.up:
            h = block(h, emb, text, mask)
            if skips:
                h = torch.cat([h, skips.pop()], dim=1)  # the long skip connection, unscaled
        out: Tensor = self.out(torch.cat([h, stem], dim=1))  # (B, 3, H, W)
        return out


def num_parameters(model: nn.Module) -> int:
    """The number of parameters of a model."""
    return sum(p.numel() for p in model.parameters())
