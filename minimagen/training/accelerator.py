"""The Accelerator of a run: devices, processes and precision."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from accelerate import Accelerator, PartialState
from accelerate.utils import AutocastKwargs, GradientAccumulationPlugin, broadcast_object_list

from ..errors import UserError

T = TypeVar("T")


def make_accelerator(cpu: bool, precision: str = "no") -> Accelerator:
    """An Accelerator that ignores the settings of the environment (ACCELERATE_MIXED_PRECISION and the like).

    precision: "no" (fp32), "bf16" or "fp16". Processes and their devices are those of the launcher.
    """
    # a captured step must not use weights that autocast cached in an earlier one
    autocast = [] if cpu else [AutocastKwargs(cache_enabled=False)]
    return Accelerator(
        cpu=cpu,
        mixed_precision=precision,
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
        dynamo_backend="no",
        kwargs_handlers=autocast,
    )


def agreed(decide: Callable[[], T], cpu: bool) -> T:
    """The main process calls `decide`; all processes return its result, or raise its UserError.

    So only one process looks at the disk, and a slower one doesn't meet what a faster one has just written.
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
