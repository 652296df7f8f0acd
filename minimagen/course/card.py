"""What the card of the shipped cascade says that it scores."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from ..assets import DATA

CARD = DATA / "cascade" / "README.md"


class Score(NamedTuple):
    """Pictures of a hundred that follow their words, and the ends of its 95 % interval."""

    right: float
    low: float
    high: float


def alignment(card: Path = CARD) -> dict[str, Score]:
    """Suite → score on prompts of the whole vocabulary: the table that has a column for colours.

    Raises ValueError where the card has no such table.
    """
    for table in re.findall(r"(?:^\|.*\|$\n?)+", card.read_text(encoding="utf-8"), flags=re.M):
        head, _, *rows = (
            [cell.strip(" *") for cell in line.strip("|").split("|")] for line in table.splitlines()
        )
        if head[0].startswith("suite") and {"alignment", "colour"} <= set(head):
            at = head.index("alignment")
            return {
                row[0]: Score(*map(float, re.findall(r"\d+\.?\d*", row[at])[:3])) for row in rows
            }
    raise ValueError(f"{card} has no table of suites with a column for colours")
