"""Eight output numbers of each shipped stage, of its U-Net and of every sampler: `python tests/golden/make.py`.

Shipped weights are numbers that no formula gives, so what they make of a fixed input is stored. Run this only
when the weights, or what a stage does with them, are meant to change, and say so in the CHANGELOG. Other weights
need another version: raise it in pyproject.toml, minimagen/__init__.py and CITATION.cff first.
"""

import hashlib
import json
from pathlib import Path

import torch

from minimagen import __version__
from minimagen.assets import CASCADE
from minimagen.config import STAGES
from minimagen.samplers import SAMPLERS
from minimagen.stage import Stage
from minimagen.text import TextEncoder

FILE = Path(__file__).resolve().with_name("outputs.json")
PROMPT = "a red cat to the left of a tree on the beach at night"


def wave(*shape, rate=1.0):
    """A fixed input in about N(0, 1), by a formula and not by a random generator, whose numbers may change."""
    i = torch.arange(torch.Size(shape).numel(), dtype=torch.float64)
    u = ((i + 1) * 0.6180339887498949 * rate) % 1
    return torch.erfinv(2 * u.clamp(0.001, 0.999) - 1).mul(2**0.5).float().reshape(shape)


def eight(output):
    """Eight numbers, evenly from all of an output."""
    flat = output.flatten().float()
    return [round(flat[(2 * k + 1) * len(flat) // 16].item(), 5) for k in range(8)]


def weights(name):
    return hashlib.sha256((CASCADE / name / "model.safetensors").read_bytes()).hexdigest()[:16]


@torch.no_grad()
def outputs(name):
    """{"unet": eight numbers, "ddpm": …, "ddim": …, "dpm_solver": …} of a shipped stage."""
    stage, (text, mask) = Stage.load(CASCADE / name), TextEncoder(cache_size=0)([PROMPT])
    side = 16 if name == "base" else 64  # sr256 on a quarter of its picture: it takes any size
    x, low = wave(1, 3, side, side), wave(1, 3, side // 4, side // 4, rate=0.01).clamp(-1, 1)
    low_noise = wave(1, 3, side // 4, side // 4, rate=1.7)
    below = [] if name == "base" else [low, low_noise]
    seen = [] if name == "base" else [*stage.augment(low, torch.tensor([0.1]), low_noise)]
    told = {"unet": eight(stage.unet(x, torch.tensor([-0.5]), text, mask, *seen))}
    for sampler in SAMPLERS:
        told[sampler] = eight(
            stage.sample(
                x,
                text,
                mask,
                *below,
                guidance=4.0 if stage.config.guidance is None else stage.config.guidance,
                sampler=sampler,
                noise_sampler=lambda like: wave(*like.shape, rate=2.3),
            )
        )
    return told


def write():
    before, encoder = json.loads(FILE.read_text()), TextEncoder(cache_size=0).fingerprint
    stages_changed = any(weights(name) != before[name]["weights"] for name in STAGES)
    if stages_changed or encoder != before["text_encoder"]:
        if before["version"] == __version__:
            raise SystemExit(f"these are not the weights of {__version__}: raise the version")
        before["version"] = __version__
    told = {}
    for name in STAGES:
        config = json.loads((CASCADE / name / "config.json").read_text())
        told[name] = {"weights": weights(name), "config": config, **outputs(name)}
    rows = [
        f' "{name}": {{\n'
        + ",\n".join(f'  "{k}": {json.dumps(v)}' for k, v in told[name].items())
        + "\n }"
        for name in told
    ]
    rows = [f' "version": "{before["version"]}"', f' "text_encoder": "{encoder}"', *rows]
    FILE.write_text("{\n" + ",\n".join(rows) + "\n}\n")


if __name__ == "__main__":
    write()
