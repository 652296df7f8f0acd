"""Chapter 06: how a sentence becomes vectors. The three places where a T5 encoder differs from a plain one."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from .base import Core


def rms_norm(x, weight, eps=1e-6):
    """Root mean square norm (Zhang & Sennrich 2019, eq. 4): x / √(mean(x²) + eps) · weight, over the last axis.

    x (…, D); weight (D,). No mean is taken off, and no bias added. Returns (…, D).
    """
    return x * torch.rsqrt(x.square().mean(dim=-1, keepdim=True) + eps) * weight


def relative_position_bucket(relative_position, buckets=32, max_distance=128):
    """T5's buckets (Raffel et al. 2020, section 2.1): near places get a number each, far ones share one.

    relative_position: place of the key minus place of the query, whole numbers of any shape, all at once
    (torch.where chooses number by number). Let half = buckets / 2
    and exact = half / 2. n = |relative_position|. For n < exact the bucket is n. From there it is
    exact + log(n / exact) / log(max_distance / exact) · (half − exact), rounded down, at most half − 1.
    Keys to the right of the query (relative_position > 0) have buckets of their own: half more. Returns whole
    numbers (torch.long), of the same shape.
    """
    half, n = buckets // 2, relative_position.abs()
    exact = half // 2
    far = (
        torch.log(n.float().clamp(min=1) / exact) / math.log(max_distance / exact) * (half - exact)
    )
    bucket = torch.where(n < exact, n, (exact + far.long()).clamp(max=half - 1))
    return bucket + half * (relative_position > 0).long()


def t5_attention(q, k, v, bias, mask):
    """Attention as T5 has it: softmax(q kᵀ + bias) v. Nothing is divided by a root; T5's weights hold that.

    q, k, v (B, heads, L, d); bias (1, heads, L, L), a number for every head and distance; mask (B, L), False where
    there is only padding: no query may look at a key there. Returns (B, heads, L, d).
    """
    scores = q @ k.transpose(-1, -2) + bias  # (B, heads, L, L)
    scores = scores.masked_fill(~mask[:, None, None, :], -torch.inf)
    return scores.softmax(dim=-1) @ v


def _buckets_one_by_one(relative_position, buckets=32, max_distance=128):
    """For every number by itself: the last far bucket whose first member is not beyond n."""
    half = buckets // 2
    exact = half // 2
    firsts = [exact * (max_distance / exact) ** (i / (half - exact)) for i in range(half - exact)]

    def bucket(r):
        n = abs(r)
        low = n if n < exact else exact - 1 + sum(first <= n + 1e-6 for first in firsts)
        return low + (half if r > 0 else 0)

    flat = [bucket(r) for r in relative_position.flatten().tolist()]
    return torch.tensor(flat).reshape(relative_position.shape)


def _buckets_with(
    sign=1, exact=lambda half: half // 2, cap=True, both=True, log=True, whole=torch.Tensor.long,
    right=lambda r: r > 0, most=lambda buckets: buckets // 2 - 1,
):  # fmt: skip
    def wrong(relative_position, buckets=32, max_distance=128):
        r = sign * relative_position
        half, n = buckets // 2 if both else buckets, r.abs()
        near = exact(half)
        far = (
            torch.log(n.float().clamp(min=1) / near) / math.log(max_distance / near) * (half - near)
        )
        if not log:
            far = (n - near).float() / (max_distance - near) * (half - near)
        far = near + whole(far).long()
        top = most(buckets) if both else half - 1
        bucket = torch.where(n < near, n, far.clamp(max=top) if cap else far)
        return bucket + half * right(r).long() if both else bucket

    return wrong


def _cases_of_buckets(d):
    made = []
    for buckets, longest in ((32, 128), (16, 64), (32, 256)):
        places = torch.arange(d.size(20, 40))
        made.append((places[None, :] - places[:, None], buckets, longest))
        made.append((d.integers(-3 * longest, 3 * longest, d.size(20, 30)), buckets, longest))
    return made


def _cases_of_attention(d):
    made = []
    for _ in range(2):
        B, heads, L, dim = d.sizes(2, 7, 4)
        q, k, v = (d.normal(B, heads, L, dim) for _ in range(3))
        made.append((q, k, v, d.normal(1, heads, L, L), d.mask(B, L)))
    return made


def _softmax(scores, v, axis=-1):
    return scores.softmax(dim=axis) @ v


def _hidden(scores, mask):
    return scores.masked_fill(~mask[:, None, None, :], -torch.inf)


def _both_hidden(scores, mask, by):
    return scores.masked_fill(~(mask[:, None, None, :] & mask[:, None, :, None]), by)


def _norms(d):
    shapes = ((d.size(2, 4), d.size(3, 6), d.size(5, 12)), (d.size(2, 4), d.size(5, 12)))
    return [
        (size * d.normal(*shape) + off, d.uniform(0.5, 2, shape[-1]))
        for shape in shapes
        for size, off in ((1.0, 1.0), (2e-3, 0.0))  # small numbers, where eps shows
    ]


CORE = (
    Core(
        6,
        rms_norm,
        hints=(
            "Mean of the squares over the last axis, with keepdim=True; add eps; then the root.",
            "<code>torch.rsqrt(a)</code> is 1 / √a, with <code>a = x.square().mean(dim=-1, keepdim=True) + eps</code>.",
        ),
        cases=_norms,
        oracle=lambda x, weight, eps=1e-6: F.rms_norm(x.double(), x.shape[-1:], weight.double(), eps),
        mistakes={
            "the mean is taken off first: that is a LayerNorm":
                lambda x, w, eps=1e-6: F.layer_norm(x, x.shape[-1:], w, None, eps),
            "the weight is missing": lambda x, w, eps=1e-6: F.rms_norm(x, x.shape[-1:], None, eps),
            "eps stands outside the root: add it to the mean of the squares":
                lambda x, w, eps=1e-6: x / (x.square().mean(-1, keepdim=True).sqrt() + eps) * w,
            "eps is missing": lambda x, w, eps=1e-6: x / x.square().mean(-1, keepdim=True).sqrt() * w,
            "x is divided by its length: the mean of the squares, not their sum":
                lambda x, w, eps=1e-6: x / (x.square().sum(-1, keepdim=True) + eps).sqrt() * w,
            "the root is missing: x is divided by the mean of the squares":
                lambda x, w, eps=1e-6: x / (x.square().mean(-1, keepdim=True) + eps) * w,
            "the mean runs over all axes: over the last one alone":
                lambda x, w, eps=1e-6: x / (x.square().mean() + eps).sqrt() * w,
        },
        errors={"size of tensor|must match": "two shapes do not fit: keepdim=True keeps the last axis, (…, 1)"},
    ),
    Core(
        6,
        relative_position_bucket,
        hints=(
            "First forget the sign: find the bucket of n. <code>torch.where(n < exact, near, far)</code> joins the "
            "two cases. log(0) does no harm if n is at least 1 there: <code>n.float().clamp(min=1)</code>.",
            "<code>far = exact + (torch.log(n.float().clamp(min=1) / exact) / math.log(max_distance / exact) * "
            "(half - exact)).long()</code>, at most <code>half - 1</code>. At the end add half where "
            "<code>relative_position > 0</code>.",
        ),
        cases=_cases_of_buckets,
        oracle=_buckets_one_by_one,
        mistakes={
            "left and right are swapped: keys to the right get half more": _buckets_with(sign=-1),
            "left and right share their buckets: half of them belong to the right": _buckets_with(both=False),
            "far places must stop at half − 1, or they run into the other side's buckets": (
                _buckets_with(cap=False), _buckets_with(most=lambda buckets: buckets - 1),
                _buckets_with(most=lambda buckets: buckets // 2)),
            "far places are rounded down: .long() does that, .round() and .ceil() do not": (
                _buckets_with(whole=torch.round), _buckets_with(whole=torch.ceil)),
            "a key in its query's own place is not to its right: half more is for relative_position > 0, not >= 0":
                _buckets_with(right=lambda r: r >= 0),
            "far places share buckets by their logarithm, not evenly": _buckets_with(log=False),
            "half of a side's buckets are exact: exact = half / 2": _buckets_with(exact=lambda half: half // 4),
        },
    ),
    Core(
        6,
        t5_attention,
        hints=(
            "Scores first, (B, heads, L, L): queries down, keys across. The mask says which keys count.",
            "<code>mask[:, None, None, :]</code> lies over the keys. Where it is False the score is −∞, before the "
            "softmax over the last axis.",
        ),
        cases=_cases_of_attention,
        oracle=lambda q, k, v, bias, mask: F.scaled_dot_product_attention(
            q, k, v, attn_mask=bias.masked_fill(~mask[:, None, None, :], -torch.inf), scale=1.0),
        mistakes={
            "T5 does not divide by √d": (
                lambda q, k, v, b, m: _softmax(_hidden(q @ k.mT / q.shape[-1] ** 0.5 + b, m), v),
                lambda q, k, v, b, m: _softmax(_hidden((q @ k.mT + b) / q.shape[-1] ** 0.5, m), v)),
            "the bias is missing": lambda q, k, v, b, m: _softmax(_hidden(q @ k.mT, m), v),
            "the mask is not used: padding is attended to": lambda q, k, v, b, m: _softmax(q @ k.mT + b, v),
            "the mask is turned round: only padding is attended to": lambda q, k, v, b, m: _softmax(
                (q @ k.mT + b).masked_fill(m[:, None, None, :], -torch.inf), v),
            "the mask lies over the queries: it belongs over the keys, the last axis": (
                lambda q, k, v, b, m: _softmax((q @ k.mT + b).masked_fill(~m[:, None, :, None], -torch.inf), v),
                lambda q, k, v, b, m: _softmax((q @ k.mT + b).masked_fill(~m[:, None, :, None], -1e9), v),
                lambda q, k, v, b, m: _softmax(
                    (q @ k.mT + b).masked_fill(~m[:, None, :, None], -torch.inf), v).nan_to_num(),
                lambda q, k, v, b, m: _softmax(q @ k.mT + b, v) * m[:, None, :, None]),
            "the mask lies over queries and keys: over the keys alone, the last axis": (
                lambda q, k, v, b, m: _softmax(_both_hidden(q @ k.mT + b, m, -torch.inf), v),
                lambda q, k, v, b, m: _softmax(_both_hidden(q @ k.mT + b, m, -1e9), v),
                lambda q, k, v, b, m: _softmax(_hidden(q @ k.mT + b, m), v) * m[:, None, :, None]),
            "padding is taken out after the softmax: the shares do not add up to one any more":
                lambda q, k, v, b, m: ((q @ k.mT + b).softmax(-1) * m[:, None, None, :]) @ v,
            "the softmax is missing: scores are no shares":
                lambda q, k, v, b, m: ((q @ k.mT + b) * m[:, None, None, :]) @ v,
            "softmax runs over the queries: each query's shares must add up to one over the keys": (
                lambda q, k, v, b, m: _softmax(_hidden(q @ k.mT + b, m), v, -2),
                lambda q, k, v, b, m: _softmax(_hidden(q @ k.mT + b, m).nan_to_num(neginf=-1e9), v, -2)),
            "a score of 0 still gets attention: it must be −∞ on padding": lambda q, k, v, b, m: _softmax(
                (q @ k.mT + b) * m[:, None, None, :], v),
            "keys and values are swapped": lambda q, k, v, b, m: _softmax(_hidden(q @ v.mT + b, m), k),
        },
    ),
)  # fmt: skip
