"""Alignment: the share of pictures that show what their prompt names."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..assets import JUDGES
from ..scenes import Item, Scene, Scenes
from .judge import Judge
from .suites import Prompt, suite


def wilson(hits: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's score interval of the share hits / n (Wilson 1927); z = 1.96 is 95 %. n = 0 gives (0, 1).

    Unlike a bootstrap it does not shrink to a point where all are hits: 22 of 22 gives [0.851, 1].
    """
    if n == 0:
        return 0.0, 1.0
    p, square = hits / n, z * z / n
    middle = (p + square / 2) / (1 + square)
    half = z * math.sqrt(p * (1 - p) / n + square / (4 * n)) / (1 + square)
    return max(0.0, middle - half), min(1.0, middle + half)


def confidence_interval(hits: Sequence[bool]) -> tuple[float, float]:
    """The 95 % interval of the share of hits, by Wilson's formula; the picture is the unit."""
    return wilson(sum(hits), len(hits))


def joint_accuracy(judge: Judge, vocabulary: str, size: int = 64, count: int = 1000) -> float:
    """The share of real images, none from its training, in which a judge reads every attribute asked for right."""
    scenes = Scenes(size, "seen", vocabulary, seed=2)
    right = 0
    for start in range(0, count, 100):
        items: list[Item] = [scenes[i] for i in range(start, min(start + 100, count))]
        read = judge.read(torch.stack([item.image for item in items]))
        right += sum(all(i.asked.asks(s).values()) for i, s in zip(items, read, strict=True))
    return right / count


@dataclass
class Tally:
    """What the judges have read in images so far, against what their prompts name."""

    hits: list[bool] = field(default_factory=list)  # everything named is right, image by image
    strict_hits: list[bool] = field(default_factory=list)  # the same, by the strict judge
    by_category: dict[str, list[bool]] = field(default_factory=dict)  # and by "named ATTRIBUTE"

    def add(
        self, prompts: Sequence[Prompt], read: Sequence[Scene], strict: Sequence[Scene] | None
    ) -> None:
        """Compare the scenes that the judge, and the strict judge if any, read in the prompts' images."""
        for prompt, scene in zip(prompts, read, strict=True):
            right = prompt.asked.asks(scene)
            self.hits.append(all(right.values()))
            self.by_category.setdefault(prompt.category, []).append(self.hits[-1])
            for attribute, ok in right.items():
                self.by_category.setdefault(f"named {attribute}", []).append(ok)
        if strict is not None:
            both = zip(prompts, strict, strict=True)
            self.strict_hits += [all(prompt.asked.asks(scene).values()) for prompt, scene in both]


def evaluate(
    sample: Callable[[Sequence[str], int], Tensor],
    name: str = "seen",
    samples: int = 200,
    vocabulary: str = "starter",
    size: int = 64,
    batch: int = 50,
    progress: Callable[[int], object] = lambda done: None,
    seed: int = 1,
) -> dict[str, Any]:
    """Alignment: the share of images in which the judge reads everything that the prompt names.

    sample(prompts, first_seed) → images (B, 3, size, size) in [−1, 1]. name: of a suite; samples: images in all;
    batch: how many are sampled at once; progress(n) is called after each n; seed: of the prompts. Returns the
    fields of `minimagen evaluate --json`: by_category has each category of prompts, and as "named style" … how
    often an attribute is right where it is named. alignment_strict is alignment by the strict judge, which also
    rejects smeared or mixed objects; there is none below 64×64.
    """
    start = time.perf_counter()
    judge = Judge.load(vocabulary, min(size, 64))
    strict = Judge.load("strict") if size >= 64 and (JUDGES / "strict").is_dir() else None
    prompts, tally = suite(name, vocabulary, samples, seed), Tally()
    for first in range(0, samples, batch):
        some = prompts[first : first + batch]
        images = sample([p.text for p in some], first).cpu()
        tally.add(some, judge.read(images), None if strict is None else strict.read(images))
        progress(len(some))
    report = {
        "suite": name,
        "samples": samples,
        "size": size,
        "alignment": float(np.mean(tally.hits)),
        "interval": confidence_interval(tally.hits),
        "by_category": {k: float(np.mean(v)) for k, v in sorted(tally.by_category.items())},
        "judge_joint_accuracy": joint_accuracy(judge, vocabulary, size),
    }
    if strict is not None:
        report |= {
            "alignment_strict": float(np.mean(tally.strict_hits)),
            "interval_strict": confidence_interval(tally.strict_hits),
            "strict_joint_accuracy": joint_accuracy(strict, vocabulary, size),
        }
    return report | {"seconds": round(time.perf_counter() - start, 1)}
