"""Exercises of chapter 07: text conditioning."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..core.chapter_03 import attend
from ..core.chapter_07 import joined_attention

__all__ = ["the_word_moves", "three_doors", "two_sentences", "which_door"]

Door = Callable[..., Tensor]


def three_doors() -> dict[str, Door]:
    """Exercise 07.1: three functions like joined_attention, each with one mistake."""

    def a(q, k, v, text_k, text_v, mask, head_dim):  # type: ignore[no-untyped-def]
        return attend(q, k, v, head_dim) + attend(q, text_k, text_v, head_dim, mask)

    def b(q, k, v, text_k, text_v, mask, head_dim):  # type: ignore[no-untyped-def]
        return attend(q, text_k, text_v, head_dim, mask)

    def c(q, k, v, text_k, text_v, mask, head_dim):  # type: ignore[no-untyped-def]
        return attend(q, torch.cat([k, text_k], 1), torch.cat([v, text_v], 1), head_dim)

    return {"A": a, "B": b, "C": c}


_MISTAKES = {"A": "two softmaxes", "B": "words alone", "C": "padding is asked"}
_AGAINST = {  # what speaks against an answer
    ("A", "padding is asked"): "change the padded token: does A notice?",
    ("A", "words alone"): "change a pixel's value: does A notice?",
    ("B", "padding is asked"): "change the padded token: does B notice?",
    ("B", "two softmaxes"): "give values that are all 1: what does B make of them?",
    ("C", "two softmaxes"): "give values that are all 1: what does C make of them?",
    ("C", "words alone"): "change a pixel's value: does C notice?",
}


def which_door(mistakes: dict[str, str | None]) -> None:
    """Exercise 07.1: who made which mistake."""
    title = "the three doors"
    for name, right in _MISTAKES.items():
        said = mistakes.get(name)
        if said is None:
            raise AssertionError(f"{title}: {name} has no name yet")
        if said not in _MISTAKES.values():
            known = ", ".join(sorted(_MISTAKES.values()))
            raise AssertionError(f"{title}: {said!r} is none of {known}")
        if said != right:
            raise AssertionError(f"{title}: {_AGAINST[name, said]}")
    print(f"✓ {title}")


def two_sentences(split: Door) -> None:
    """Exercise 07.2: split(q, k, v, first, second, head_dim), on random numbers."""
    title = "two sentences"
    side, C = 4, 8
    q, k, v = (torch.randn(2, side * side, C) for _ in range(3))
    words = [
        (torch.randn(2, L, C), torch.randn(2, L, C), torch.arange(L).expand(2, L) < L - 1)
        for L in (3, 5)
    ]
    one, other = (joined_attention(q, k, v, *each, 4) for each in words)
    column = torch.arange(side * side) % side
    row = torch.arange(side * side) // side

    def mixed(first: Tensor) -> Tensor:
        return torch.where(first[None, :, None], one, other)

    made = split(q, k, v, *words, 4)
    if not isinstance(made, Tensor):
        raise AssertionError(f"{title}: your function returns nothing yet")
    if made.shape != q.shape:
        raise AssertionError(
            f"{title}: the result must have the shape of q, not {tuple(made.shape)}"
        )
    for wrong, said in (
        (one, "all pixels hear the first sentence"),
        (other, "all pixels hear the second sentence"),
        (mixed(column >= side // 2), "left and right are swapped"),
        (mixed(row < side // 2), "this is above and below: a pixel's column is n modulo the side"),
        ((one + other) / 2, "this is the mean of both: each pixel hears one of them"),
    ):
        if torch.allclose(made, wrong, atol=1e-4):
            raise AssertionError(f"{title}: {said}")
    if not torch.allclose(made, mixed(column < side // 2), atol=1e-4):
        raise AssertionError(f"{title}: each pixel gets one of two results of joined_attention")
    print(f"✓ {title}")


def the_word_moves(before: Tensor | None, after: Tensor | None) -> None:
    """Exercise 07.3: the maps (steps, 8, 8) of one word, when its thing is asked on the left, and on the right."""
    title = "the word moves"
    if before is None or after is None:
        raise AssertionError(f"{title}: two maps are wanted, before and after the swap")
    for m in (before, after):
        if m.ndim != 3 or m.shape[1:] != (8, 8) or not (m >= 0).all() or not (m <= 1.001).all():
            raise AssertionError(f"{title}: a map is (steps, 8, 8), with shares from 0 to 1")
    left = [float(m[..., :4].sum() / m.sum()) for m in (before, after)]
    if left[0] < left[1]:
        raise AssertionError(f"{title}: the cat is on the left before the swap, not after it")
    if left[0] - left[1] < 0.6:
        raise AssertionError(f"{title}: farther; is this the map of “cat”, on the way up?")
    print(f"✓ {title}: from ≈ {left[0]:.2f} in the left half to ≈ {left[1]:.2f}")
