"""Your world with three choices of six: each stage trained as in chapters 07 and 09, judged, drawn as a poster.

    OMP_NUM_THREADS=1 .venv/bin/python tests/benchmarks/worlds.py --out runs/worlds

Prints a table for tests/benchmarks/recipes.md. A run that was stopped goes on; what is trained is only judged.
Minutes are those of the processor, all threads together, halved: what two quiet cores would take, on a busy
machine too.
About 45 minutes of one core; --quick: three steps a stage, which learn nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from minimagen import Imagen
from minimagen.config import STAGES
from minimagen.course import world_training
from minimagen.course.world import World, choose, poster, sample_base
from minimagen.evaluation.alignment import wilson

CHOICES = {
    "a": ("cat", "frog", "pig", "car", "sunflower", "balloon"),
    "b": ("dragon", "castle", "rocket", "snowman", "pizza", "owl"),
    "c": ("dog", "ghost", "guitar", "watermelon", "fire truck", "whale"),
}


def trained(world: World, name: str, quick: bool) -> dict[str, Any]:
    """Steps, and minutes of two cores; nothing of a stage that was trained before."""
    if world.is_trained(name):
        return {}
    begun = time.process_time()
    run = world.train(name, "laptop", steps=3 if quick else None)
    return {"steps": len(run.losses), "minutes": (time.process_time() - begun) / 120}


def follows(world: World, count: int) -> dict[str, list[int]]:
    """How many of `count` pictures of the ten sentences the judge reads right, [right, of], by category."""
    asks = (world.sentences() * count)[:count]
    drawn = sample_base(world.stage("base"), [ask.text for ask in asks], range(count))
    hits = world.judge(drawn, asks)
    found = {"seen": [0, 0], "new": [0, 0]}
    for ask, hit in zip(asks, hits, strict=True):
        found[ask.category][0] += hit
        found[ask.category][1] += 1
    return found | {"all": [sum(hits), count]}


def make_poster(world: World, shipped: Imagen, path: Path) -> list[int]:
    """The ten sentences by one's own cascade and the shipped one; how many of ten the judge reads right."""
    asks = world.sentences()
    texts = [ask.text for ask in asks]
    own = world.cascade().generate(texts, range(10), guidance=3.0)["sr256"]
    theirs = shipped.generate(texts, range(10))["sr256"]
    poster(own, theirs, asks, path)
    return [sum(world.judge(own, asks)), sum(world.judge(theirs, asks))]


def share(found: list[int]) -> str:
    """ "54 of 60, 90 % [80, 95]", with Wilson's interval."""
    low, high = wilson(*found)
    return f"{found[0]} of {found[1]}, {100 * found[0] / found[1]:.0f} % [{100 * low:.0f}, {100 * high:.0f}]"


def row(key: str, told: dict[str, Any]) -> str:
    """One choice as a row of the table; an empty cell was not measured in this folder."""
    base = told.get("base", {})
    cells = [", ".join(CHOICES[key])]
    cells += [share(base[kind]) if kind in base else "" for kind in ("all", "seen", "new")]
    for name in ("sr64", "sr256"):
        cells.append(f"{told[name]['likeness']:.2f}" if name in told else "")
    minutes = (told.get(name, {}).get("minutes") for name in STAGES)
    cells.append(" / ".join("–" if m is None else f"{m:.1f}" for m in minutes))
    own = told.get("poster")
    return "| " + " | ".join([*cells, f"{own[0]}, {own[1]}" if own else ""]) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of all that is trained")
    parser.add_argument("--choices", nargs="*", default=list(CHOICES), choices=list(CHOICES))
    parser.add_argument("--stages", nargs="*", default=list(STAGES), choices=STAGES)
    parser.add_argument("--quick", action="store_true", help="three steps a stage, for a test")
    args = parser.parse_args()
    os.environ["MINIMAGEN_WORK"] = str(args.out.resolve())
    record = args.out / "worlds.json"
    found: dict[str, Any] = json.loads(record.read_text()) if record.is_file() else {}
    if args.quick:
        world_training.RECIPES.update(
            {name: _quick(recipe) for name, recipe in world_training.RECIPES.items()}
        )
    for key in args.choices:
        world, told = choose(*CHOICES[key]), found.setdefault(key, {})
        for name in args.stages:
            about = told.setdefault(name, {})
            about.update(trained(world, name, args.quick))
            if name == "base":
                about.update(follows(world, 10 if args.quick else 60))
            else:
                about.update(world.likeness(name, count=2 if args.quick else 24))
            record.write_text(json.dumps(found, indent=1) + "\n")
        if all(world.is_trained(name) for name in STAGES) and not args.quick:
            told["poster"] = make_poster(
                world, Imagen.from_pretrained(), world.folder / "poster.png"
            )
            record.write_text(json.dumps(found, indent=1) + "\n")
    print("| six things | base follows its words, of 60 | seen pairs | new pairs | likeness sr64 | sr256 |"
          " minutes of two cores | of ten on the poster, own and shipped |")  # fmt: skip
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for key in args.choices:
        print(row(key, found[key]))


def _quick(recipe: world_training.Recipe) -> world_training.Recipe:
    return replace(recipe, pool=2 * recipe.batch["laptop"])


if __name__ == "__main__":
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads())))
    main()
