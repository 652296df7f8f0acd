"""What a stage's config.json may hold. It is looked at before a network is built from it.

A foreign or damaged file must end in one sentence, not in a network of 10⁹ channels.
"""

from __future__ import annotations

from typing import Any, cast

from .config import STAGES
from .diffusion import SCHEDULES, TARGETS
from .guidance import THRESHOLDS

# What config.json may hold: numbers from … to …, words, True or False (None: any text), and OPTIONAL may be null.
Range = tuple[type, float, float] | tuple[object, ...] | None
OPTIONAL = ("max_loss_weight", "crop", "guidance")
STAGE_RANGES: dict[str, Range] = {
    "name": STAGES,
    "schedule": tuple(SCHEDULES),
    "target": TARGETS,
    "max_loss_weight": (float, 1e-6, 1e6),
    "time_exponent": (float, 1e-3, 1e3),
    "caption_drop": (float, 0, 1),
    "max_aug_level": (float, 0, 1),
    "crop": (int, 4, 4096),
    "steps": (int, 1, 10_000),
    "guidance": (float, 0, 1000),
    "aug_level": (float, 0, 1),
    "threshold": tuple(THRESHOLDS),
    "text_encoder": None,
    "vocabulary": ("starter", "whole"),
}
UNET_RANGES: dict[str, Range] = {
    "channels": (int, 1, 4096),
    "blocks": (int, 0, 64),
    "attention": ("", "self", "cross"),
    "text_width": (int, 1, 16384),
    "embedding": (int, 1, 16384),
    "head_dim": (int, 1, 4096),
    "efficient": (True, False),
    "low_res": (True, False),
    "skip_scale": (float, 1e-3, 1e3),
}


def check_ranges(values: dict[str, Any], ranges: dict[str, Range]) -> None:
    """Raises ValueError for a value that no stage can have; each of a list's is looked at."""
    for key, value in values.items():
        if key == "unet" or (value is None and key in OPTIONAL):
            continue
        if key not in ranges:
            raise ValueError(f"{key} is no setting of a stage")
        is_list = key in ("channels", "blocks", "attention")
        if is_list != isinstance(value, list | tuple) or (is_list and not 1 <= len(value) <= 8):
            raise ValueError(f"{key} can't be {value!r}"[:100])
        for one in value if is_list else [value]:
            if not _within(one, ranges[key]):
                raise ValueError(f"{key} can't be {value!r}"[:100])


def _within(value: object, allowed: Range) -> bool:
    if allowed is None:
        return isinstance(value, str)
    if isinstance(kind := allowed[0], type):
        number = (int,) if kind is int else (int, float)
        _, low, high = cast(tuple[type, float, float], allowed)
        return isinstance(value, number) and type(value) is not bool and low <= value <= high
    return type(value) is type(kind) and value in allowed
