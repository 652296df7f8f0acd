"""A whole cascade in one run, `minimagen train all`: its three stages one after the other, and a report."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from torch import Tensor

from ..assets import write_json
from ..config import PLAN, RESOLUTIONS, STAGES, STATE, SceneMix, TrainConfig, flag_of
from ..errors import UserError
from ..evaluation.alignment import evaluate
from ..evaluation.suites import suite
from ..imagen import Imagen
from ..images import grid, save_png, to_pil
from ..scenes import Folder
from ..stage import Stage
from ..text import TextEncoder
from ..unet import num_parameters
from .accelerator import agreed
from .checkpoint import check_unused, load_ema_stage, read_metadata
from .log import read_log
from .loop import FREE
from .owner import sole_owner
from .run import TrainRequest, run_stage

# Of the minutes, about as the shipped weights had them (data/cascade/README.md).
SHARES = {"base": 0.5, "sr64": 0.35, "sr256": 0.15}
REPORT, SAMPLES = "report.md", "samples.png"
JUDGED = 40  # pictures that the judge reads
SHOWN = 8  # pictures in samples.png


@dataclass(frozen=True)
class Plan:
    """What out/plan.json holds: what all stages of a run have in common, and a resumed run must keep."""

    settings: dict[str, Any]  # of TrainConfig; minutes are those of all stages together
    scenes: dict[str, Any]  # of Scenes
    data: str | None  # the identity of a folder of images; None: Scenes
    origin: str | None  # the cascade that it started from
    precision: str | None


@dataclass(frozen=True)
class Outset:
    """What a run begins with: its request, completed by the plan, and how far each stage has come."""

    request: TrainRequest
    ended: tuple[str, ...]
    begun: tuple[str, ...]


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


def outset_of(request: TrainRequest) -> Outset:
    """Check all of a request, and write its plan; resumed, complete it by the plan. Raises UserError."""
    out = request.out
    check_unused(out, resume=False)
    plan = read_plan(out)
    if plan is None and (holds := [name for name in STAGES if (out / name).exists()]):
        raise UserError(f"{out / holds[0]} is there already: give another folder")
    if plan is not None and not request.resume:
        raise UserError(f"{out} holds a run: go on with --resume, or give another folder")
    if plan is not None:
        request = completed(request, plan)
    if len(request.settings.keys() & {"minutes", "steps"}) != 1:
        raise UserError("give either steps or minutes, and not both")
    check_origin(request)
    data = None
    if request.data is not None:
        data = Folder(request.data, RESOLUTIONS["base"], TextEncoder()).identity
    if plan is None:
        origin = None if request.origin is None else str(request.origin)
        plan = Plan(request.settings, request.scenes, data, origin, request.precision)
        write_json(asdict(plan), out / PLAN)
    if data != plan.data:
        what = "Scenes: leave --data out" if plan.data is None else "other pictures: give those"
        raise UserError(f"the run in {out} was begun with {what}")
    return Outset(
        request,
        tuple(name for name in STAGES if (out / name / "model.safetensors").is_file()),
        tuple(name for name in STAGES if (out / name / STATE).is_file()),
    )


def read_plan(out: Path) -> Plan | None:
    """The plan of the run in a folder; None where there is none. Raises UserError where it is damaged."""
    path = out / PLAN
    if not path.is_file():
        return None
    try:
        return Plan(**json.loads(path.read_text("utf-8")))
    except (ValueError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error}): start anew in another folder") from error


def completed(request: TrainRequest, plan: Plan) -> TrainRequest:
    """A request to resume, with all that the run was begun with. Raises UserError for what is not the same."""
    out = request.out
    flags = {f.name: flag_of(f) for f in (*fields(TrainConfig), *fields(SceneMix))}
    flags |= {"vocabulary": "--vocabulary", "version": "--captions", "precision": "--precision"}
    then = {**plan.settings, **plan.scenes, "precision": plan.precision}
    now = {**request.settings, **request.scenes}
    if request.precision is not None:
        now["precision"] = request.precision
    for name in now.keys() - (set(FREE) - {"minutes"}):
        if then.get(name) is None:
            raise UserError(f"the run in {out} was begun without {flags[name]}: leave it out")
        if now[name] != then[name]:
            raise UserError(
                f"the run in {out} was begun with {flags[name]} {then[name]}: keep that"
            )
    if plan.data is not None and request.data is None:
        raise UserError(f"the run in {out} is on your own pictures: give --data again")
    settings = {**plan.settings, **request.settings}
    origin = None if plan.origin is None else Path(plan.origin)
    return replace(
        request, settings=settings, scenes=plan.scenes, origin=origin, precision=plan.precision
    )


def check_origin(request: TrainRequest) -> None:
    """Raises UserError where a stage of --from is missing."""
    for name in STAGES if request.origin is not None else ():
        assert request.origin is not None
        if not (request.origin / name / STATE).is_file():
            Stage.load(request.origin / name)


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


# --- the report --------------------------------------------------------------------------------------


def write_report(request: TrainRequest) -> None:
    """Write out/samples.png and out/report.md: what was trained, losses, scores, samples, seconds by part."""
    imagen = Imagen.from_pretrained(request.out).to(request.device).eval()
    seconds = {
        name: read_metadata(request.out / name)["seconds"]
        if (request.out / name / STATE).is_file()
        else 0.0
        for name in STAGES
    }
    begun = time.monotonic()
    scores = [] if request.data is not None else judged(imagen)
    seconds["judge"], begun = time.monotonic() - begun, time.monotonic()
    prompts = draw_samples(imagen, request)
    seconds["samples"] = time.monotonic() - begun
    minutes, steps = (request.settings.get(key) for key in ("minutes", "steps"))
    what = f"{steps} steps a stage" if minutes is None else f"{minutes:g} minutes"
    device = torch.cuda.get_device_name() if request.device == "cuda" else request.device
    data = f"the pictures in `{request.data}`" if request.data else f"Scenes, {imagen.vocabulary}"
    lines = [
        f"# A cascade, trained for {what}",
        "",
        f"On {device}, torch {torch.__version__}; {data}. Draw with it: "
        f'`minimagen draw "a cat" --model {request.out}`',
        "",
        "| stage | parameters | steps × images | images a second | loss at the end | seconds |",
        "| --- | --- | --- | --- | --- | --- |",
        *(stage_row(request.out / name, imagen.stage(name)) for name in imagen.stages),
        "",
        *scores,
        f"![samples]({SAMPLES})",
        "",
        "From left to right and top to bottom, seeds 0 and on: " + "; ".join(prompts) + ".",
        "",
        "| part | seconds |",
        "| --- | --- |",
        *(f"| {name} | {s:.1f} |" for name, s in seconds.items()),
    ]
    (request.out / REPORT).write_text("\n".join(lines) + "\n", encoding="utf-8")


def stage_row(folder: Path, stage: Stage) -> str:
    """A row of the report's table."""
    rows, size = read_log(folder / "log.jsonl"), num_parameters(stage.unet) / 1e6
    if not rows:
        return f"| {stage.config.name} | {size:.2f} M | – | – | – | – |"
    last = rows[-max(1, len(rows) // 20) :]
    loss = sum(row["loss"] for row in last) / len(last)
    batch = read_metadata(folder)["run"]["batch"] if (folder / STATE).is_file() else 0
    steps, seconds = rows[-1]["step"], rows[-1]["seconds"]
    return (
        f"| {stage.config.name} | {size:.2f} M | {steps:,} × {batch:,} | {steps * batch / seconds:,.0f} "
        f"| {loss:.4f} | {seconds:.1f} |"
    )


def judged(imagen: Imagen) -> list[str]:
    """What the judge reads in pictures of the suite `seen` at 64×64, as lines of the report."""

    def sample(prompts: Sequence[str], first: int) -> Tensor:
        seeds = range(first, first + len(prompts))
        return list(imagen.generate(prompts, seeds, last="sr64").values())[-1]

    report = evaluate(sample, "seen", JUDGED, imagen.vocabulary)
    low, high = report["interval"]
    named = ", ".join(
        f"{k.removeprefix('named ')} {v:.0%}"
        for k, v in report["by_category"].items()
        if k.startswith("named ")
    )
    return [
        f"Of {JUDGED} prompts of the suite `seen`, vocabulary {imagen.vocabulary}, the judge reads all right "
        f"in **{report['alignment']:.1%}** (95 %: {low:.1%} to {high:.1%}); where it is named: {named}. "
        "`minimagen evaluate` measures it with more prompts.",
        "",
    ]


def draw_samples(imagen: Imagen, request: TrainRequest) -> list[str]:
    """Write out/samples.png; returns its prompts: of the suite `seen`, or captions of your own images."""
    if request.data is not None:
        prompts = list(dict.fromkeys(Folder(request.data, RESOLUTIONS["base"]).captions))[:SHOWN]
    else:
        prompts = [p.text for p in suite("seen", imagen.vocabulary, SHOWN)]
    pictures = to_pil(list(imagen.generate(prompts, range(len(prompts))).values())[-1])
    sheet = grid(pictures, min(4, len(pictures)))
    save_png(
        sheet,
        request.out / SAMPLES,
        " | ".join(prompts),
        f"0 to {len(prompts) - 1}",
        str(request.out),
    )
    return prompts
