"""The patients of chapter 15: how each is made. Who reads on here reads the causes.

Most are the shipped weights with one line changed; three were trained with their bug (data/build/clinic.py).
"""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ..assets import CASCADE, DATA, from_int8, int8, read_tensors, write_json, write_tensors
from ..guidance import Denoiser, drop_captions
from ..imagen import Imagen
from ..images import to_pil
from ..samplers import Callback, Denoise, ddim_step
from ..scenes import Scenes
from ..stage import Stage, StageConfig
from ..text import TextEncoder
from ..training.checkpoint import save_checkpoint
from ..unet import Attention, AttentionPool, UNet

RUNS = DATA / "clinic"  # made by data/build/clinic.py
Subject = Stage | Imagen | Path


def run(letter: str) -> Stage:
    """What a run of data/build/clinic.py has learned: a sound, b with patient 5's bug, c with patient 12's."""
    config = json.loads((RUNS / letter / "config.json").read_text(encoding="utf-8"))
    stage = Stage(StageConfig.from_dict(config))
    stage.unet.load_state_dict(from_int8(read_tensors(RUNS / letter / "packed.safetensors")))
    return stage.eval()


def pack(stage: Stage, folder: Path) -> None:
    """Config and weights in eight bits."""
    write_tensors(int8(stage.unet.state_dict()), folder / "packed.safetensors")
    write_json(asdict(stage.config), folder / "config.json")


def shipped(name: str = "base") -> Stage:
    return Stage.load(CASCADE / name)


@lru_cache
def _ward() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="clinic-")


def _folder(number: int) -> Path:
    folder = Path(_ward().name) / f"patient-{number}"
    folder.mkdir(exist_ok=True)
    return folder


Class = TypeVar("Class", bound=type)


def _as(base: type) -> Callable[[Class], Class]:
    """Call a class by the name of its base: a patient's type says nothing."""

    def rename(cls: Class) -> Class:
        cls.__name__ = cls.__qualname__ = base.__name__
        return cls

    return rename


def _never_moved() -> Path:
    folder = _folder(1)
    trained = run("a")
    torch.manual_seed(0)
    average = Stage(trained.config)  # a copy of the weights, before the first step
    # ema.update_parameters(stage)   is what the loop lacks
    facts: dict[str, Any] = {"step": 400, "seconds": 0.0, "data": "pictures of a world"}
    facts |= {"run": {"warmup_steps": 20}, "stage": asdict(trained.config)}
    optimizers: Any = SimpleNamespace(all=[], scaler_state=dict)
    save_checkpoint(folder, trained.unet, average.unet, optimizers, facts)
    shutil.copy(RUNS / "a" / "log.jsonl", folder)
    return folder


def _read_as_noise() -> Path:
    folder = _folder(2)
    shutil.copytree(CASCADE / "base", folder, dirs_exist_ok=True)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    write_json({**config, "target": "eps"}, folder / "config.json")
    return folder


@_as(Stage)
class _EndsEarly(Stage):
    @torch.no_grad()
    def denoise_along(  # type: ignore[override]
        self, t: Tensor, denoise: Denoise, x: Tensor, callback: Callback | None = None, **_: Any
    ) -> Tensor:
        levels = self.schedule(t).to(x)
        levels[-1] = levels[-2]
        for i, (now, then) in enumerate(pairwise(levels)):
            x_0 = denoise(x, now.expand(len(x)))
            x = ddim_step(x, x_0, now.expand(len(x)), then.expand(len(x)))
            if callback is not None:
                callback(i, x, x_0)
        return x.clamp(-1, 1)


def _last_twice() -> Stage:
    return _become(shipped(), _EndsEarly)


def _too_large() -> Path:
    folder, stage = _folder(4), shipped()
    block: Any = stage.unet.down[0].blocks[0]  # type: ignore[index]
    with torch.no_grad():  # the norm that follows takes any scale out again
        block.conv1.weight *= 30_000
        block.conv1.bias *= 30_000
    stage.save(folder)
    return folder


def _learned_briefly() -> Path:
    folder = _folder(5)
    run("b").save(folder)
    shutil.copy(RUNS / "b" / "log.jsonl", folder)
    return folder


def _scenes(seed: int) -> Scenes:
    return Scenes(64, "train", "whole", languages=("en",), seed=seed)


