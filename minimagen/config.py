"""Settings that Python and the command line share, each default once. No torch: `minimagen --help` reads them.

A field's metadata says what the command line shows: its flag, its meaning and its bounds.
"""

from __future__ import annotations

from dataclasses import Field, dataclass, field
from typing import Any

STAGES = ("base", "sr64", "sr256")
RESOLUTIONS = {"base": 16, "sr64": 64, "sr256": 256}
VOCABULARIES = ("starter", "whole")
CAPTION_VERSIONS = (1, 2, 3)
NEW_CAPTIONS = 2  # the version of a new run: that of the shipped weights
# files of a run: its checkpoint, and the settings of `train all`
STATE, PLAN = "state.safetensors", "plan.json"


def option(default: Any, about: str, low: float, high: float, flag: str | None = None) -> Any:
    """A field of a settings dataclass that is also an option of the command line, within [low, high]."""
    return field(default=default, metadata={"about": about, "range": (low, high), "flag": flag})


def flag_of(setting: Field[Any]) -> str:
    """The option of the command line for a field of a settings dataclass."""
    return "--" + (setting.metadata["flag"] or setting.name).replace("_", "-")


@dataclass(frozen=True)
class SampleConfig:
    """How the cascade is sampled where nothing else is said."""

    guidance: float = option(4.0, "guidance weight w of the base stage; 1: no guidance", 0, 50)
    steps: int = option(20, "sampling steps of the base stage", 1, 1000)


@dataclass(frozen=True)
class SceneMix:
    """What training scenes have more or less of; each a share in [0, 1]."""

    pairs: float = option(0.45, "share of scenes with two kinds of objects", 0, 1)
    styled: float = option(
        0.55, "share of captions that name the style, unless everything in them has a colour", 0, 1
    )
    starter: float = option(0.0, "share of starter scenes in the whole vocabulary", 0, 1)


@dataclass(frozen=True)
class TrainConfig:
    """One training run. Give steps or minutes; the learning rate follows the fraction that is done.

    Imagen (section 4.1) trains the base with Adafactor and the other stages with Adam, at 1e-4 after 10,000
    warm-up steps. Runs of minutes instead of days need larger steps: Muon (Jordan et al. 2024) for the
    matrices, AdamW for the rest, and a warm-up–stable–decay schedule: a short warm-up, a constant rate, and a
    linear decay to zero, in which a short run gains most.
    """

    steps: int | None = option(None, "total training steps", 1, 1e9)
    minutes: float | None = option(None, "total training time in minutes", 0.01, 1e6)
    batch: int = option(48, "images in a batch", 1, 65536)
    grad_accum_steps: int = option(
        1, "parts of a batch that are computed one after the other, to save memory", 1, 1023, "accumulate"
    )  # fmt: skip
    lr: float = option(2e-3, "learning rate of AdamW", 1e-7, 1)
    muon_lr: float = option(0.02, "learning rate of Muon; 0: AdamW for all parameters", 0, 1)
    weight_decay: float = option(0.1, "weight decay of Muon", 0, 10)
    warmup_steps: int = option(40, "steps over which the learning rate rises from 0", 0, 1e9)
    decay_fraction: float = option(
        0.35, "fraction of the run over which the learning rate decays to 0", 0.01, 1, "decay"
    )
    ema_decay: float = option(0.995, "decay of the moving average of the weights", 0, 1)
    clip_norm: float = option(1.0, "the norm that gradients are clipped to", 0, 1e9)
    text_noise: float = option(0.0, "largest σ of Gaussian noise on text embeddings", 0, 10)
    text_noise_exponent: float = option(
        1.0, "σ of that noise is the largest one times u^X, u ~ U(0, 1): 2 leaves most captions nearly clean", 0, 10
    )  # fmt: skip
    checkpoint_minutes: float = option(3.0, "minutes between checkpoints", 0, 1e6)
    workers: int | None = option(
        None,
        "data-loading worker processes (default: 0; with one CUDA GPU: the number of cores less one)",
        0,
        1024,
    )
    seed: int = option(0, "random seed", 0, 5e8)


# On a GPU, settings that are not given are those that the shipped weights were trained with: larger batches, and
# noise on the text that leaves most captions nearly clean (data/cascade/README.md).
_ON_GPU = {"warmup_steps": 100, "decay_fraction": 0.7, "ema_decay": 0.999}
GPU_SETTINGS: dict[str, dict[str, float]] = {
    "base": {**_ON_GPU, "batch": 1536, "text_noise": 1.5, "text_noise_exponent": 2.0},
    "sr64": {**_ON_GPU, "batch": 768, "text_noise": 0.75, "text_noise_exponent": 2.0},
    "sr256": {**_ON_GPU, "batch": 512},
}
POOL_SIZES = {"base": 2_000_000, "sr64": 400_000, "sr256": 24_000}  # pictures on the GPU, at most
