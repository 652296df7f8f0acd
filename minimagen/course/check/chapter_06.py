"""Exercises of chapter 06: the text encoder."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ...scenes import objects
from .basics import Exercise

__all__ = ["masked_mean", "relative_buckets", "rms_norm", "untaught_word", "xxl_feed_forward"]

rms_norm = Exercise(  # 1: answer(x, gain)
    "T5's norm",
    lambda x, gain: x * (x.square().mean(-1, keepdim=True) + 1e-6).rsqrt() * gain,
    {
        "you took the mean away: that is LayerNorm": lambda x, g: (x - x.mean(-1, keepdim=True))
        * ((x - x.mean(-1, keepdim=True)).square().mean(-1, keepdim=True) + 1e-6).rsqrt() * g,
        "the gain is missing": lambda x, g: x * (x.square().mean(-1, keepdim=True) + 1e-6).rsqrt(),
        "divide by the root of the mean square": lambda x, g: x / x.square().mean(-1, keepdim=True) * g,
        "take the mean of the squares, not their sum": lambda x, g: x / x.norm(dim=-1, keepdim=True) * g,
    },
    (torch.linspace(-1, 2, 12).reshape(3, 4), torch.tensor([1.0, 0.5, 2.0, 1.5])),
)  # fmt: skip

masked_mean = Exercise(  # 2: answer(states, mask)
    "a mean without padding",
    lambda s, mask: (s * mask[..., None]).sum(1) / mask.sum(1, keepdim=True),
    {
        "this is the mean over all places, padding too": lambda s, mask: s.mean(1),
        "the sum is right, but you divide by the padded length": lambda s, mask: (s * mask[..., None]).mean(1),
        "padding is still in the sum": lambda s, mask: s.sum(1) / mask.sum(1, keepdim=True),
    },
    (torch.linspace(-1, 3, 24).reshape(2, 4, 3), torch.arange(4) < torch.tensor([[2], [4]])),
)  # fmt: skip


def _bucket(distance: Tensor, ahead: Tensor) -> Tensor:
    far = distance.abs()
    log = (8 + (far.clamp(min=1) / 8).log() / math.log(16) * 8).long().clamp(max=15)
    return torch.where(far < 8, far, log) + 16 * ahead


relative_buckets = Exercise(  # 3: answer(distance)
    "buckets of distance",
    lambda d: _bucket(d, d > 0),
    {
        "16 is added for what is ahead: distance > 0": lambda d: _bucket(d, d < 0),
        "behind and ahead need different buckets": lambda d: _bucket(d, d > 1_000),
        "distance 0 is not ahead": lambda d: _bucket(d, d >= 0),
        "far distances share: use the logarithm from 8 on": lambda d: d.abs().clamp(max=15) + 16 * (d > 0),
    },
    (torch.tensor([-300, -127, -90, -40, -17, -11, -7, -1, 0, 1, 3, 7, 9, 20, 50, 100, 300]),),
)  # fmt: skip


def xxl_feed_forward(billions: float | None) -> None:
    """Exercise 06.4: the weights of T5-XXL's feed-forward steps, within 3 %."""
    title = "where T5-XXL's weights are"
    if billions is None:
        raise AssertionError(f"{title}: write your number first")
    square, wide, table = 4096**2, 4096 * 10_240, 32_128 * 4096
    for parts, sentence in (
        (24 * 2 * wide, "the gated feed-forward has three matrices"),
        (3 * wide, "that is one layer; there are 24"),
        (24 * (4 * square + 3 * wide) + table, "that is all of it; leave out attention and table"),
    ):
        if abs(billions * 1e9 / parts - 1) < 0.03:
            raise AssertionError(f"{title}: {sentence}")
    if abs(billions * 1e9 / (24 * 3 * wide) - 1) > 0.03:
        raise AssertionError(f"{title}: not yet; count the matrices of one layer first")
    print(f"✓ {title}")


def untaught_word(word: str, name: str) -> None:
    """Exercise 06.5: a word that is no name and no synonym, whose nearest English name is `name`."""
    from ...text import TextEncoder

    title, rows = "a word nobody taught", objects().values()
    if any(word.lower() in (r["en"], r["plural"], *r["synonyms"]["en"]) for r in rows):
        raise AssertionError(f"{title}: {word!r} is in the encoder's lists; find another")
    names = [row["en"] for row in rows if row["starter"]]
    if name not in names:
        raise AssertionError(f"{title}: {name!r} is not one of the forty")
    states, mask = TextEncoder()([*names, word])
    v = states.sum(1) / mask.sum(1, keepdim=True)  # (41, D)
    v = torch.nn.functional.normalize(v - v[:-1].mean(0), dim=1)
    found = names[int((v[:-1] @ v[-1]).argmax())]
    if found != name:
        raise AssertionError(f"{title}: the encoder puts {word!r} nearest to {found!r}")
    print(f"✓ {title}")
