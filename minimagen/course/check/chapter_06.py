"""Exercises of chapter 06: the text encoder."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...scenes import objects
from .basics import diagnosed

if TYPE_CHECKING:
    from transformers import T5EncoderModel

__all__ = ["strange_encoders", "untaught_word", "what_is_strange_in_them", "xxl_feed_forward"]

Encode = Callable[[Tensor, Tensor], Tensor]  # tokens (B, L), mask (B, L) → states (B, L, D)


def _left_for_right(model: T5EncoderModel) -> None:
    table = model.encoder.block[0].layer[0].SelfAttention.relative_attention_bias.weight
    half = len(table) // 2
    left, right = table.data[1:half].clone(), table.data[half + 1 :].clone()
    table.data[1:half], table.data[half + 1 :] = right, left


def _gate_for_value(model: T5EncoderModel) -> None:
    for block in model.encoder.block:
        step = block.layer[1].DenseReluDense
        step.wi_0, step.wi_1 = step.wi_1, step.wi_0


_FAULTS = {  # 06.1: each encoder has one
    "A": "padding is attended to",
    "B": "gate and value swapped",
    "C": "left and right swapped",
}


def strange_encoders(model: T5EncoderModel) -> dict[str, Encode]:
    """Exercise 06.1: an encoder (tokens, mask) → states (B, L, D) with one fault, for each of three names."""
    made: dict[str, Encode] = {}
    for who, fault in _FAULTS.items():
        own = copy.deepcopy(model)
        if fault == "gate and value swapped":
            _gate_for_value(own)
        elif fault == "left and right swapped":
            _left_for_right(own)

        @torch.no_grad()
        def encode(
            tokens: Tensor, mask: Tensor, own: T5EncoderModel = own, fault: str = fault
        ) -> Tensor:
            seen = torch.ones_like(mask) if fault == "padding is attended to" else mask
            states: Tensor = own(tokens, seen.long()).last_hidden_state
            return states

        made[who] = encode
    return made


def what_is_strange_in_them(answers: dict[str, str | None]) -> None:
    """Exercise 06.1: the fault of each encoder."""
    diagnosed(
        "strange encoders",
        answers,
        _FAULTS,
        missing="name the fault of {who} first",
        wrong="{answer} would not show as {who}'s does",
    )


def xxl_feed_forward(billions: float | None) -> None:
    """Exercise 06.2: the weights of T5-XXL's feed-forward steps, within 3 %."""
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
        raise AssertionError(f"{title}: count the matrices of one layer first")
    print(f"✓ {title}")


def untaught_word(word: str, name: str) -> None:
    """Exercise 06.3: a word that is no name and no synonym, whose nearest English name is `name`."""
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
