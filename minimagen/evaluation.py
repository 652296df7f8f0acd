"""Is it any good? A judge that reads pictures back, prompt suites, and alignment with its interval.

The judge is the course's CLIP score, but one whose error is known: a small network trained on real Scenes
only, never on generated pictures, that says what it sees.
"""

from __future__ import annotations

import csv
import json
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from .grammar import DATA, Scene, Thing, grammar
from .scenes import Item, Scenes

LAYOUTS = ((1, "row"), (2, "row"), (3, "row"), (2, "column"))  # how many things, and how they stand
SUITES = ("seen", "heldout", "words", "chinese", "drawbench", "everyday")
FILES = ("drawbench", "everyday")  # suites whose prompts stand in data/NAME.tsv
UNKNOWN = "unknown"  # a strict judge's answer where it sees no object that it knows


class Judge(nn.Module):
    """Pictures (B, 3, H, W) in [−1, 1] → logits for each attribute; H, W are averaged down to `size` first.

    A plain CNN for what the whole picture shows. Things are read in order (left to right, top to bottom) from
    three slots; each looks for its thing by attention over the 8×8 map, wherever it stands. With looks=5 it
    reads a picture as it is and moved by 1/32 of its side to each side, and sums what it thinks.

    With doubt, a number, it is a strict judge (64×64 only): a slot may be UNKNOWN, and a second, finer path
    looks for what is smeared. doubt is added to the log-probability of UNKNOWN.
    """

    def __init__(
        self,
        objects: Sequence[str],
        size: int = 64,
        width: int = 32,
        looks: int = 1,
        doubt: float | None = None,
    ) -> None:
        super().__init__()
        self.objects, self.size, self.width, self.looks = tuple(objects), size, width, looks
        self.doubt = doubt
        words = grammar()
        self.answers: dict[str, tuple] = {
            "layout": LAYOUTS,
            "style": tuple(words["styles"]),
            "place": tuple(words["places"]),
            "time": tuple(words["times"]),
        }
        self.slot_answers: dict[str, tuple] = {
            "key": self.objects if doubt is None else (*self.objects, UNKNOWN),
            "colour": (None, *words["colours"]),
            "size": (None, *words["sizes"]),
        }
        w, layers, c_in = width, [], 3
        strides = {64: (2, 2, 1, 2, 1, 1), 16: (1, 2, 1, 1, 1, 1)}[size]
        for c_out, stride in zip((w, 2 * w, 3 * w, 4 * w, 4 * w, 5 * w), strides, strict=True):
            conv = nn.Conv2d(c_in, c_out, 3, stride=stride, padding=1, bias=False)
            layers += [conv, nn.BatchNorm2d(c_out), nn.ReLU()]
            c_in = c_out
        self.trunk = nn.Sequential(*layers)  # (B, 5w, 8, 8)
        self.features = nn.Sequential(
            nn.AvgPool2d(2), nn.Conv2d(c_in, 48, 1), nn.Flatten(), nn.Linear(768, 256), nn.ReLU()
        )
        self.heads = nn.ModuleDict({k: nn.Linear(256, len(v)) for k, v in self.answers.items()})
        self.query = nn.Linear(256, 3 * 128)
        if doubt is not None:
            self.detail, c_fine = _detail()  # (B, 48, 8, 8)
            self.key_value_of_detail = nn.Conv2d(c_fine, 2 * 128, 1, bias=False)
        self.key_value = nn.Conv2d(c_in, 2 * 128, 1)
        self.position = nn.Parameter(torch.zeros(c_in, 8, 8))
        self.mix = nn.Linear(256 + 128, 128)
        self.slot_heads = nn.ModuleDict(
            {k: nn.Linear(128, len(v)) for k, v in self.slot_answers.items()}
        )

    def embed(self, images: Tensor) -> Tensor:
        """The judge's own features, (B, 256): what Fréchet distance "in judge features" compares."""
        return self.features(self.trunk(self._small(images)))

    def _small(self, images: Tensor) -> Tensor:
        small = F.interpolate(images, size=(self.size, self.size), mode="area")
        return small.contiguous(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        small = self._small(images)
        m = self.trunk(small)
        h = self.features(m)  # (B, 256)
        q = self.query(h).unflatten(1, (3, 4, 32)).transpose(1, 2)  # (B, 4 heads, 3, 32)
        key_value = self.key_value(m + self.position)
        if self.doubt is not None:
            key_value = key_value + self.key_value_of_detail(self.detail(small))
        k, v = (  # each (B, 4, 64, 32)
            z.flatten(2).unflatten(1, (4, 32)).transpose(2, 3) for z in key_value.chunk(2, dim=1)
        )
        found = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)  # (B, 3, 128)
        slots = F.relu(self.mix(torch.cat([found, h[:, None].expand(-1, 3, -1)], dim=-1)))
        logits = {name: head(h) for name, head in self.heads.items()}  # (B, answers)
        of_things = {name: head(slots) for name, head in self.slot_heads.items()}  # (B, 3, answers)
        return logits | of_things

    @torch.no_grad()
    def read(self, images: Tensor) -> list[Scene]:
        """Say what is in each picture."""
        side, d = images.shape[-1], images.shape[-1] // 32
        around = F.pad(images, (d,) * 4, mode="replicate")
        moves = [(d, d), (0, d), (2 * d, d), (d, 0), (d, 2 * d)][: self.looks]
        looks = [self.eval()(around[..., y : y + side, x : x + side]) for y, x in moves]
        total = {k: torch.stack([z[k].log_softmax(-1) for z in looks]).sum(0) for k in looks[0]}
        if self.doubt is not None:
            total["key"][..., -1] += self.doubt * len(looks)
        best = {name: value.argmax(dim=-1).tolist() for name, value in total.items()}
        scenes = []
        for i in range(len(images)):
            n, arrangement = LAYOUTS[best["layout"][i]]
            seen = {k: [v[a] for a in best[k][i]] for k, v in self.slot_answers.items()}
            things = tuple(Thing(*(values[k] for values in seen.values())) for k in range(n))
            rest = {k: self.answers[k][best[k][i]] for k in ("style", "place", "time")}
            scenes.append(Scene(things, arrangement, **rest))
        return scenes

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        config = {k: getattr(self, k) for k in ("objects", "size", "width", "looks")}
        if self.doubt is not None:
            config["doubt"] = self.doubt
        (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
        halved = {k: v.half() if v.is_floating_point() else v for k, v in self.state_dict().items()}
        save_file({k: v.contiguous() for k, v in halved.items()}, folder / "model.safetensors")

    @classmethod
    def load(cls, vocabulary: str = "starter", size: int = 64) -> Judge:
        """The shipped judge. Raises FileNotFoundError where there is none for that vocabulary and size."""
        folder = DATA / "judge" / (vocabulary if size == 64 else f"{vocabulary}{size}")
        if not (folder / "config.json").is_file():
            raise FileNotFoundError(f"{folder} holds no judge for the {vocabulary} vocabulary")
        judge = cls(**json.loads((folder / "config.json").read_text()))
        judge.load_state_dict(load_file(folder / "model.safetensors"))
        return judge.float().eval()


def _detail() -> tuple[nn.Sequential, int]:
    """The finer path of a strict judge: its first layer keeps every pixel. (B, 3, 64, 64) → (B, 48, 8, 8)."""
    layers: list[nn.Module] = []
    for c_in, c_out, stride in ((3, 24, 1), (24, 32, 2), (32, 48, 2), (48, 48, 2)):
        conv = nn.Conv2d(c_in, c_out, 3, stride=stride, padding=1, bias=False)
        layers += [conv, nn.BatchNorm2d(c_out), nn.ReLU()]
    return nn.Sequential(*layers), 48


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """Between Gaussians fitted to two sets of features, (N, D) and (M, D) (Heusel et al. 2017).

    |μ_a − μ_b|² + tr(Σ_a + Σ_b − 2 (Σ_a Σ_b)^½). It is 0 for equal sets, and grows as N falls: compare
    equal numbers only, and name the features.
    """
    a, b = a.double(), b.double()
    covariance_a, covariance_b = torch.cov(a.T), torch.cov(b.T)
    # (Σ_a Σ_b)^½ has the roots of its eigenvalues, which are real and ≥ 0 but for rounding
    roots = torch.linalg.eigvals(covariance_a @ covariance_b).real.clamp(min=0).sqrt()
    distance = (a.mean(0) - b.mean(0)).square().sum() - 2 * roots.sum()
    return float(distance + covariance_a.trace() + covariance_b.trace())


@dataclass(frozen=True)
class Prompt:
    """A text, what it asks for, and the kind of prompt it is."""

    text: str
    asked: Scene
    category: str


def suite(name: str, vocabulary: str = "starter", count: int = 200, seed: int = 1) -> list[Prompt]:
    """`count` prompts of a suite, always the same ones. Raises ValueError for an unknown suite.

    Another seed gives other prompts of the same kind: tune on those, not on the suite.
    """
    if name not in SUITES:
        raise ValueError(f"there is no suite called {name!r}; there are: {', '.join(SUITES)}")
    if name in FILES:
        rows = written(name, vocabulary)
        return [rows[i * len(rows) // count] for i in range(count)]  # evenly, of every category
    split = {"chinese": "seen"}.get(name, name)
    languages = ("zh",) if name == "chinese" else ("en",)
    scenes = Scenes(split=split, vocabulary=vocabulary, languages=languages, seed=seed, version=1)
    prompts = []
    for i in range(count):
        _, asked, text, _ = scenes.describe(i)
        kinds = len({t.key for t in asked.things})
        category = "two kinds" if kinds > 1 else ("one", "two", "three")[len(asked.things) - 1]
        prompts.append(Prompt(text, asked, category))
    return prompts


def written(name: str, vocabulary: str = "starter") -> list[Prompt]:
    """The prompts of a file that the vocabulary can show, in its order.

    drawbench is the miniature DrawBench (section 3, table A.1): nine categories, where the paper has eleven.
    everyday has prompts as people type them, English and Chinese, from before anything was trained on captions
    of version 2. The starter vocabulary has 40 objects, two styles and eight places, and no colours, sizes or
    times, nor above and below: prompts that ask for others are left out.
    """
    with open(DATA / f"{name}.tsv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    shown = Scenes(vocabulary=vocabulary)
    prompts = []
    # things: "cat cat" are two, "cat>dog" left of, "moon^tree" above, "car:red" a colour, "car::big" a size
    for row in rows:
        told = [thing.split(":") for thing in re.split("[ >^]", row["things"])]
        things = tuple(Thing(key, *(value or None for value in values)) for key, *values in told)
        arrangement = "row" if ">" in row["things"] else "column" if "^" in row["things"] else None
        when = row.get("time") or None
        asked = Scene(things, arrangement, row["style"] or None, row["place"] or None, when)
        plain = when is None and not any(t.colour or t.size for t in things)
        if vocabulary == "whole" or (
            plain
            and arrangement != "column"
            and all(t.key in shown.objects for t in things)
            and asked.style in (None, *shown.styles)
            and asked.place in (None, *shown.places)
        ):
            prompts.append(Prompt(row["text"], asked, row["category"]))
    return prompts


def interval(hits: Sequence[bool], level: float = 0.95) -> tuple[float, float]:
    """Bootstrap interval of a share: the picture is the unit that is drawn again."""
    n = len(hits)  # drawing n hits or misses with replacement is a binomial draw
    drawn = np.random.default_rng(0).binomial(n, np.mean(hits), 2000) / n
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def joint_accuracy(judge: Judge, vocabulary: str, size: int = 64, count: int = 1000) -> float:
    """Share of real pictures, never seen by the judge, on which it reads every attribute asked for right."""
    scenes = Scenes(size, "seen", vocabulary, seed=2)
    right = 0
    for start in range(0, count, 100):
        items: list[Item] = [scenes[i] for i in range(start, min(start + 100, count))]
        read = judge.read(torch.stack([item.image for item in items]))
        right += sum(all(i.asked.asks(s).values()) for i, s in zip(items, read, strict=True))
    return right / count


def evaluate(
    sample: Callable[[Sequence[str], int], Tensor],
    name: str = "seen",
    samples: int = 200,
    vocabulary: str = "starter",
    size: int = 64,
    batch: int = 50,
    progress: Callable[[int], object] = lambda done: None,
    seed: int = 1,
) -> dict:
    """Alignment: the share of pictures in which the judge reads back everything that the prompt names.

    sample(prompts, first_seed) → pictures (B, 3, size, size) in [−1, 1]. Returns the fields of
    `minimagen evaluate --json`; by_category has each kind of prompt, and as "named style" … how often each
    attribute is right where it is named. alignment_strict is the same by the strict judge, which also refuses
    objects that are smeared or mixed; there is none under 64×64.
    """
    start, judge = time.perf_counter(), Judge.load(vocabulary, min(size, 64))
    strict = Judge.load("strict") if size >= 64 and (DATA / "judge" / "strict").is_dir() else None
    prompts = suite(name, vocabulary, samples, seed)
    hits: list[bool] = []
    strict_hits: list[bool] = []
    shares: dict[str, list[bool]] = {}
    for first in range(0, samples, batch):
        some = prompts[first : first + batch]
        images = sample([p.text for p in some], first).cpu()
        seen = judge.read(images)
        if strict is not None:
            read = strict.read(images)
            strict_hits += [all(p.asked.asks(s).values()) for p, s in zip(some, read, strict=True)]
        for prompt, scene in zip(some, seen, strict=True):
            right = prompt.asked.asks(scene)
            hits.append(all(right.values()))
            shares.setdefault(prompt.category, []).append(hits[-1])
            for attribute, ok in right.items():
                shares.setdefault(f"named {attribute}", []).append(ok)
        progress(len(some))
    by_strict: dict[str, object] = {}
    if strict is not None:
        by_strict["alignment_strict"] = float(np.mean(strict_hits))
        by_strict["interval_strict"] = interval(strict_hits)
        by_strict["strict_joint_accuracy"] = joint_accuracy(strict, vocabulary, size)
    return {
        "suite": name,
        "samples": samples,
        "size": size,
        "alignment": float(np.mean(hits)),
        "interval": interval(hits),
        **by_strict,
        "by_category": {k: float(np.mean(v)) for k, v in sorted(shares.items())},
        "judge_joint_accuracy": joint_accuracy(judge, vocabulary, size),
        "seconds": round(time.perf_counter() - start, 1),
    }
