"""A race against the clock: which recipe makes the base follow its words sooner?

    .venv/bin/python tests/benchmarks/race.py --minutes 8 shipped "AdamW alone" "predicts eps"

A recipe changes one thing. All start from the same weights (of --init, or none), meet the same pictures and
noise in the same order, and have the same minutes, decay included. Then the averaged weights get two scores:
alignment at 16×16 on prompts that belong to no suite, and the mean squared error of x̂₀ at several times, on
the same pictures and noise for all. The error tells two recipes apart long before alignment does: at t = 0.9
little is seen but the words. Each recipe adds a line to race.jsonl, and is printed.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

import torch
from torch import Tensor

from minimagen.config import TrainConfig
from minimagen.diffusion import cosine_log_snr, q_sample, to_x_0
from minimagen.evaluation.alignment import evaluate
from minimagen.randomness import seeded_noise
from minimagen.scenes import Scenes
from minimagen.stage import DEFAULTS, Stage, StageConfig
from minimagen.text import TextEncoder
from minimagen.training.loop import train
from minimagen.unet import UNetConfig

RECIPES: dict[str, dict] = {
    "shipped": {},
    # what is predicted, and how its error is weighted
    "predicts eps": {"target": "eps"},
    "predicts x_0": {"target": "x_0"},
    "weight at most 5": {"max_loss_weight": 5.0},
    "times evenly, as in the paper": {"time_exponent": 1.0},
    "times later still": {"time_exponent": 0.4},
    # the optimizer
    "AdamW alone": {"muon_lr": 0.0, "lr": 1e-3},
    "Muon at 0.01": {"muon_lr": 0.01},
    "Muon at 0.04": {"muon_lr": 0.04},
    "Muon without weight decay": {"weight_decay": 0.0},
    "decay 0.7": {"decay_fraction": 0.7},
    "batch 24": {"batch": 24},
    "batch 96": {"batch": 96},
    "EMA 0.98": {"ema_decay": 0.98},
    "EMA 0.999": {"ema_decay": 0.999},
    # the network
    "narrower": {"channels": (32, 96, 160)},
    "wider": {"channels": (64, 160, 224)},
    "one block a level": {"blocks": (1, 1, 1)},
    "words by cross-attention": {"attention": ("", "cross", "cross")},
    "attention at 4x4 alone": {"attention": ("", "", "self")},
    # the captions
    "no noise on words": {"text_noise": 0.0},
    "a fifth without words": {"caption_drop": 0.2},
    "more pairs and styles": {"pairs": 0.67, "styled": 0.8},
}
TIMES = (0.3, 0.5, 0.7, 0.8, 0.9, 0.97)


def chosen(kind: type, changes: dict) -> dict:
    """The changes that are fields of a config."""
    return {f.name: changes[f.name] for f in fields(kind) if f.name in changes}


def run(changes: dict, length: dict, init: Path | None, vocabulary: str, samples: int) -> dict:
    """Train by one recipe, and score it. length: minutes or steps."""
    encoder = TextEncoder(cache_size=0)
    default = DEFAULTS["base"]
    unet = replace(default.unet, **chosen(UNetConfig, changes))
    torch.manual_seed(0)
    stage = Stage(replace(default, **chosen(StageConfig, changes), unet=unet))
    if init is not None:
        stage.unet.load_state_dict(Stage.load(init).unet.state_dict())
    shares = {k: changes[k] for k in ("pairs", "styled") if k in changes}
    pictures = Scenes(16, vocabulary=vocabulary, **shares)
    config = TrainConfig(**length, **{"text_noise": 0.6, **chosen(TrainConfig, changes)})
    for report in train(stage, pictures, encoder, config):
        step = report["step"]
    stage.cpu().eval()  # where a GPU was, training has moved it there

    def sample(prompts: Sequence[str], first: int) -> Tensor:
        noise = seeded_noise(range(first, first + len(prompts)), (3, 16, 16), 0)
        return stage.sample(noise, *encoder(prompts), guidance=4.0)

    try:
        report = evaluate(sample, "seen", samples, vocabulary, size=16, seed=4)
    except FileNotFoundError:  # no judge reads the whole vocabulary at 16×16
        report = {}
    return {
        **length,
        "pictures": int(step) * config.batch,
        "alignment": report.get("alignment"),
        "interval": report.get("interval"),
        "error": {str(t): round(error(stage, encoder, t, vocabulary), 5) for t in TIMES},
    }


@torch.no_grad()
def error(stage: Stage, encoder: TextEncoder, t: float, vocabulary: str, count: int = 960) -> float:
    """Mean squared error of x̂_0 at time t: the same pictures, captions and noise for every recipe."""
    scenes, total = Scenes(16, "seen", vocabulary, seed=5), 0.0
    generator = torch.Generator().manual_seed(3)
    for i in range(0, count, 96):
        x_0, captions = scenes.batch(range(i, i + 96))
        log_snr = cosine_log_snr(torch.full((96,), t))
        x_t = q_sample(x_0, log_snr, torch.randn(x_0.shape, generator=generator))
        output = stage.unet(x_t, log_snr, *encoder(captions))
        total += (to_x_0(x_t, output, log_snr, stage.config.target) - x_0).square().mean().item()
    return total / (count // 96)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipes", nargs="+", choices=RECIPES, metavar="RECIPE", help="or several")
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument(
        "--steps", type=int, help="instead: fair on a busy machine, if equally fast"
    )
    parser.add_argument("--init", type=Path, help="a stage to start from (default: from nothing)")
    parser.add_argument("--vocabulary", default="starter", choices=("starter", "whole"))
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("race.jsonl"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    for name in args.recipes:
        length = {"steps": args.steps} if args.steps else {"minutes": args.minutes}
        row = run(RECIPES[name], length, args.init, args.vocabulary, args.samples)
        row = {"recipe": name, "from": str(args.init or "nothing"), **row}
        with open(args.out, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        low, high = row["interval"] or (0, 0)
        score = f"{row['alignment']:.1%} [{low:.0%}, {high:.0%}]" if row["interval"] else "–"
        print(name, f"{row['pictures']:,}", score, *row["error"].values(), sep=" | ", flush=True)


if __name__ == "__main__":
    main()
