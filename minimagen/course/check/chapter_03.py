"""Exercises of chapter 03: the U-Net."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core.chapter_03 import time_embedding
from ..student import dice
from .basics import diagnosed

__all__ = ["sees", "strangers", "what_is_wrong"]


def _sees(strides: list[int], grow: bool = True, before: bool = False, each: int = 2) -> int:
    width, jump = 1, 1
    for stride in strides:
        if before and grow:
            jump *= stride
        width += each * jump
        if grow and not before:
            jump *= stride
    return width


def sees(field: Callable[[list[int]], int | None]) -> None:
    """Exercise 03.1: field(strides) is the width that a pile of 3×3 convolutions sees."""
    title, draw = "what a pile of convolutions sees", dice("sees")
    done = 0
    while done < 8:  # fresh strides each time; the notebook's own random numbers stay as they are
        strides = [1, 2, *(draw.choice((1, 1, 2, 3)) for _ in range(draw.randint(2, 6))), 2, 1]
        wanted = _sees(strides)
        mistaken = [_sees(strides, grow=False), _sees(strides, before=True), _sees(strides, each=3)]
        if len({wanted, *mistaken}) < 4:  # two mistakes with one answer can't be told apart
            continue
        given, done = field(list(strides)), done + 1
        if given is None:
            raise AssertionError(f"{title}: your function returns nothing yet")
        if given == wanted:
            continue
        sentences = (
            "the strides do nothing yet: after a stride, a step is twice as wide",
            "a stride counts only for the convolutions after it",
            "a 3×3 convolution adds two jumps to the width, not three",
        )
        for wrong, sentence in zip(mistaken, sentences, strict=True):
            if given == wrong:
                raise AssertionError(f"{title}: {sentence}")
        raise AssertionError(f"{title}: with the strides {strides} it sees {wanted}, not {given}")
    print(f"✓ {title}")


HEALTHY, DEAF, NEAR, MIXED = (
    "nothing is wrong",
    "deaf to the clock",
    "sees only near by",
    "pictures disturb each other",
)
_FAULTS = {"A": MIXED, "B": HEALTHY, "C": DEAF, "D": NEAR}


class _Stranger(nn.Module):
    """A small U with random weights and one fault, which changes no shape."""

    def __init__(self, fault: str) -> None:
        super().__init__()
        self.fault = fault
        self.stem, self.tell = nn.Conv2d(3, 16, 3, padding=1), nn.Linear(64, 16)
        stride = 1 if fault == NEAR else 2
        self.down = nn.Conv2d(16, 16, 3, stride=stride, padding=1)
        self.lower = nn.Conv2d(16, 16, 3, stride=stride, padding=1)
        self.out = nn.Conv2d(32, 3, 3, padding=1)
        generator = torch.Generator().manual_seed(3)
        for p in self.parameters():
            p.data = 0.3 * torch.randn(p.shape, generator=generator)

    @torch.no_grad()
    def forward(self, x_t: Tensor, log_snr: Tensor) -> Tensor:
        skip = h = self.stem(x_t.cpu())
        if self.fault != DEAF:
            h = h + self.tell(time_embedding(log_snr.cpu()))[:, :, None, None]
        h = F.silu(self.lower(F.silu(self.down(h))))  # a quarter of the side
        if self.fault != NEAR:
            h = h + h.mean((2, 3), keepdim=True)  # the whole is seen at the bottom
        if self.fault == MIXED:  # a batch norm that takes the batch at hand
            h = (h - h.mean((0, 2, 3), keepdim=True)) / h.std((0, 2, 3), keepdim=True)
        h = F.interpolate(h, size=skip.shape[-2:])
        out: Tensor = self.out(torch.cat([h, skip], dim=1))
        return out.to(x_t.device)


def strangers() -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    """Exercise 03.3: four networks (x_t (B, 3, 16, 16), log_snr (B,)) → (B, 3, 16, 16), by name."""
    return {name: _Stranger(fault) for name, fault in _FAULTS.items()}


def what_is_wrong(answers: dict[str, str | None]) -> None:
    """Exercise 03.3: the fault of each stranger."""
    diagnosed(
        "the four strangers",
        answers,
        _FAULTS,
        missing="say what is wrong with {who} first",
        wrong="a test of {who} says otherwise than {answer}",
    )
