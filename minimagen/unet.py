"""The U-Nets of Imagen (appendix B, figures A.27 to A.30): one class, three shapes.

The base is in the style of ADM (Dhariwal & Nichol 2021): embeddings modulate every block, text joins the
keys and values of self-attention. The super-resolution stages are Efficient U-Nets: every DBlock strides
first, most blocks sit at low resolution, and a UBlock ends with its upsample.

Where it departs from the figures: the base has no block in the middle, strides by convolution, and has one
attention and one long skip a level. Efficient blocks add their embeddings once, without scale and shift. A
UBlock upsamples by 1×1 convolution and pixel shuffle. An equal number of channels is skipped over without a
convolution. The stem's features join again before the last layers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class UNetConfig:
    """Everything that shapes a U-Net.

    channels, blocks, attention: channels, residual blocks and kind of attention at each level, from fine to
    coarse. attention "self": over pixels, with the text's keys and values joined; "cross": over the text
    only; "": none. efficient: stride in every DBlock, embeddings once a block (the paper's SR models).
    """

    channels: tuple[int, ...] = (48, 128, 192)
    blocks: tuple[int, ...] = (1, 2, 2)
    attention: tuple[str, ...] = ("", "self", "self")
    text_width: int = 256
    embedding: int = 160  # channels of the time, noise-level and pooled-text embedding
    head_dim: int = 32  # channels an attention head; Imagen has 64, too many for channels like ours
    efficient: bool = False
    low_res: bool = False  # is a low-resolution picture given, and the level of noise in it?
    skip_scale: float = 1 / math.sqrt(2)  # of the residual sum, after SR3 and score-SDE

    def __post_init__(self) -> None:
        for name in ("channels", "blocks", "attention"):
            object.__setattr__(self, name, tuple(getattr(self, name)))  # JSON brings lists
        if not len(self.channels) == len(self.blocks) == len(self.attention):
            raise ValueError("channels, blocks and attention must have one entry a level each")
        if any(a not in ("", "self", "cross") for a in self.attention):
            raise ValueError(
                f"attention is '', 'self' or 'cross' at each level, not {self.attention}"
            )
        if any(a and w % self.head_dim for a, w in zip(self.attention, self.channels, strict=True)):
            raise ValueError(
                f"channels with attention must be multiples of head_dim={self.head_dim}: {self.channels}"
            )


PRESETS: dict[str, UNetConfig] = {
    # named after the paper's models: 64×64 base, 64 → 256 and 256 → 1024, each a quarter of the side
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
    """Group norm of at most 16 groups: 48 channels are divided by 16, 24 only by 8.

    Give it fp32, in half precision too: a mean over thousands of numbers, and a CPU takes three times as long.
    """
    return nn.GroupNorm(math.gcd(channels, 16), channels)


def zero_module(layer: nn.Conv2d | nn.Linear) -> nn.Conv2d | nn.Linear:
    """Start a branch at nothing, so that a fresh block is (nearly) the identity."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


class ResBlock(nn.Module):
    """GroupNorm → SiLU → 3×3, twice, beside a skip (fig. A.27); the sum is scaled by 1/√2."""

    def __init__(self, c_in: int, c_out: int, embedding: int | None, scale: float) -> None:
        super().__init__()
        self.norm1, self.conv1 = group_norm(c_in), nn.Conv2d(c_in, c_out, 3, padding=1)
        self.norm2, self.conv2 = (
            group_norm(c_out),
            zero_module(nn.Conv2d(c_out, c_out, 3, padding=1)),
        )
        self.modulate = nn.Linear(embedding, 2 * c_out) if embedding else None
        self.skip = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else nn.Identity()
        self.scale = scale

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x.float())))  # (B, C, H, W)
        h = self.norm2(h.float())
        if self.modulate is not None:  # ADM's adaptive group norm: scale and shift by the embedding
            scale, shift = self.modulate(emb)[:, :, None, None].chunk(2, dim=1)
            h = torch.addcmul(shift, h, 1 + scale)  # h · (1 + scale) + shift in one pass
        h = self.conv2(F.silu(h))
        return (self.skip(x) + h).mul_(self.scale)


class Attention(nn.Module):
    """Queries from pixels; keys and values from pixels and text joined ("self"), or text only ("cross")."""

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
        B, C, H, W = x.shape
        pixels = self.norm(x.float()).permute(0, 2, 3, 1).flatten(1, 2)  # (B, HW, C)
        kv, seen = self.text_kv(self.text_norm(text)), mask  # (B, L, 2C), (B, L)
        if self.to_kv is not None:  # Imagen: the text's keys and values join those of the pixels
            kv = torch.cat([self.to_kv(pixels), kv], dim=1)  # (B, HW + L, 2C)
            seen = F.pad(mask, (H * W, 0), value=True)

        def heads(z: Tensor) -> Tensor:
            return z.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)  # (B, heads, N, head)

        q, k, v = (heads(z.float()) for z in (self.to_q(pixels), *kv.chunk(2, dim=-1)))
        with torch.autocast(x.device.type, enabled=False):  # a CPU takes twice as long in bf16
            h = F.scaled_dot_product_attention(q, k, v, attn_mask=seen[:, None, None, :])
        h = self.out(h.transpose(1, 2).flatten(2))  # (B, HW, C)
        return (x + h.unflatten(1, (H, W)).permute(0, 3, 1, 2)).mul_(self.scale)


