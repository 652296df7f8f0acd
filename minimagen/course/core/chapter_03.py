"""Chapter 03: which network."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from .base import Core, Draw, same
from .given import group_norm, zero_module


def time_embedding(log_snr, width=64):
    """A number as waves (Vaswani et al. 2017, section 3.5): sines and cosines of many frequencies.

    The width // 2 frequencies run from e⁻³ to e³, ends included, evenly spaced in their logarithm. log_snr
    (B,). Returns (B, width): first all sines of frequency × log_snr, then all cosines, the lowest frequency first.
    """
    rates = torch.exp(torch.linspace(-3, 3, width // 2, device=log_snr.device))  # (width / 2,)
    phase = log_snr[:, None] * rates  # (B, width / 2)
    return torch.cat([phase.sin(), phase.cos()], dim=-1)


class ResBlock(nn.Module):
    """Residual block (Imagen fig. A.27): [GroupNorm → SiLU → 3×3 convolution] twice, beside a skip.

    embedding: its width, or None for a block without one. Layers: norm1, conv1 (c_in → c_out), norm2, conv2
    (c_out → c_out, begins at zero), modulate (Linear, embedding → 2 c_out; None without embedding), skip (1×1
    convolution where c_in ≠ c_out, else nn.Identity()). group_norm(channels) and zero_module(layer) are given.

    forward: x (B, c_in, H, W), emb (B, embedding) → (B, c_out, H, W). After norm2, modulate(emb), if there is
    one, is split into scale and shift, in this order: h · (1 + scale) + shift. The result is (skip(x) + h) / √2.
    """

    def __init__(self, c_in, c_out, embedding=None):
        super().__init__()
        self.norm1, self.conv1 = group_norm(c_in), nn.Conv2d(c_in, c_out, 3, padding=1)
        self.norm2 = group_norm(c_out)
        self.conv2 = zero_module(nn.Conv2d(c_out, c_out, 3, padding=1))
        self.modulate = nn.Linear(embedding, 2 * c_out) if embedding else None
        self.skip = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else nn.Identity()

    def forward(self, x, emb):
        h = self.norm2(self.conv1(F.silu(self.norm1(x))))  # (B, c_out, H, W)
        if self.modulate is not None:
            scale, shift = self.modulate(emb)[:, :, None, None].chunk(2, dim=1)  # (B, c_out, 1, 1)
            h = h * (1 + scale) + shift
        h = self.conv2(F.silu(h))
        return (self.skip(x) + h) / 2**0.5


def attend(q, k, v, head_dim, seen=None):
    """Multi-head attention (Vaswani et al. 2017, eq. 1): softmax(q kᵀ / √head_dim) v, in every head by itself.

    q (B, N, C); k, v (B, M, C). Head i owns the channels i · head_dim to (i + 1) · head_dim: split C first, then
    move the heads before N, and back the same way. seen (B, M), where given, is False for keys that nobody may look
    at. Returns (B, N, C).
    """

    def heads(z):
        return z.unflatten(-1, (-1, head_dim)).transpose(1, 2)  # (B, heads, ·, head_dim)

    q, k, v = heads(q), heads(k), heads(v)
    scores = q @ k.transpose(-1, -2) / head_dim**0.5  # (B, heads, N, M)
    if seen is not None:
        scores = scores.masked_fill(~seen[:, None, None, :], -torch.inf)
    out = scores.softmax(dim=-1) @ v  # (B, heads, N, head_dim)
    return out.transpose(1, 2).flatten(2)


def down_and_up(h, down, up, *context):
    """The way through a U-Net (Ronneberger et al. 2015, fig. 1), with its long skips.

    down and up are equally long lists of blocks; each is called as block(h, *context). The last down block's output
    is the bottom: the first up block gets it alone. The second up block gets torch.cat([h, the output of the last
    down block but one], dim=1), h being what the first up block gave; the third the one before it, and so on.
    Returns what the last up block gave.
    """
    skips = []
    for block in down:
        h = block(h, *context)
        skips.append(h)
    skips.pop()  # the bottom itself
    for i, block in enumerate(up):
        if i > 0:
            h = torch.cat([h, skips.pop()], dim=1)
        h = block(h, *context)
    return h


def _waves(log_snr, width=64):
    """One complex wave a frequency: its imaginary part is the sine, its real part the cosine."""
    rates = torch.logspace(-3, 3, width // 2, base=torch.e, dtype=torch.float64)
    wave = torch.polar(
        torch.ones(len(log_snr), width // 2).double(), log_snr.double()[:, None] * rates
    )
    return torch.cat([wave.imag, wave.real], dim=-1)


def _waves_with(rates, order=lambda s, c: torch.cat([s, c], -1)):
    def embedding(log_snr, width=64):
        phase = log_snr[:, None] * rates(width // 2)
        return order(phase.sin(), phase.cos())

    return embedding


def _rates(n):
    return torch.linspace(-3, 3, n).exp()


def _check_res_block(block):
    draw = Draw(*torch.randint(2**40, (2,)).tolist())
    channels, B, n = draw.sizes(2, 6, 2), draw.size(2, 4), draw.size(5, 8)
    for c_in, c_out, width in (
        (4 * channels[0], 4 * channels[1], 12), (8, 8, 12), (12, 20, None), (8, 8, None),
    ):  # fmt: skip
        own, right = block(c_in, c_out, width), ResBlock(c_in, c_out, width)
        has, wants = ({k: tuple(v.shape) for k, v in z.state_dict().items()} for z in (own, right))
        for name in wants:
            if name not in has:
                return (
                    f"the layer {name.split('.')[0]!r} is missing, or has no {name.split('.')[1]}"
                )
            if has[name] != wants[name]:
                return f"{name} has the shape {has[name]}, it should be {wants[name]}"
        if extra := has.keys() - wants.keys():
            return f"there is a layer too many: {sorted(extra)[0]}"
        x, emb = draw.normal(B, c_in, n, n + 1), draw.normal(B, 12)
        if own.conv2.weight.abs().max() > 0 or own.conv2.bias.abs().max() > 0:
            return "conv2 must begin at zero: zero_module(nn.Conv2d(…))"
        own.load_state_dict(draw.layer(right).state_dict())
        with torch.no_grad():
            given, wanted = own.eval()(x.clone(), emb.clone()), _by_hand(right, x, emb)
            if given is None:
                return "forward returns nothing yet: end it with return"
            if same(given, wanted):
                continue
            for sentence, wrong in _WRONG_BLOCKS.items():
                if same(given, wrong._of(right, x, emb)):
                    return sentence
        if given.shape != wanted.shape:
            return f"the shape is {tuple(given.shape)}, it should be {tuple(wanted.shape)}"
        return "compare forward with the docstring, layer by layer"
    return None


def _by_hand(block, x, emb, act=F.silu, plus=1.0, swap=False, root=2**0.5, before=False, skip=True):
    """The block by functions alone, with one thing changed where asked."""
    p, groups = dict(block.named_parameters()), block.norm1.num_groups
    h = F.group_norm(x, groups, p["norm1.weight"], p["norm1.bias"])
    h = F.conv2d(act(h), p["conv1.weight"], p["conv1.bias"], padding=1)
    scale, shift = torch.zeros(1, 1), torch.zeros(1, 1)
    if "modulate.weight" in p:
        scale, shift = F.linear(emb, p["modulate.weight"], p["modulate.bias"]).chunk(2, 1)
        scale, shift = (shift, scale) if swap else (scale, shift)
    else:
        plus = 1.0
    scale, shift = scale[:, :, None, None], shift[:, :, None, None]
    h = h * (plus + scale) + shift if before else h
    h = F.group_norm(h, block.norm2.num_groups, p["norm2.weight"], p["norm2.bias"])
    h = h if before else h * (plus + scale) + shift
    h = F.conv2d(act(h), p["conv2.weight"], p["conv2.bias"], padding=1)
    beside = F.conv2d(x, p["skip.weight"], p["skip.bias"]) if "skip.weight" in p else x
    return ((beside if skip else 0) + h) / root


def _block_with(**change):
    class Wrong(ResBlock):
        def forward(self, x, emb):
            return _by_hand(self, x, emb, **change)

        @staticmethod
        def _of(block, x, emb):
            return _by_hand(block, x, emb, **change)

    return Wrong


_WRONG_BLOCKS = {
    "the sum is not divided by √2: with every block the numbers would grow": _block_with(root=1.0),
    "the sum is divided by 2: it must be √2": _block_with(root=2.0),
    "h is multiplied by scale: it must be 1 + scale, so that a scale of 0 changes nothing": _block_with(
        plus=0.0
    ),
    "scale and shift are swapped: scale is the first half": _block_with(swap=True),
    "scale and shift come before norm2: the norm takes them out again": _block_with(before=True),
    "the activation is ReLU: the paper has SiLU": _block_with(act=F.relu),
    "the skip is missing: add skip(x) to what came out of conv2": _block_with(skip=False),
}


def _attend_plainly(q, k, v, head_dim, seen=None):
    """Picture by picture, head by head, query by query, over the keys that are seen."""
    out = torch.zeros_like(q, dtype=torch.float64)
    for b in range(len(q)):
        keep = slice(None) if seen is None else seen[b]
        for first in range(0, q.shape[-1], head_dim):
            own = slice(first, first + head_dim)
            for n in range(q.shape[1]):
                odds = (k[b, keep, own].double() @ q[b, n, own].double() / head_dim**0.5).exp()
                out[b, n, own] = (odds / odds.sum()) @ v[b, keep, own].double()
    return out


def _attend_with(scale=lambda d, C: d**-0.5, axis=-1, masked=True, split="right", merge="right"):
    def wrong(q, k, v, head_dim, seen=None):
        def heads(z):
            if split == "view":
                return z.reshape(len(z), -1, z.shape[1], head_dim)
            if split == "comb":
                return z.unflatten(-1, (head_dim, -1)).permute(0, 3, 1, 2)
            return z.unflatten(-1, (-1, head_dim)).transpose(1, 2)

        shape = q.shape
        scores = heads(q) @ heads(k).transpose(-1, -2) * scale(head_dim, q.shape[-1])
        if seen is not None and masked is True:
            scores = scores.masked_fill(~seen[:, None, None, :], -torch.inf)
        if seen is not None and masked == "zero":
            scores = scores * seen[:, None, None, :]
        out = scores.softmax(dim=axis) @ heads(v)
        return out.reshape(shape) if merge == "view" else out.transpose(1, 2).flatten(2)

    return wrong


def _cases_of_attend(d):
    made = []
    for masked in (False, True, True):
        (B, N, M), dim = d.sizes(2, 7, 3), d.choice((3, 4, 5))
        C = dim * d.size(2, 3)
        made.append((d.normal(B, N, C), d.normal(B, M, C), d.normal(B, M, C), dim)
                    + ((d.mask(B, M),) if masked else ()))  # fmt: skip
    return made


def _block(d, c_in, c_out, stride=0):
    """A block that a U-Net could have: a convolution; stride < 0 doubles the side."""
    if stride < 0:
        conv = nn.ConvTranspose2d(c_in, c_out, 2, stride=2)
    else:
        conv = nn.Conv2d(c_in, c_out, 3, stride=stride or 1, padding=1)
    layer = d.layer(conv)
    return lambda h, *context: torch.tanh(layer(h) + sum(z.mean() for z in context))


def _cases_of_u(d):
    made = []
    for levels, context in ((3, 1), (2, 0), (4, 2)):
        c = d.sizes(2, 9, levels)
        down = [_block(d, c[max(0, i - 1)], c[i], 2 if i else 1) for i in range(levels)]
        up = [
            _block(d, c[i] * (1 if i == levels - 1 else 2), c[max(0, i - 1)], -1 if i else 1)
            for i in reversed(range(levels))
        ]
        B, n = d.size(1, 3), 2 ** (levels - 1) * d.size(2, 3)
        made.append((d.normal(B, c[0], n, n), down, up, *(d.normal(B, 5) for _ in range(context))))
    return made


def _recursive(h, down, up, *context):
    """A U in a U: the inner one gives what the outer up block joins with its own down block's output."""
    here = down[0](h, *context)
    if len(down) == 1:
        return up[0](here, *context)
    return up[-1](torch.cat([_recursive(here, down[1:], up[:-1], *context), here], dim=1), *context)


