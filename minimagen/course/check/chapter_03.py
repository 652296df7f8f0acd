"""Exercises of chapter 03: the U-Net."""

from __future__ import annotations

import torch
from torch import Tensor

from ...unet import UNet, UNetConfig, num_parameters
from .basics import Exercise

__all__ = ["clock_waves", "one_head", "sees", "settled_variance", "small_unet"]


def _sees(strides: list[int], grow: bool = True, before: bool = False, each: int = 2) -> int:
    width, jump = 1, 1
    for stride in strides:
        if before and grow:
            jump *= stride
        width += each * jump
        if grow and not before:
            jump *= stride
    return width


sees = Exercise(  # 1: answer(strides) is the width that a pile of 3×3 convolutions sees
    "what a pile of convolutions sees",
    _sees,
    {
        "the strides do nothing yet: after a stride, a step is twice as wide": lambda s: _sees(
            s, False
        ),
        "a stride counts only for the convolutions after it": lambda s: _sees(s, before=True),
        "a 3×3 convolution adds two jumps to the width, not three": lambda s: _sees(s, each=3),
    },
    ([1, 2, 1, 2, 2, 1],),
)

clock_waves = Exercise(  # 2: answer(log_snr, rates) is sines, then cosines
    "the waves of the clock",
    lambda s, r: torch.cat([(s[:, None] * r).sin(), (s[:, None] * r).cos()], dim=-1),
    {
        "cosines first: put the sines in front": lambda s, r: torch.cat(
            [(s[:, None] * r).cos(), (s[:, None] * r).sin()], dim=-1
        ),
        "sines alone cannot tell two levels apart that share a sine": lambda s, r: (
            s[:, None] * r
        ).sin(),
        "add the cosines as new numbers beside the sines: do not sum them": lambda s, r: (
            (s[:, None] * r).sin() + (s[:, None] * r).cos()
        ),
    },
    (torch.linspace(-4, 5, 3), torch.tensor([0.1, 0.7, 2.0, 9.0])),
)


def _attend(q: Tensor, k: Tensor, v: Tensor, power: float = 0.5, dim: int = -1) -> Tensor:
    return (q @ k.transpose(-1, -2) / q.shape[-1] ** power).softmax(dim) @ v


_g = torch.Generator().manual_seed(3)
one_head = Exercise(  # 3: answer(q, k, v) is attention with one head
    "attention with one head",
    _attend,
    {
        "√d is missing: with many channels the softmax would pick one pixel": lambda q, k, v: _attend(q, k, v, 0),
        "you divided by d, not √d": lambda q, k, v: _attend(q, k, v, 1),
        "the softmax runs over the queries: each query shares out one whole over the keys": lambda q, k, v: (
            _attend(q, k, v, dim=-2)
        ),
        "the softmax is missing: the weights of a mean add up to one": lambda q, k, v: (
            q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5 @ v
        ),
    },
    tuple(torch.randn(2, n, 8, generator=_g) for n in (4, 5, 5)),
)  # fmt: skip


def settled_variance(answer: float | None) -> None:
    """Exercise 03.4: where x ← (x + h) / √2 settles, when every h has variance 3."""
    if answer is None:
        raise AssertionError("where it settles: write your number first")
    variance = 1.0
    for _ in range(60):
        variance = (variance + 3) / 2
    if abs(answer - variance) > 0.15:
        after = (answer + 3) / 2
        raise AssertionError(
            f"where it settles: from {answer:.1f}, one more block leads to {after:.1f}, so it moves on"
        )
    print("✓ where it settles")


def small_unet(config: UNetConfig) -> None:
    """Exercise 03.5: a U-Net for 16×16 pictures: small, heavy at the bottom, attention only low down."""
    net, sides = UNet(config), [16 // 2**i for i in range(len(config.channels))]
    total = num_parameters(net)
    share = (num_parameters(net.down[-1]) + num_parameters(net.up[0])) / total
    for wrong, sentence in (
        (config.efficient, "take the base's kind: efficient=False"),
        (sides[-1] != 4, f"its lowest resolution is {sides[-1]} pixels wide, it should be 4"),
        (any(a and s > 8 for a, s in zip(config.attention, sides, strict=True)), "attention stands above 8×8"),
        (total > 1e6, f"{total:,} parameters are more than a million"),
        (share < 0.6, f"{share:.0%} of the weights sit at the lowest resolution: 60 % are asked for"),
    ):  # fmt: skip
        if wrong:
            raise AssertionError(f"a small U-Net: {sentence}")
    print("✓ a small U-Net")