class AttentionPool(nn.Module):
    """Text states (B, L, D) → one vector (B, out): each head learns which tokens to look at."""

    def __init__(self, text_width: int, out: int, heads: int = 8) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(text_width)
        self.score = nn.Linear(text_width, heads)
        self.value = nn.Linear(text_width, heads * 32)
        self.out = nn.Linear(heads * 32, out)
        self.heads = heads

    def forward(self, text: Tensor, mask: Tensor) -> Tensor:
        states = self.norm(text)
        scores = self.score(states).masked_fill(~mask[..., None], -math.inf)  # (B, L, heads)
        value = self.value(states).unflatten(-1, (self.heads, -1))  # (B, L, heads, 32)
        pooled = (scores.softmax(dim=1)[..., None] * value).sum(dim=1)  # (B, heads, 32)
        return self.out(pooled.flatten(1))


class NoiseLevelEmbedding(nn.Module):
    """A log-SNR (B,) → (B, width): sines of many frequencies, then two layers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.rates: Tensor
        self.register_buffer("rates", torch.exp(torch.linspace(-3, 3, 32)), persistent=False)
        self.layers = nn.Sequential(nn.Linear(64, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, log_snr: Tensor) -> Tensor:
        phase = log_snr[:, None] * self.rates  # (B, 32)
        return self.layers(torch.cat([phase.sin(), phase.cos()], dim=-1))


class UNetLevel(nn.Module):
    """What a DBlock and a UBlock share: embeddings, residual blocks, attention.

    x (B, C, H, W); emb (B, E), of time, text and noise level; text (B, L, D); mask (B, L).
    """

    def __init__(self, c_in: int, level: int, config: UNetConfig) -> None:
        super().__init__()
        c, scale = config.channels[level], config.skip_scale
        adaptive = None if config.efficient else config.embedding
        # the paper's CombineEmbs
        self.combine = nn.Linear(config.embedding, c_in) if config.efficient else None
        self.blocks = nn.ModuleList(
            ResBlock(c_in if i == 0 else c, c, adaptive, scale) for i in range(config.blocks[level])
        )
        kind = config.attention[level]
        self.attention = (
            Attention(c, config.text_width, config.head_dim, kind, scale) if kind else None
        )

    def forward(self, x: Tensor, emb: Tensor, text: Tensor, mask: Tensor) -> Tensor:
        if self.combine is not None:
            x = x + self.combine(emb)[:, :, None, None]
        for block in self.blocks:
            x = block(x, emb)
        return x if self.attention is None else self.attention(x, text, mask)


class DBlock(UNetLevel):
    """Strided convolution first (fig. A.28), then embeddings, residual blocks, attention."""

    def __init__(self, c_in: int, level: int, config: UNetConfig, stride: int) -> None:
        super().__init__(config.channels[level], level, config)
        self.down = nn.Conv2d(c_in, config.channels[level], 3, stride=stride, padding=1)

    def forward(self, x: Tensor, emb: Tensor, text: Tensor, mask: Tensor) -> Tensor:
        return super().forward(self.down(x), emb, text, mask)  # (B, C, H / stride, W / stride)


class UBlock(UNetLevel):
    """Embeddings, residual blocks, attention, and the upsample last (fig. A.29)."""

    def __init__(self, c_in: int, level: int, config: UNetConfig, c_out: int, stride: int) -> None:
        super().__init__(c_in, level, config)
        self.up = nn.Sequential(
            nn.Conv2d(config.channels[level], c_out * stride**2, 1), nn.PixelShuffle(stride)
        )

    def forward(self, x: Tensor, emb: Tensor, text: Tensor, mask: Tensor) -> Tensor:
        return self.up(super().forward(x, emb, text, mask))  # (B, C, H * stride, W * stride)


class UNet(nn.Module):
    """Noisy picture, log-SNR and text in; the target (ε, x_0 or v) out, of the picture's shape.

    x_t (B, 3, H, W) in about [−1, 1] plus noise; log_snr (B,); text (B, L, text_width); mask (B, L), True
    where there is a token. Super-resolution also takes low_res (B, 3, H, W), already enlarged to H × W, and
    the log-SNR of the noise in it, low_res_log_snr (B,). Any H, W that the strides divide.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config, channels = config, config.channels
        strides = [2 if config.efficient or i else 1 for i in range(len(channels))]
        self.time = NoiseLevelEmbedding(config.embedding)
        self.noise_level = NoiseLevelEmbedding(config.embedding) if config.low_res else None
        self.pool = AttentionPool(config.text_width, config.embedding)
        self.stem = nn.Conv2d(6 if config.low_res else 3, channels[0], 3, padding=1)
        inputs = (channels[0], *channels[:-1])
        self.down = nn.ModuleList(
            DBlock(inputs[i], i, config, strides[i]) for i in range(len(channels))
        )
        # each UBlock undoes its DBlock's stride; the coarsest has nothing to join: the bottom is its input
        bottom = len(channels) - 1
        self.up = nn.ModuleList(
            UBlock(
                channels[i] if i == bottom else 2 * channels[i], i, config, inputs[i], strides[i]
            )
            for i in reversed(range(len(channels)))
        )
        # not in the paper: the stem's features join again, for fine detail needs a path without a stride
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
                h = torch.cat([h, skips.pop()], dim=1)  # the long skip, unscaled
        return self.out(torch.cat([h, stem], dim=1))  # (B, 3, H, W)


def num_parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())
