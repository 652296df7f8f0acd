"""Chapter 07: how words reach the pixels."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from .base import Core
from .chapter_03 import attend
from .given import null_text


def attention_pool(scores, values, mask):
    """Attention pooling (Imagen section 2.2): a sentence as one vector; each head weighs the tokens as it likes.

    scores (B, L, heads): a number for every token and head; values (B, L, heads, d); mask (B, L), False on padding.
    In every head: softmax of the scores over L, the tokens, padding left out; the sum of the values with these
    shares. Returns (B, heads · d), head after head.
    """
    shares = scores.masked_fill(~mask[..., None], -torch.inf).softmax(dim=1)  # (B, L, heads)
    return (shares[..., None] * values).sum(dim=1).flatten(1)


def joined_attention(q, k, v, text_k, text_v, mask, head_dim):
    """Words among pixels (Imagen section 2.2): the text's keys and values stand behind the pixels' own.

    q, k, v (B, N, C) of N pixels; k and v are None where a pixel may ask the text only (cross-attention). text_k,
    text_v (B, L, C); mask (B, L), False on padding: no pixel may look there. One softmax over pixels and words
    together. attend(q, k, v, head_dim, seen) of chapter 03 does the rest; its seen (B, N + L) is True for every
    pixel, then the mask. Returns (B, N, C).
    """
    if k is None:
        return attend(q, text_k, text_v, head_dim, mask)
    pixels = mask.new_ones(k.shape[:2])  # (B, N): every pixel may be seen
    k, v = torch.cat([k, text_k], dim=1), torch.cat([v, text_v], dim=1)  # (B, N + L, C)
    return attend(q, k, v, head_dim, torch.cat([pixels, mask], dim=1))


def drop_captions(text, mask, share, u):
    """In training, some captions say nothing (Ho & Salimans 2022; Imagen: one in ten), so that guidance can work.

    text (B, L, D), mask (B, L); u (B,) from U(0, 1): where u < share, the caption is replaced by what
    null_text(text, mask) gives (given: the same shapes; states of zeros, a mask that is True at the first
    token alone). Returns text and mask.
    """
    nothing, alone = null_text(text, mask)
    dropped = u < share  # (B,)
    text = torch.where(dropped[:, None, None], nothing, text)
    return text, torch.where(dropped[:, None], alone, mask)


def _pool_plainly(scores, values, mask):
    """Caption by caption, over its own tokens only."""
    rows = []
    for score, value, own in zip(scores.double(), values.double(), mask, strict=True):
        odds = score[own].exp()  # (tokens, heads)
        rows.append(torch.einsum("lh,lhd->hd", odds / odds.sum(0), value[own]).flatten())
    return torch.stack(rows)


def _joined_plainly(q, k, v, text_k, text_v, mask, head_dim):
    """Caption by caption, padding cut off."""
    rows = []
    for b in range(len(q)):
        keys = [text_k[b, mask[b]]] + ([] if k is None else [k[b]])
        values = [text_v[b, mask[b]]] + ([] if v is None else [v[b]])
        split = [
            z.unflatten(-1, (-1, head_dim)).transpose(0, 1)
            for z in (q[b], torch.cat(keys), torch.cat(values))
        ]
        rows.append(F.scaled_dot_product_attention(*split).transpose(0, 1).flatten(1))
    return torch.stack(rows)


def _pool(shares, values):
    return (shares[..., None] * values).sum(dim=1).flatten(1)


def _hidden(scores, mask, by=-torch.inf):
    return scores.masked_fill(~mask[..., None], by)


def _joined_with(
    seen=lambda q, mask: torch.cat([mask.new_ones(q.shape[:2]), mask], 1), words=True, pixels=True
):
    def wrong(q, k, v, text_k, text_v, mask, head_dim):
        if k is None:
            return attend(q, text_k, text_v, head_dim, mask if seen(q, mask) is not None else None)
        if not words:
            return attend(q, k, v, head_dim)
        if not pixels:
            return attend(q, text_k, text_v, head_dim, mask)
        return attend(
            q, torch.cat([k, text_k], 1), torch.cat([v, text_v], 1), head_dim, seen(q, mask)
        )

    return wrong


def _two_softmaxes(q, k, v, text_k, text_v, mask, head_dim):
    words = attend(q, text_k, text_v, head_dim, mask)
    return words if k is None else words + attend(q, k, v, head_dim)


def _cases_of_pool(d):
    made = []
    for _ in range(2):
        B, L, heads, dim = d.sizes(2, 7, 4)
        made.append((2 * d.normal(B, L, heads), d.normal(B, L, heads, dim), d.mask(B, L)))
    return made


def _cases_of_joined(d):
    made = []
    for cross in (False, False, True):
        (B, N, L), dim = d.sizes(2, 8, 3), d.size(2, 5)
        C = dim * d.size(2, 3)
        q, k, v = (d.normal(B, N, C) for _ in range(3))
        k, v = (None, None) if cross else (k, v)
        made.append((q, k, v, d.normal(B, L, C), d.normal(B, L, C), d.mask(B, L), dim))
    return made


def _cases_of_dropping(d):
    made = []
    for share in (0.5, 0.1):
        B, L, D = d.size(6, 10), d.size(3, 6), d.size(2, 5)
        u = d.uniform(0, 1, B)
        first = 0 if share == 0.5 else 1  # one is dropped, and one is not; not always the first
        u[first], u[1 - first] = share / 2, (1 + share) / 2
        made.append((d.normal(B, L, D), d.mask(B, L), share, u))
    return made


def _dropped_one_by_one(text, mask, share, u):
    text, mask = text.clone(), mask.clone()
    for b in range(len(u)):
        if u[b].item() < share:
            text[b] = 0
            mask[b] = torch.arange(mask.shape[1]) < 1
    return text, mask


def _where(dropped, text, mask, zeros=True, short=True):
    nothing, alone = null_text(text, mask)
    text = torch.where(dropped[:, None, None], nothing, text) if zeros else text
    return text, torch.where(dropped[:, None], alone, mask) if short else mask


CORE = (
    Core(
        7,
        attention_pool,
        hints=(
            "The shares of a head add up to one over the tokens: which axis is that? Padding must get nothing.",
            "<code>scores.masked_fill(~mask[..., None], -torch.inf).softmax(dim=1)</code> are the shares, "
            "(B, L, heads). With one more axis they multiply the values.",
        ),
        cases=_cases_of_pool,
        oracle=_pool_plainly,
        mistakes={
            "padding is attended to: its score must be −∞ before the softmax":
                lambda s, v, m: _pool(s.softmax(1), v),
            "softmax runs over the heads: it belongs over the tokens, axis 1": (
                lambda s, v, m: _pool(_hidden(s, m).softmax(-1), v),
                lambda s, v, m: _pool(_hidden(s, m, -1e9).softmax(-1), v),
                lambda s, v, m: _pool(_hidden(s, m, -1e9).softmax(-1) * m[..., None], v),
                lambda s, v, m: _pool(s.softmax(-1), v)),
            "softmax runs over the captions: it belongs over the tokens, axis 1": (
                lambda s, v, m: _pool(_hidden(s, m).softmax(0), v),
                lambda s, v, m: _pool(_hidden(s, m, -1e9).softmax(0), v),
                lambda s, v, m: _pool(_hidden(s, m).softmax(0).nan_to_num(), v),
                lambda s, v, m: _pool(s.softmax(0) * m[..., None], v),
                lambda s, v, m: _pool(s.softmax(0), v)),
            "the mask is turned round: only padding is attended to": (
                lambda s, v, m: _pool(_hidden(s, ~m).softmax(1), v),
                lambda s, v, m: _pool(_hidden(s, ~m, -1e9).softmax(1), v)),
            "a score of 0 still gets a share: it must be −∞ on padding":
                lambda s, v, m: _pool((s * m[..., None]).softmax(1), v),
            "padding is taken out after the softmax: the shares do not add up to one any more":
                lambda s, v, m: _pool(s.softmax(1) * m[..., None], v),
            "the scores are not used: this is a mean":
                lambda s, v, m: _pool((m / m.sum(1, keepdim=True))[..., None].expand_as(s), v),
            "the softmax is missing: scores are no shares": lambda s, v, m: _pool(_hidden(s, m, 0.0), v),
            "the heads are mixed up: head after head, each with its d numbers": lambda s, v, m: (
                (_hidden(s, m).softmax(1)[..., None] * v).sum(1).transpose(1, 2).flatten(1)),
        },
    ),
    Core(
        7,
        joined_attention,
        hints=(
            "Join keys with keys and values with values (torch.cat over the axis of the tokens). How long is `seen` "
            "now?",
            "<code>torch.cat([k, text_k], dim=1)</code>, the same for v, and <code>seen = torch.cat([mask.new_ones("
            "k.shape[:2]), mask], dim=1)</code>: every pixel is seen. If k is None, the text alone.",
        ),
        cases=_cases_of_joined,
        oracle=_joined_plainly,
        mistakes={
            "padding is attended to: the mask must be part of `seen`": _joined_with(seen=lambda q, mask: None),
            "the words are missing: only pixels are asked where there are both": _joined_with(words=False),
            "the pixels are missing or hidden: the text is joined to them, and `seen` is True for every pixel":
                _joined_with(pixels=False),
            "there are two softmaxes: pixels and words must share one": _two_softmaxes,
            "the mask is turned round: it is True where there is a token": _joined_with(
                seen=lambda q, mask: torch.cat([mask.new_ones(q.shape[:2]), ~mask], 1)),
        },
        errors={
            "NoneType": "k and v may be None: then the text's keys and values are all there is",
            "expanded size|must match": "`seen` must be as long as the keys: one True for every pixel, then the mask",
        },
        uses=("attend",),
    ),
    Core(
        7,
        drop_captions,
        hints=(
            "u < share says which captions go, (B,). torch.where takes from one tensor or the other.",
            "The condition needs as many axes as what it chooses from: <code>dropped[:, None, None]</code> for text, "
            "<code>dropped[:, None]</code> for the mask. Both are replaced.",
        ),
        cases=_cases_of_dropping,
        oracle=_dropped_one_by_one,
        mistakes={
            "it is turned round: captions with u < share are dropped, the others kept":
                lambda t, m, s, u: _where(u >= s, t, m),
            "the mask stays: the length of the caption still shows": lambda t, m, s, u: _where(u < s, t, m, short=False),
            "only the mask is replaced: the states must be zero too": lambda t, m, s, u: _where(u < s, t, m, zeros=False),
            "all captions are dropped or none: each has a u of its own":
                lambda t, m, s, u: _where((u[:1] < s).expand(len(u)), t, m),
            "nothing is dropped": lambda t, m, s, u: (t, m),
            "the mask of a dropped caption is empty: attention over nothing is not a number":
                lambda t, m, s, u: (_where(u < s, t, m)[0], m & ~(u < s)[:, None]),
            "every caption is dropped": lambda t, m, s, u: null_text(t, m),
        },
        errors={"size of tensor|must match": "two shapes do not fit: u (B,) must become (B, 1, 1) for text, (B, 1) for mask"},
    ),
)  # fmt: skip
