"""A whole cascade in one run, `minimagen train all`: its three stages one after the other, and a report."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace

from accelerate import PartialState

from ..config import STAGES
from .accelerator import agreed
from .checkpoint import load_ema_stage, read_metadata
from .owner import sole_owner
from .plan import Outset, outset_of
from .report import REPORT, write_report
from .run import TrainRequest, run_stage

# Of the minutes, about as the shipped weights had them (data/cascade/README.md).
SHARES = {"base": 0.5, "sr64": 0.35, "sr256": 0.15}


def run_all(request: TrainRequest) -> None:
    """Train base, sr64 and sr256 into out/base, out/sr64 and out/sr256; write out/report.md and print its path.

    request: its stage is "all", its minutes are shared out by SHARES, its steps are those of each stage, and its
    origin is a cascade. Resumed, it goes on with the stage that has not ended. Raises UserError for what does not
    fit, before anything is written.
    """
    with ExitStack() as stack:

        def begin() -> Outset:
            stack.enter_context(sole_owner(request.out))
            return outset_of(request)

        outset = agreed(begin, request.device == "cpu")
        for name in (name for name in STAGES if name not in outset.ended):
            train_one(outset.request, name, resume=name in outset.begun)
        if PartialState().is_main_process:
            write_report(outset.request)
            print(request.out / REPORT)


def train_one(request: TrainRequest, name: str, resume: bool) -> None:
    """Train one of the stages, for its share of the minutes."""
    settings, out = dict(request.settings), request.out / name
    if "minutes" in settings:
        settings["minutes"] *= SHARES[name]
        if resume and read_metadata(out)["seconds"] >= 60 * settings["minutes"]:
            if PartialState().is_main_process:  # stopped between its last step and its end
                load_ema_stage(out).save(out)
            return
    origin = None if resume or request.origin is None else request.origin / name
    run_stage(
        replace(request, stage=name, out=out, settings=settings, resume=resume, origin=origin)
    )
