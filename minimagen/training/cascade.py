"""A whole cascade in one run, `minimagen train all`: its three stages one after the other, and a report."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..assets import write_json
from ..config import RESOLUTIONS, STAGES
from ..errors import UserError
from ..evaluation.alignment import evaluate
from ..evaluation.suites import suite
from ..imagen import Imagen
from ..images import grid, save_png, to_pil
from ..scenes import Folder
from ..stage import Stage
from ..unet import num_parameters
from .checkpoint import STATE, load_ema_stage, read_metadata
from .log import read_log
from .owner import sole_owner
from .run import TrainRequest, run_stage

# Of the minutes, about as the shipped weights had them (data/cascade/README.md).
SHARES = {"base": 0.5, "sr64": 0.35, "sr256": 0.15}
PLAN, REPORT, SAMPLES = "plan.json", "report.md", "samples.png"
JUDGED = 40  # pictures that the judge reads
SHOWN = 8  # pictures in samples.png


def run_all(request: TrainRequest) -> None:
    """Train base, sr64 and sr256 into out/base, out/sr64 and out/sr256; write out/report.md and print its path.

    request: its stage is "all", its minutes are shared out by SHARES, its steps are those of each stage, and its
    origin is a cascade. Resumed, it goes on with the stage that has not ended. Raises UserError for what does not
    fit, before anything is trained.
    """
    main_process = os.environ.get("RANK", "0") == "0"
    length = length_of(request)
    check_origin(request)
    # looked at before any process writes: of several processes, all must see the same
    ended = [name for name in STAGES if (request.out / name / "model.safetensors").is_file()]
    begun = [name for name in STAGES if (request.out / name / STATE).is_file()]
    with sole_owner(request.out) if main_process else nullcontext():
        if main_process:
            write_json(length, request.out / PLAN)
        for name in (name for name in STAGES if name not in ended):
            train_one(request, name, length, resume=name in begun)
        if main_process:
            write_report(request, length)
            print(request.out / REPORT)


def length_of(request: TrainRequest) -> dict[str, Any]:
    """The minutes, or the steps of each stage, of the whole run. Raises UserError where others were begun."""
    given = {k: v for k in ("minutes", "steps") if (v := request.settings.get(k)) is not None}
    plan = request.out / PLAN
    if not plan.is_file():
        if holds := [name for name in STAGES if (request.out / name).exists()]:
            raise UserError(f"{request.out / holds[0]} is there already: give another folder")
        return given
    if not request.resume:
        raise UserError(f"{request.out} holds a run: go on with --resume, or give another folder")
    try:
        then: dict[str, Any] = json.loads(plan.read_text("utf-8"))
        [(key, value)] = then.items()
    except (ValueError, AttributeError) as error:
        raise UserError(f"{plan} is damaged ({error}): start anew in another folder") from error
    if given and given != then:
        raise UserError(f"the run in {request.out} was begun with --{key} {value:g}: keep that")
    return then


def check_origin(request: TrainRequest) -> None:
    """Raises UserError where a stage of --from is missing."""
    for name in STAGES if request.origin is not None else ():
        assert request.origin is not None
        if not (request.origin / name / STATE).is_file():
            Stage.load(request.origin / name)


def train_one(request: TrainRequest, name: str, length: dict[str, Any], resume: bool) -> None:
    """Train one of the stages, for its share of the minutes."""
    settings, out = {**request.settings, **length}, request.out / name
    if "minutes" in length:
        settings["minutes"] = length["minutes"] * SHARES[name]
        if resume and read_metadata(out)["seconds"] >= 60 * settings["minutes"]:
            load_ema_stage(out).save(out)  # it was stopped between its last step and its end
            return
    origin = None if resume or request.origin is None else request.origin / name
    run_stage(
        replace(request, stage=name, out=out, settings=settings, resume=resume, origin=origin)
    )


# --- the report --------------------------------------------------------------------------------------


def write_report(request: TrainRequest, length: dict[str, Any]) -> None:
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
    [(key, value)] = length.items()
    what = f"{value:g} minutes" if key == "minutes" else f"{value} steps a stage"
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
    """Write out/samples.png; returns its prompts: of the suite `seen`, or captions of one's own pictures."""
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
