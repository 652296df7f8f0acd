"""The report of `minimagen train all`: what was trained, losses, scores, samples, and seconds by part."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from ..config import RESOLUTIONS, STAGES, STATE
from ..evaluation.alignment import evaluate
from ..evaluation.suites import suite
from ..imagen import Imagen
from ..images import grid, save_png, to_pil
from ..scenes import Folder
from ..stage import Stage
from ..unet import num_parameters
from .checkpoint import read_metadata
from .log import read_log
from .run import TrainRequest

REPORT, SAMPLES = "report.md", "samples.png"
JUDGED = 40  # images that the judge reads
SHOWN = 8  # images in samples.png


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
    """Alignment on the suite `seen` at 64×64, as lines of the report."""

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
    images = to_pil(list(imagen.generate(prompts, range(len(prompts))).values())[-1])
    sheet = grid(images, min(4, len(images)))
    save_png(
        sheet,
        request.out / SAMPLES,
        " | ".join(prompts),
        f"0 to {len(prompts) - 1}",
        str(request.out),
    )
    return prompts
