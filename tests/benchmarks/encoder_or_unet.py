"""A better text encoder or a larger U-Net? Imagen's Fig. 4 (a, b) in small, for chapter 11.

    .venv/bin/python tests/benchmarks/encoder_or_unet.py --out data/experiments/encoder_or_unet.json

Three frozen encoders (random weights; the shipped one's token table, without its layers; the shipped one) times two
U-Nets (narrow and wide), each trained from random weights on the same pictures of twelve things in four places, the
same number of steps. The judge reads pictures of 16×16: of new prompts by the names of training captions, and by
synonyms that no caption had. Writes a row a model, with Wilson's interval and the seconds of one core.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import T5EncoderModel

from minimagen.config import TrainConfig
from minimagen.evaluation.alignment import wilson
from minimagen.evaluation.judge import Judge
from minimagen.randomness import seeded_noise
from minimagen.scenes import Scene, Scenes
from minimagen.stage import DEFAULTS, Stage
from minimagen.text import TextEncoder
from minimagen.training.loop import train
from minimagen.unet import UNetConfig

THINGS = (
    *("cat", "dog", "frog", "pig", "car", "rocket"),
    *("house", "sunflower", "pizza", "robot", "mushroom", "balloon"),
)
PLACES = ("grass", "beach", "snow", "space")
ENCODERS = ("random", "table", "shipped")
UNETS = {"narrow": (16, 32, 32), "wide": (32, 64, 96)}
STEPS, BATCH, PICTURES, PROMPTS = 800, 32, 6000, 192


def singles(
    split: str, count: int, languages: tuple[str, ...] = ("en", "zh")
) -> list[tuple[Scenes, int]]:
    """The first `count` scenes of a split that show one thing, as numbers of their data set."""
    scenes = Scenes(
        16, split, objects=THINGS, places=PLACES, styles=("3d",), languages=languages, pairs=0
    )
    found, i = [], 0
    while len(found) < count:
        if len(scenes.describe(i)[0].things) == 1:
            found.append((scenes, i))
        i += 1
    return found


class Pool:
    """The pictures of training, drawn once: an ImageDataset."""

    def __init__(self, count: int) -> None:
        chosen = singles("train", count)
        self.identity = {"pictures": count}
        self.pictures, self.captions = chosen[0][0].batch([i for _, i in chosen])

    def batch(self, indices: list[int]) -> tuple[Tensor, list[str]]:
        return self.pictures[indices], [self.captions[i] for i in indices]

    def __len__(self) -> int:
        return len(self.captions)


def encoder(name: str) -> TextEncoder:
    """A frozen encoder: the shipped one, its token table without the layers, or its shape with random weights."""
    found = TextEncoder()
    if name == "random":
        torch.manual_seed(0)
        found.model = T5EncoderModel(found.model.config).eval().requires_grad_(False)
    if name == "table":
        found.model.encoder.block = torch.nn.ModuleList()
    return found


def unet(channels: tuple[int, ...]) -> UNetConfig:
    return UNetConfig(
        channels=channels, blocks=(1,) * 3, attention=("", "self", "self"), embedding=128
    )


@torch.no_grad()
def score(stage: Stage, states: TextEncoder, prompts: list[tuple[str, Scene]], judge: Judge) -> int:
    """How many pictures, one a prompt, show all that it names."""
    hits = 0
    for first in range(0, len(prompts), 64):
        part = prompts[first : first + 64]
        text, mask = states([p for p, _ in part])
        noise = seeded_noise(range(first, first + len(part)), (3, 16, 16))
        pictures = stage.sample(noise, text, mask, guidance=3.0, steps=20)
        read = judge.read(pictures)
        hits += sum(
            all(asked.asks(seen).values()) for (_, asked), seen in zip(part, read, strict=True)
        )
    return hits


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--quick", action="store_true", help="a trial: the numbers mean nothing")
    args = parser.parse_args()
    steps, pictures, count = (2, 64, 8) if args.quick else (args.steps, PICTURES, PROMPTS)
    torch.set_num_threads(1)
    pool, judge = Pool(pictures), Judge.load("starter", 16)
    prompts = {
        split: [
            (text, asked) for s, i in singles(split, count) for _, asked, text, _ in [s.describe(i)]
        ]
        for split in ("seen", "words")
    }
    rows: list[dict[str, Any]] = []
    for size, channels in UNETS.items():
        for name in ENCODERS:
            states = encoder(name)
            torch.manual_seed(0)
            stage = Stage(replace(DEFAULTS["base"], unet=unet(channels)))
            config = TrainConfig(
                steps=steps,
                batch=BATCH,
                lr=2e-3,
                muon_lr=0.02,
                ema_decay=0.99,
                decay_fraction=0.7,
                warmup_steps=20,
            )
            began = time.process_time()
            for _ in train(stage, pool, states, config):
                pass
            seconds = time.process_time() - began
            row: dict[str, Any] = {
                "encoder": name, "unet": size, "parameters": sum(p.numel() for p in stage.parameters()),
                "core_seconds": round(seconds),
            }  # fmt: skip
            for split, asked in prompts.items():
                hits = score(stage.eval(), states, asked, judge)
                row[split] = {"hits": hits, "of": len(asked), "interval": wilson(hits, len(asked))}
            rows.append(row)
            print(json.dumps(row), flush=True)
    told = {
        "date": time.strftime("%Y-%m-%d"), "machine": platform.processor() or platform.machine(),
        "steps": steps, "batch": BATCH, "things": THINGS, "places": PLACES, "rows": rows,
    }  # fmt: skip
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
