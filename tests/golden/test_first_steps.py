"""The first steps of a training are what they were, by numbers: `python tests/golden/test_first_steps.py`.

A run is a function of its settings. So each of its parts shows here: images and captions, the streams of random
numbers, loss, optimizers, rates, average. Write the numbers anew only where one of these is meant to change, and
say so in the CHANGELOG: a run that was begun before is then not the run that goes on.
"""

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState

from minimagen.config import RESOLUTIONS, STAGES, TrainConfig
from minimagen.scenes import Scenes
from minimagen.stage import DEFAULTS, Stage
from minimagen.text import TextEncoder
from minimagen.training.loop import train
from minimagen.unet import UNetConfig

FILE = Path(__file__).resolve().with_name("first_steps.json")
spec = importlib.util.spec_from_file_location("golden_make", FILE.with_name("make.py"))
assert spec is not None and spec.loader is not None
make = importlib.util.module_from_spec(spec)
spec.loader.exec_module(make)
SETTINGS = TrainConfig(
    steps=5, batch=8, warmup_steps=2, seed=3, text_noise=0.7, text_noise_exponent=2.0
)


@torch.no_grad()
def stage_of(name):
    """A stage with small weights by a formula: initial values of torch may change with its version."""
    tiny = UNetConfig((16, 32), (1, 1), ("", "self" if name == "base" else "cross"), embedding=32)
    tiny = replace(tiny, efficient=name != "base", low_res=name != "base")
    stage = Stage(replace(DEFAULTS[name], unet=tiny, crop=32 if name == "sr256" else None))
    for i, (key, p) in enumerate(stage.unet.named_parameters()):
        scale = 0.5 / max(1, p[0].numel()) ** 0.5 if p.ndim > 1 else 0.1
        p.copy_(scale * make.wave(*p.shape, rate=1 + 0.1 * i) + (p.ndim == 1 and "norm" in key))
    return stage


def numbers(name):
    """Of each step loss and gradient norm; of the average, which is what is left, and of its way, eight each."""
    size = min(RESOLUTIONS[name], 64)
    stage, data = stage_of(name), Scenes(size, vocabulary="whole", version=2)
    before = torch.cat([p.detach().flatten().clone() for p in stage.parameters()])
    rows = list(train(stage, data, TextEncoder(cache_size=0), SETTINGS))
    AcceleratorState._reset_state(reset_partial_state=True)
    after = torch.cat([p.detach().flatten() for p in stage.parameters()])
    return {
        "loss": [round(row["loss"], 5) for row in rows],
        "grad_norm": [round(row["grad_norm"], 5) for row in rows],
        "average": make.eight(after),
        "way": [round(z.norm().item(), 5) for z in (after - before).chunk(8)],
    }


@pytest.mark.parametrize("name", STAGES)
def test_the_first_steps_of_a_training_are_what_they_were(name):
    stored, found = json.loads(FILE.read_text())[name], numbers(name)
    assert set(found) == set(stored)
    for what, values in found.items():
        assert values == pytest.approx(stored[what], rel=2e-3, abs=2e-4), what


def write():
    told = [f' "{name}": {json.dumps(numbers(name))}' for name in STAGES]
    FILE.write_text("{\n" + ",\n".join(told) + "\n}\n")


if __name__ == "__main__":
    write()
