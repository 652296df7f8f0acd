"""The Accelerator of a run: devices, processes and precision."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from accelerate import Accelerator, PartialState
from accelerate.utils import AutocastKwargs, GradientAccumulationPlugin, broadcast_object_list

from ..errors import UserError

T = TypeVar("T")


def make_accelerator(cpu: bool, precision: str = "no") -> Accelerator:
    """An Accelerator with the settings named here and none from the environment, which has many (ACCELERATE_…).

    precision: "no" (fp32), "bf16" or "fp16". Which processes there are, and on which devices, the launcher tells.
    """
    # a captured step must not find weights that an earlier one has cast
    autocast = [] if cpu else [AutocastKwargs(cache_enabled=False)]
    return Accelerator(
        cpu=cpu,
        mixed_precision=precision,
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
        dynamo_backend="no",
        kwargs_handlers=autocast,
    )


def agreed(decide: Callable[[], T], cpu: bool) -> T:
    """What the main process decides, in every process; a UserError of its, too.

    So one process looks at the disk, and a slower one doesn't meet what a faster one has just written.
    """
    answer: list[Any] = [None]
    if PartialState(cpu=cpu).is_main_process:
        try:
            answer = [decide()]
        except UserError as error:
            answer = [error]
    broadcast_object_list(answer)
    if isinstance(answer[0], UserError):
        raise answer[0]
    decided: T = answer[0]
    return decided
