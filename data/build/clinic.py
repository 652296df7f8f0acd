"""The three short runs among the patients of chapter 15, each with a bug that a known project shipped.

    python data/build/clinic.py        # into data/clinic, half a minute of one core each

All three train the same small base on the pictures of the course's world. What is kept of a run is what its
patient shows: config.json, the averaged weights in eight bits, the log.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from minimagen.assets import DATA
from minimagen.config import TrainConfig
from minimagen.course.patients import over_queries, pack
from minimagen.course.world import DEFAULT, PLACES, World
from minimagen.course.world_training import Pool, recipe
from minimagen.stage import Stage
from minimagen.text import TextEncoder
from minimagen.training import loop
from minimagen.unet import UNetConfig

STEPS, PROCESSES = 400, 4
SMALL = UNetConfig(channels=(32, 32), blocks=(1, 1), attention=("", "self"), embedding=32)
KEPT = ("step", "loss", "lr_factor", "grad_norm", "progress")


def scheduled_for_one(honest: Callable[..., float]) -> Callable[..., float]:
    """The schedule is stepped once for every process, and was made for the steps of one."""

    def factor(step: int, progress: float, config: TrainConfig) -> float:
        return honest(PROCESSES * step, min(1.0, PROCESSES * progress), config)

    return factor


def run(name: str, prepare: Callable[[Stage], object] = lambda stage: None) -> None:
    """Train, and keep config, averaged weights and log."""
    encoder = TextEncoder()
    torch.manual_seed(0)
    stage = Stage(replace(recipe("base").config, unet=SMALL, text_encoder=encoder.fingerprint))
    prepare(stage)
    settings = TrainConfig(
        steps=STEPS, batch=32, ema_decay=0.99, decay_fraction=0.7, warmup_steps=20
    )
    draw = partial(World(DEFAULT, PLACES)._drawn, side=16)
    pictures = Pool(draw, 1500, {"world": DEFAULT, "places": PLACES})
    out = DATA / "clinic" / name
    with tempfile.TemporaryDirectory() as folder:
        rows = list(loop.train(stage, pictures, encoder, settings, Path(folder)))
    pack(stage, out)
    with open(out / "log.jsonl", "w", encoding="utf-8") as log:
        for row in rows[::10]:
            log.write(json.dumps({k: float(f"{row[k]:.4g}") for k in KEPT}) + "\n")
    print(name, rows[-1]["loss"], rows[-1]["seconds"], flush=True)


if __name__ == "__main__":
    for chosen in sys.argv[1:] or "acb":
        if chosen == "b":
            loop.lr_factor = scheduled_for_one(loop.lr_factor)
        run(chosen, over_queries if chosen == "c" else lambda stage: None)
