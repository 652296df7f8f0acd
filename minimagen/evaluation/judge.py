"""The judge: a classifier that reads scenes from images.

It has the role of a CLIP score, but its error can be measured: a small CNN, trained on real Scenes only, never on
generated images, that predicts their attributes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..assets import JUDGES, from_int8, int8, read_tensors, write_json, write_tensors
from ..scenes import Scene, Thing, grammar

LAYOUTS = ((1, "row"), (2, "row"), (3, "row"), (2, "column"))  # number of things and arrangement
UNKNOWN = "unknown"  # a strict judge's answer for an object that it does not recognise


class Judge(nn.Module):
    """Images (B, 3, H, W) in [−1, 1] → logits for each attribute; they are averaged down to size × size first.

    A CNN with heads for what the whole image shows, and three slots for its things in reading order (left to
    right, top to bottom); each slot attends over the 8×8 map. looks=5 is test-time augmentation: log-probabilities
    are summed over the image and its shifts by 1/32 of its width in each direction. objects: the keys of its
    classes; width: its channels.

    With doubt, a number, it is a strict judge (64×64 only): a slot may be UNKNOWN, and a second path of higher
    resolution detects smeared objects. doubt is a bias on the log-probability of UNKNOWN.
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
        self.answers: dict[str, tuple[Any, ...]] = {
            "layout": LAYOUTS,
            "style": tuple(words["styles"]),
            "place": tuple(words["places"]),
            "time": tuple(words["times"]),
        }
        self.slot_answers: dict[str, tuple[Any, ...]] = {
            "key": self.objects if doubt is None else (*self.objects, UNKNOWN),
            "colour": (None, *words["colours"]),
            "size": (None, *words["sizes"]),
        }
        strides = {64: (2, 2, 1, 2, 1, 1), 16: (1, 2, 1, 1, 1, 1)}[size]
        self.trunk = convolutions((3, *(width * k for k in (1, 2, 3, 4, 4, 5))), strides)
        c_in = 5 * width  # the trunk gives (B, 5 · width, 8, 8)
        self.features = nn.Sequential(
            nn.AvgPool2d(2), nn.Conv2d(c_in, 48, 1), nn.Flatten(), nn.Linear(768, 256), nn.ReLU()
        )
        self.heads = nn.ModuleDict({k: nn.Linear(256, len(v)) for k, v in self.answers.items()})
        self.query = nn.Linear(256, 3 * 128)
        if doubt is not None:
            self.detail = convolutions((3, 24, 32, 48, 48), (1, 2, 2, 2))  # (B, 48, 8, 8)
            self.key_value_of_detail = nn.Conv2d(48, 2 * 128, 1, bias=False)
        self.key_value = nn.Conv2d(c_in, 2 * 128, 1)
        self.position = nn.Parameter(torch.zeros(c_in, 8, 8))
        self.mix = nn.Linear(256 + 128, 128)
        self.slot_heads = nn.ModuleDict(
            {k: nn.Linear(128, len(v)) for k, v in self.slot_answers.items()}
        )

    def embed(self, images: Tensor) -> Tensor:
        """The judge's own features, (B, 256): what Fréchet distance "in judge features" compares."""
        return cast(Tensor, self.features(self.trunk(self._small(images))))

    def _small(self, images: Tensor) -> Tensor:
        small = F.interpolate(images, size=(self.size, self.size), mode="area")
        return small.contiguous(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """images → logits: layout, style, place, time (B, answers); key, colour, size (B, 3 slots, answers)."""
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
        """The scene that is most probable in each image (B, 3, H, W)."""
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
        """Write config.json and model.safetensors: matrices in eight bits, the rest in float16."""
        config: dict[str, Any] = {
            k: getattr(self, k) for k in ("objects", "size", "width", "looks")
        }
        if self.doubt is not None:
            config["doubt"] = self.doubt
        write_json(config, folder / "config.json")
        state = self.state_dict()
        matrices = int8({k: v for k, v in state.items() if v.ndim > 1})
        rest = {
            k: v.half() if v.is_floating_point() else v for k, v in state.items() if v.ndim <= 1
        }
        write_tensors(matrices | rest, folder / "model.safetensors")

    @classmethod
    def load(cls, vocabulary: str = "starter", size: int = 64) -> Judge:
        """The shipped judge. Raises FileNotFoundError where there is none for that vocabulary and size."""
        folder = JUDGES / (vocabulary if size == 64 else f"{vocabulary}{size}")
        if not (folder / "config.json").is_file():
            raise FileNotFoundError(f"{folder} holds no judge for the {vocabulary} vocabulary")
        judge = cls(**json.loads((folder / "config.json").read_text()))
        judge.load_state_dict(from_int8(read_tensors(folder / "model.safetensors")))
        return judge.float().eval()


def convolutions(channels: Sequence[int], strides: Sequence[int]) -> nn.Sequential:
    """3×3 convolutions from channels[i] to channels[i + 1], each with batch norm and ReLU."""
    layers: list[nn.Module] = []
    for (c_in, c_out), stride in zip(pairwise(channels), strides, strict=True):
        conv = nn.Conv2d(c_in, c_out, 3, stride=stride, padding=1, bias=False)
        layers += [conv, nn.BatchNorm2d(c_out), nn.ReLU()]
    return nn.Sequential(*layers)
