"""Exercises of chapter 07: text conditioning."""

from __future__ import annotations

import torch

from .basics import Exercise

__all__ = ["joined_attention", "pool_by_attention", "share_onto_words", "the_word_moves"]

_states = torch.linspace(-1, 3, 24).reshape(2, 4, 3)
_scores = torch.tensor([[1.0, -0.5, 2.0, 0.3], [0.2, 1.5, -1.0, 0.0]])
_mask = torch.arange(4) < torch.tensor([[2], [4]])


def _pool(x: torch.Tensor, s: torch.Tensor, dim: int = 1) -> torch.Tensor:
    return (s.softmax(dim)[..., None] * x).sum(1)


pool_by_attention = Exercise(  # 1: answer(states, scores, mask)
    "attention pooling",
    lambda x, s, m: _pool(x, s.masked_fill(~m, -torch.inf)),
    {
        "padding still gets a share: its score must be −∞": lambda x, s, m: _pool(x, s),
        "a score of 0 is a score like any other: padding needs −∞": lambda x, s, m: _pool(x, s * m),
        "the softmax runs over the sentences; it should run over the tokens": lambda x, s, m: _pool(
            x, s.masked_fill(~m, -1e9), 0),
        "this is the mean over tokens: the scores do nothing": lambda x, s, m: _pool(
            x, torch.zeros_like(s).masked_fill(~m, -torch.inf)),
    },
    (_states, _scores, _mask),
)  # fmt: skip


def _attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return (q @ k.T / q.shape[1] ** 0.5).softmax(-1) @ v


joined_attention = Exercise(  # 2: answer(q, kx, vx, kt, vt)
    "joined attention",
    lambda q, kx, vx, kt, vt: _attend(q, torch.cat([kx, kt]), torch.cat([vx, vt])),
    {
        "these are two softmaxes, added: join the keys first": lambda q, kx, vx, kt, vt: _attend(q, kx, vx)
        + _attend(q, kt, vt),
        "this is cross-attention: the pixels' own keys are missing": lambda q, kx, vx, kt, vt: _attend(q, kt, vt),
        "this is self-attention: the words are missing": lambda q, kx, vx, kt, vt: _attend(q, kx, vx),
        "divide the scores by √d": lambda q, kx, vx, kt, vt: (q @ torch.cat([kx, kt]).T).softmax(-1)
        @ torch.cat([vx, vt]),
    },
    tuple(torch.sin(torch.arange(n * 3.0) * (i + 2)).reshape(n, 3) for i, n in enumerate((4, 4, 4, 2, 2))),
)  # fmt: skip


def share_onto_words(shares: tuple[float, float], tokens: int = 9) -> None:
    """Exercise 07.3: the share of 9 tokens among 4×4 and 8×8 pixels when all scores are equal."""
    for given, side in zip(shares, (4, 8), strict=True):
        if abs(given - tokens / side**2) < 0.005:
            raise AssertionError("share onto words: the list holds the words too, not only pixels")
        if abs(given - tokens / (side**2 + tokens)) > 0.02:
            raise AssertionError(
                f"share onto words: not yet at {side}×{side}; how long is the list?"
            )
    print("✓ share onto words")


def the_word_moves(before: float, after: float) -> None:
    """Exercise 07.4: a word's share in the left half, when its thing stands left, and when it stands right."""
    if not -1e-4 <= min(before, after) <= max(before, after) <= 1 + 1e-4:  # rounding
        raise AssertionError("the word moves: a share lies between 0 and 1")
    if before < after:
        raise AssertionError("the word moves: the cat is on the left before the swap, not after it")
    if before - after < 0.6:
        raise AssertionError("the word moves: farther; is this the map of “cat”, on the way up?")
    print("✓ the word moves")
