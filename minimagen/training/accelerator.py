"""The Accelerator of a run: devices, processes and precision."""

from __future__ import annotations

from accelerate import Accelerator
from accelerate.utils import AutocastKwargs, GradientAccumulationPlugin


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