def _u_with(join):
    def wrong(h, down, up, *context):
        skips = []
        for block in down:
            h = block(h, *context)
            skips.append(h)
        for i, block in enumerate(up):
            h = block(join(h, skips[len(down) - 1 - i]) if i else h, *context)
        return h

    return wrong


def _without_context(h, down, up, *context):
    return down_and_up(h, [lambda h, b=b: b(h) for b in down], [lambda h, b=b: b(h) for b in up])


def _fit(h, channels):
    """A skip that was forgotten: nothing stands where it belongs."""
    return torch.cat([h, torch.zeros_like(channels)], dim=1)


CORE = (
    Core(
        3,
        time_embedding,
        hints=(
            "First the frequencies: <code>torch.linspace</code> from −3 to 3, then <code>torch.exp</code>. "
            "Then every number times every frequency.",
            "<code>phase = log_snr[:, None] * rates</code> has the shape (B, width / 2). Join its sines and "
            "cosines with <code>torch.cat</code> along the last axis.",
        ),
        cases=lambda d: [(d.uniform(-1.5, 1.5, d.size(2, 6)), 64)]
        + [(d.uniform(-1.5, 1.5, d.size(2, 6)), 2 * d.size(4, 20)) for _ in range(2)],
        oracle=_waves,
        mistakes={
            "sines come first, then cosines: they are the other way round":
                _waves_with(_rates, lambda s, c: torch.cat([c, s], -1)),
            "sine and cosine take turns: first all sines, then all cosines":
                _waves_with(_rates, lambda s, c: torch.stack([s, c], -1).flatten(1)),
            "the frequencies are evenly spaced themselves: it is their logarithms that should be":
                _waves_with(lambda n: torch.linspace(torch.e**-3, torch.e**3, n)),
            "the frequencies are the logarithms: take their exponential": _waves_with(lambda n: torch.linspace(-3, 3, n)),
            "the frequencies fall: they should rise": _waves_with(lambda n: _rates(n).flip(0)),
            "powers of ten instead of e": _waves_with(lambda n: 10 ** torch.linspace(-3, 3, n)),
        },
    ),
    Core(
        3,
        ResBlock,
        hints=(
            "Write __init__ from the list of layers first, each name as it stands there. In forward, h goes through "
            "norm1, SiLU, conv1, norm2, modulation, SiLU, conv2.",
            "<code>scale, shift = self.modulate(emb)[:, :, None, None].chunk(2, dim=1)</code>, and "
            "<code>h = h * (1 + scale) + shift</code>; only where <code>self.modulate</code> is not None.",
        ),
        check=_check_res_block,
        mistakes=dict(_WRONG_BLOCKS),
    ),
    Core(
        3,
        attend,
        hints=(
            "Make (B, N, C) into (B, heads, N, head_dim) first: <code>unflatten</code> the last axis, then "
            "<code>transpose(1, 2)</code>. Matrix products then work in every head by itself.",
            "<code>scores = q @ k.transpose(-1, -2) / head_dim**0.5</code>, where not seen −∞ "
            "(<code>masked_fill</code>), softmax over the last axis, <code>@ v</code>; then undo what made the heads.",
        ),
        cases=_cases_of_attend,
        oracle=_attend_plainly,
        mistakes={
            "the scores are not divided by √head_dim": _attend_with(scale=lambda d, C: 1.0),
            "the scores are divided by head_dim: take its root": _attend_with(scale=lambda d, C: 1 / d),
            "the scores are divided by the root of all channels: each head has only head_dim of them":
                _attend_with(scale=lambda d, C: C**-0.5),
            "softmax runs over the queries: each query's shares must add up to one over the keys":
                _attend_with(axis=-2),
            "softmax runs over the heads: it belongs over the keys, the last axis": _attend_with(axis=1),
            "`seen` is not used: keys that must not be seen got attention": _attend_with(masked=False),
            "a score of 0 still gets attention: it must be −∞ where a key is not seen": _attend_with(masked="zero"),
            "the heads are cut across pixels: unflatten the channels, then transpose": _attend_with(split="view"),
            "a head owns neighbouring channels: (heads, head_dim), in this order": _attend_with(split="comb"),
            "the heads are not put back: transpose before flatten": _attend_with(merge="view"),
        },
    ),
    Core(
        3,
        down_and_up,
        hints=(
            "Keep what every down block gives in a list. On the way up take from its end.",
            "<code>skips.pop()</code> gives the last one. Pop the bottom first: it is already h. Before every up "
            "block but the first: <code>h = torch.cat([h, skips.pop()], dim=1)</code>.",
        ),
        cases=_cases_of_u,
        oracle=_recursive,
        mistakes={
            "the skip stands first: what came up stands first, then the skip":
                _u_with(lambda h, s: torch.cat([s, h], 1)),
            "the skips are missing: half of what an up block reads is nothing": _u_with(_fit),
            "what came up is lost: the skip stands there twice": _u_with(lambda h, s: torch.cat([s, s], 1)),
            "the context does not reach the blocks: block(h, *context)": _without_context,
        },
        errors={
            "expected input.*channels": "an up block got a wrong number of channels: all but the first get what came "
            "up and the skip of their own resolution, joined over channels; the last kept is joined first",
            "Sizes of tensors must match": "what came up and the skip have different sides: the last kept is joined "
            "first, and the bottom itself is no skip",
        },
    ),
)  # fmt: skip
