"""How many steps does each stage need? Alignment against steps, one stage at a time.

    .venv/bin/python tests/benchmarks/steps.py --minutes 30 --out tests/benchmarks/steps.md

The other stages keep the steps of their configs, prompts and seeds are the same at every point, and the
judge reads the last stage's pictures, averaged down to 64×64. As many pictures a point as fit the minutes.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from minimagen.assets import CASCADE
from minimagen.config import STAGES
from minimagen.evaluation.alignment import evaluate, joint_accuracy
from minimagen.evaluation.judge import Judge
from minimagen.imagen import Imagen
from minimagen.images import downsample

STEPS = {"base": (3, 5, 8, 12, 20, 30, 50), "sr64": (1, 2, 4, 8, 16), "sr256": (1, 2, 4, 8)}


def set_steps(imagen: Imagen, name: str, steps: int) -> None:
    stage = imagen.stage(name)
    stage.config = replace(stage.config, steps=steps)


def curve(
    imagen: Imagen, name: str, points: Sequence[int], samples: int, suite: str, guidance: float
) -> list[dict]:
    """One row a number of steps: alignment, its interval, and the seconds a picture of the whole cascade."""
    usual, rows = imagen.stage(name).config.steps, []
    # the base and sr64 are judged at 64: the last stage, which only sharpens, is not needed for that
    last = "sr256" if name == "sr256" else "sr64"
    vocabulary = imagen.vocabulary
    for steps in points:
        set_steps(imagen, name, steps)
        taken = 0.0

        def sample(prompts: Sequence[str], first: int) -> Tensor:
            nonlocal taken
            begun = time.perf_counter()
            seeds = [first + i for i in range(len(prompts))]
            pictures = imagen.generate(prompts, seeds, guidance, last=last)[last]
            taken += time.perf_counter() - begun
            return downsample(pictures, 64)

        report = evaluate(sample, suite, samples, vocabulary, batch=min(25, samples))
        rows.append({"stage": name, "steps": steps, "usual": steps == usual, **report})
        rows[-1]["seconds_per_picture"] = taken / samples
    set_steps(imagen, name, usual)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--quick", action="store_true", help="a few pictures: that it runs")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES)
    parser.add_argument("--suite", default="seen")
    parser.add_argument("--guidance", type=float, default=4.0)
    parser.add_argument("--model", default=CASCADE, help="a cascade (default: the shipped one)")
    parser.add_argument("--out", type=Path, help="also write the table there")
    args = parser.parse_args()
    imagen = Imagen.from_pretrained(args.model).eval()
    steps = {n: STEPS[n][:1] if args.quick else STEPS[n] for n in args.stages}
    samples = 2
    if not args.quick:
        begun = time.perf_counter()
        imagen.generate(["a cat on the grass"] * 4, range(4), args.guidance)
        one = (time.perf_counter() - begun) / 4
        samples = round(args.minutes * 60 / one / sum(map(len, steps.values())))
        samples = min(2000, max(20, samples))
    rows = [
        row
        for name in args.stages
        for row in curve(imagen, name, steps[name], samples, args.suite, args.guidance)
    ]
    vocabulary = imagen.vocabulary
    right = joint_accuracy(Judge.load(vocabulary), vocabulary)
    table = [
        f"# Alignment against steps\n\nSuite {args.suite}, {vocabulary} vocabulary, guidance "
        f"{args.guidance:g}, {samples} pictures a point, read at 64×64 by a judge that is right on "
        f"{right:.1%} of real pictures.\nThe other stages keep their usual steps; * marks a stage's usual "
        "number. Seconds are of the stages up to the one that is judged.\n",
        "| stage | steps | alignment | 95 % interval | s a picture |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        low, high = row["interval"]
        table.append(
            f"| {row['stage']} | {row['steps']}{'*' * row['usual']} | {row['alignment']:.1%} "
            f"| {low:.1%} to {high:.1%} | {row['seconds_per_picture']:.2f} |"
        )
    print("\n".join(table))
    if args.out:
        args.out.write_text("\n".join(table) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