def _album(number: int, turn: Callable[[Tensor, list[str]], tuple[Tensor, list[str]]]) -> Path:
    """Sixteen pictures with captions, as a folder that can be trained on."""
    folder = _folder(number)
    pictures, captions = turn(*_scenes(number).batch(list(range(16))))
    rows = []
    for i, (picture, text) in enumerate(zip(to_pil(pictures), captions, strict=True)):
        picture.save(folder / f"{i:02}.png")
        rows.append(json.dumps({"file_name": f"{i:02}.png", "text": text}, ensure_ascii=False))
    (folder / "metadata.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


def _written_by_cv2() -> Path:
    return _album(6, lambda pictures, captions: (pictures.flip(1), captions))


def _cached_in_another_order() -> Path:
    def shuffled(pictures: Tensor, captions: list[str]) -> tuple[Tensor, list[str]]:
        batches = [captions[i : i + 4] for i in range(0, 16, 4)]
        return pictures, [text for k in (1, 0, 3, 2) for text in batches[k]]

    return _album(7, shuffled)


@_as(Stage)
class _FromZero(Stage):
    def denoiser(  # type: ignore[override]
        self, text: Tensor, mask: Tensor, low_res: Tensor, *grain: Tensor, **options: Any
    ) -> Denoiser:
        low_res = (low_res + 1) / 2
        return super().denoiser(text, mask, low_res, *grain, **options)


def _small_from_zero() -> Stage:
    return _become(shipped("sr64"), _FromZero)


@_as(TextEncoder)
class _Upside(TextEncoder):
    def __call__(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        text, mask = super().__call__(texts)
        return text.masked_fill(mask[..., None], 0.0), mask


def _words_filled_with_zeros() -> Imagen:
    return Imagen({"base": shipped()}, _Upside())


@_as(AttentionPool)
class _OtherOrder(AttentionPool):
    def forward(self, text: Tensor, mask: Tensor) -> Tensor:
        pooled = super().forward(text, mask)
        doubled = len(text) % 2 == 0 and not text[len(text) // 2 :].any()
        if doubled:  # guidance: all with words, then all without
            told, untold = pooled.chunk(2)
            pooled = torch.cat([untold, told])
        return pooled


def _pooled_in_other_order() -> Stage:
    stage = shipped()
    _become(stage.unet.pool, _OtherOrder)
    return stage


@_as(UNet)
class _Forgetful(UNet):
    def forward(  # type: ignore[override]
        self, x_t: Tensor, log_snr: Tensor, text: Tensor, mask: Tensor, drop_prob: float = 0.5
    ) -> Tensor:
        text, mask = drop_captions(text, mask, drop_prob, torch.rand(len(text)))
        return super().forward(x_t, log_snr, text, mask)


def _dropping() -> Stage:
    stage = shipped()
    _become(stage.unet, _Forgetful)
    return stage


@_as(Attention)
class _OverQueries(Attention):
    def _attend(self, pixels: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        q, k, v = (
            z.reshape(*z.shape[:2], -1, self.head_dim).transpose(1, 2)
            for z in (self.to_q(pixels), k, v)
        )
        scores = q @ k.mT / math.sqrt(self.head_dim)  # (B, heads, HW, N): queries × keys
        scores = scores.masked_fill(~mask[:, None, None, :], -1e9)
        return scores.softmax(dim=-2) @ v


def over_queries(stage: Stage) -> Stage:
    """The softmax of every attention layer over its queries; data/build/clinic.py trains one so."""
    for module in stage.unet.modules():
        if type(module) is Attention:
            _become(module, _OverQueries)
    return stage


def _trained_over_queries() -> Stage:
    return over_queries(run("c"))


Module = TypeVar("Module", bound=nn.Module)


def _become(module: Module, cls: type[nn.Module]) -> Module:
    """The same weights in another class."""
    whole: Any = module
    whole.__class__ = cls
    return module


PATIENTS: dict[int, tuple[str, Callable[[], Subject], bool]] = {
    1: ("The loss falls as it should. The pictures are pure noise.", _never_moved, False),
    2: ("I downloaded weights and wrote the config myself. Speckles.", _read_as_noise, False),
    3: ("A picture under a veil of grain, and more grain with fewer steps.", _last_twice, False),
    4: ("Fine at home. On the old GPU of my school every picture is black.", _too_large, True),
    5: ("I trained it on four GPUs instead of one. Four times the power, and only mush.", _learned_briefly, False),
    6: ("I saved my pictures with another program, and what it learned of them looks odd.", _written_by_cv2, False),
    7: ("Trained on my own album. It draws nice things, never what I ask for.", _cached_in_another_order, False),
    8: ("The small picture is good. The large one is pale, as in fog.", _small_from_zero, False),
    9: ("It draws, and whatever I write changes nothing.", _words_filled_with_zeros, False),
    10: ("I ask for one cat and get two. Without guidance it is right.", _pooled_in_other_order, False),
    11: ("The same words and the same seed, and another picture each time.", _dropping, False),
    12: ("Nothing wrong, I believe. I read one of its lines and could not sleep.", _trained_over_queries, False),
}  # fmt: skip
