"""The clinic of chapter 15: twelve patients, each broken by a bug that a known project shipped.

    p = patient(7)          # p.complaint, what its owner says; p.subject, a stage, a cascade or a folder
    p.draw(prompts, seeds)  # what it draws
    examine(p.subject)      # what the doctor finds

Who reads on here reads the answers: the causes and the case notes stand at the end.
"""

from __future__ import annotations

import json
import math
import re
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ..assets import CASCADE, DATA, read_tensors, write_json, write_tensors
from ..config import RESOLUTIONS
from ..errors import UserError
from ..guidance import Denoiser, drop_captions
from ..imagen import Imagen
from ..images import to_pil
from ..samplers import Callback, Denoise, ddim_step
from ..scenes import Scenes
from ..stage import Stage, StageConfig
from ..text import TextEncoder
from ..training.checkpoint import STATE, load_ema_stage, save_checkpoint
from ..training.log import read_log
from ..unet import Attention, AttentionPool, UNet

RUNS = DATA / "clinic"  # made by data/build/clinic.py
Subject = Stage | Imagen | Path


@dataclass(frozen=True)
class Patient:
    """A patient: its number, what its owner says, and what is ill: a stage, a cascade, or a folder."""

    number: int
    complaint: str
    subject: Subject = field(repr=False)
    half: bool = field(default=False, repr=False)

    @property
    def stage(self) -> Stage | None:
        """The stage that is ill, loaded where it lies in a folder; None for pictures."""
        return stage_of(self.subject)

    @property
    def log(self) -> list[dict[str, Any]]:
        """The rows of its training log; none where it has none."""
        return read_log(self.subject / "log.jsonl") if isinstance(self.subject, Path) else []

    @torch.no_grad()
    def draw(
        self, prompts: Sequence[str], seeds: Sequence[int], guidance: float = 4.0, steps: int = 8
    ) -> Tensor:
        """What it draws of some prompts, (B, 3, H, W) in [−1, 1]; black where it ends in NaN, as other programs do.

        A super-resolution stage enlarges what the shipped base draws.
        """
        stage = self.stage
        if stage is None:
            raise UserError(f"patient {self.number} is a folder of pictures and draws nothing")
        imagen = self.subject if isinstance(self.subject, Imagen) else _cascade_of(stage)
        last, side = stage.config.name, RESOLUTIONS[stage.config.name]
        hooks = [m.register_forward_hook(_in_half) for m in stage.modules()] if self.half else []
        try:
            return imagen.generate(prompts, seeds, guidance, steps, last)[last]
        except UserError:
            return torch.full((len(prompts), 3, side, side), -1.0)
        finally:
            for hook in hooks:
                hook.remove()


def healthy(name: str = "base") -> Patient:
    """A shipped stage, to compare with."""
    return Patient(0, "nothing is wrong", _shipped(name))


def complaints() -> dict[int, str]:
    """What the owners of all patients say, by number."""
    return {number: complaint for number, (complaint, _, _) in _PATIENTS.items()}


def patient(number: int) -> Patient:
    """Patient number 1 to 12; folders are written to a place that goes when Python ends."""
    if number not in _PATIENTS:
        raise UserError(f"the clinic has patients 1 to {len(_PATIENTS)}, not {number}")
    return _admitted(number)


@lru_cache
def _admitted(number: int) -> Patient:
    complaint, make, half = _PATIENTS[number]
    return Patient(number, complaint, make(), half)


def measured(findings: list[str]) -> str:
    """The first finding of the doctor, with ≈ before the numbers that differ from machine to machine."""
    if not findings:
        return "no common problem found"
    plain = re.sub(r"\b(\d{3}),(\d{3})\b", r"\1\2", findings[0])
    return re.sub(r"(?<![\w.])(\d+\.\d+|\d{6})", r"≈ \1", plain)


def run(letter: str) -> Stage:
    """What a run of data/build/clinic.py has learned: a sound, b with patient 5's bug, c with patient 12's."""
    config = json.loads((RUNS / letter / "config.json").read_text(encoding="utf-8"))
    stage, packed = (
        Stage(StageConfig.from_dict(config)),
        read_tensors(RUNS / letter / "packed.safetensors"),
    )
    weights = {k: packed[k].float() * packed[f"{k}/step"] for k in stage.unet.state_dict()}
    stage.unet.load_state_dict(weights)
    return stage.eval()


def pack(stage: Stage, folder: Path) -> None:
    """Config and weights, each in 255 steps a row of its matrix: a quarter of float32."""
    packed = {}
    for name, weight in stage.unet.state_dict().items():
        rows = weight.flatten(1) if weight.ndim > 1 else weight[None]
        step = rows.abs().amax(dim=1).clamp(min=1e-8) / 127
        step = step.reshape(-1, *[1] * (weight.ndim - 1)) if weight.ndim > 1 else step
        packed[name] = (weight / step).round().to(torch.int8)
        packed[f"{name}/step"] = step
    write_tensors(packed, folder / "packed.safetensors")
    write_json(asdict(stage.config), folder / "config.json")


def stage_of(subject: Subject) -> Stage | None:
    """The stage that a subject is or holds; of a run, with its averaged weights. None for pictures."""
    if isinstance(subject, Stage):
        return subject
    if isinstance(subject, Imagen):
        return subject.stage("base")
    if (subject / STATE).is_file():
        return load_ema_stage(subject)
    return Stage.load(subject) if (subject / "config.json").is_file() else None


@lru_cache
def _encoder() -> TextEncoder:
    return TextEncoder()


def _shipped(name: str = "base") -> Stage:
    return Stage.load(CASCADE / name)


def _cascade_of(stage: Stage) -> Imagen:
    name = stage.config.name
    stages = {name: stage} if name == "base" else {"base": _shipped(), name: stage}
    return Imagen(stages, _encoder())


def _in_half(module: nn.Module, inputs: object, output: object) -> object:
    """Every layer's output is kept in float16, as on a GPU without bfloat16."""
    return output.half().float() if isinstance(output, Tensor) else output


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


# The patients


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
    return _become(_shipped(), _EndsEarly)


def _too_large() -> Path:
    folder, stage = _folder(4), _shipped()
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
    return _become(_shipped("sr64"), _FromZero)


@_as(TextEncoder)
class _Upside(TextEncoder):
    def __call__(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        text, mask = super().__call__(texts)
        return text.masked_fill(mask[..., None], 0.0), mask


def _words_filled_with_zeros() -> Imagen:
    return Imagen({"base": _shipped()}, _Upside())


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
    stage = _shipped()
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
    stage = _shipped()
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


_PATIENTS: dict[int, tuple[str, Callable[[], Subject], bool]] = {
    1: ("The loss falls as it should. The pictures are pure noise.", _never_moved, False),
    2: ("I downloaded weights and wrote the config myself. Speckles.", _read_as_noise, False),
    3: ("A picture under a veil of grain, and more grain with fewer steps.", _last_twice, False),
    4: ("Fine at home. On the old GPU of my school every picture is black.", _too_large, True),
    5: ("I trained it on four GPUs instead of one. Four times the power, and only mush.", _learned_briefly, False),
    6: ("I saved my pictures with another program, and what it learned of them looks odd.", _written_by_cv2, False),
    7: ("Trained on my own album. It draws nice things, never what I ask for.", _cached_in_another_order, False),
    8: ("The small picture is good. The large one is pale, as in fog.", _small_from_zero, False),
    9: ("It draws well, and whatever I write changes nothing.", _words_filled_with_zeros, False),
    10: ("I ask for one cat and get two. Without guidance it is right.", _pooled_in_other_order, False),
    11: ("The same words and the same seed, and another picture each time.", _dropping, False),
    12: ("Nothing wrong, I believe. I read one of its lines and could not sleep.", _trained_over_queries, False),
}  # fmt: skip


# The answers

CAUSES: dict[str, str] = {
    "average": "the average of the weights (EMA) is never updated",
    "target": "the output is read as another target (ε, v, x_0) than it was trained for",
    "last step": "the last sampling step does not end at σ = 0",
    "float16": "numbers inside the network are too large for float16",
    "rate": "the learning rate reaches 0 long before the end",
    "colours": "red and blue are exchanged (BGR)",
    "captions": "captions belong to other pictures",
    "range": "the small image comes in [0, 1] instead of [−1, 1]",
    "text mask": "the text's mask is used the wrong way round",
    "halves": "the halves of guidance, with and without words, are mixed up",
    "dropping": "captions are dropped while it draws",
    "softmax": "attention's softmax runs over the wrong axis",
    "schedule": "at t = 1 the schedule leaves something of the picture",
    "young": "the average is too young",
    "seed": "every picture starts from the same noise",
    "threshold": "thresholding takes its percentile of the whole batch",
}


@dataclass(frozen=True)
class Notes:
    """The case notes of a patient: its cause, the line that is wrong and the right one, and who shipped it."""

    cause: str
    wrong: str
    right: str
    source: str  # owner/name#number
    title: str
    told: str  # what happened there

    @property
    def url(self) -> str:
        """Where the bug was reported."""
        name, number = self.source.split("#")
        return f"https://github.com/{name}/issues/{number}"


NOTES: dict[int, Notes] = {
    1: Notes(
        "average",
        "optimizer.step()",
        "optimizer.step(); average.update_parameters(stage)",
        "huggingface/diffusers#5783",
        "train_text_to_image_sdxl.py ema not working",
        "The script for SDXL made an average and saved it, and no line moved it.",
    ),
    2: Notes(
        "target",
        'config.target = "eps"',
        'config.target = "v"',
        "huggingface/diffusers#1429",
        "Dreambooth example on SD2-768 model is producing weird results",
        "Stable Diffusion 2 predicts v at 768 pixels; the training script took it for ε.",
    ),
    3: Notes(
        "last step",
        "levels[-1] = levels[-2]",
        "levels[-1] = math.inf",
        "huggingface/diffusers#5689",
        "DPM++ leaves residual noise in SDXL images, which is unexpected",
        "The last σ was there twice, instead of 0 at the end: the last step had no length (mended in #6477).",
    ),
    4: Notes(
        "float16",
        "unet.half()",
        "unet.bfloat16(), or weights scaled down before a norm",
        "invoke-ai/InvokeAI#4083",
        "[bug]: SDXL generated images are only black",
        "Activations in SDXL's decoder were too large for float16; sdxl-vae-fp16-fix has its weights scaled down.",
    ),
    5: Notes(
        "rate",
        "lr_factor(processes * step, processes * progress)",
        "lr_factor(step, progress)",
        "huggingface/diffusers#3954",
        "Wrong learning rate scheduler training step count for examples with multi-gpu.",
        "On N GPUs the schedule was stepped N times a step: with four, it was over after a quarter of the run.",
    ),
    6: Notes(
        "colours",
        "cv2.imwrite(path, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))  # of a picture that was BGR already",
        "cv2.imwrite(path, picture)",
        "deforum/sd-webui-deforum#8",
        "Inverted color channels",
        "Frames between two drawn ones were turned once too often, and saved with red and blue exchanged.",
    ),
    7: Notes(
        "captions",
        "latents, text = cache[step], encode(batch.captions)  # the cache was filled in another order",
        "latents, text = cache[batch.names], encode(batch.captions)",
        "huggingface/diffusers#13353",
        "Fix BucketBatchSampler cache alignment in DreamBooth scripts",
        "What was computed beforehand was looked up by step, and the batches were shuffled again in between.",
    ),
    8: Notes(
        "range",
        "low_res = pixels / 255",
        "low_res = pixels / 127.5 - 1",
        "huggingface/diffusers#3391",
        "DeepFloyd super-resolution pipeline generates overexposure image for PIL.Image low-res input",
        "Small pictures from files came in [0, 1]. IF is the model nearest to Imagen that anyone can download.",
    ),
    9: Notes(
        "text mask",
        "text.masked_fill(mask, 0)",
        "text.masked_fill(~mask, 0)",
        "lucidrains/muse-maskgit-pytorch#38",
        "T5 bug?",
        "A missing ~ set every word to zero, and left the padding.",
    ),
    10: Notes(
        "halves",
        "states, pooled = cat([told, untold]), cat([pooled_untold, pooled_told])",
        "states, pooled = cat([told, untold]), cat([pooled_told, pooled_untold])",
        "Nerogar/OneTrainer#775",
        "[Bug]: SDXL ModelSampler mixes up positive and negative pooled prompt embeddings",
        "The states came in one order and the pooled vectors in the other.",
    ),
    11: Notes(
        "dropping",
        "told = network(x_t, log_snr, text, mask)  # drop_prob is 0.5 unless said otherwise",
        "told = network(x_t, log_snr, text, mask, drop_prob=0)",
        "lucidrains/denoising-diffusion-pytorch#199",
        "Question about classifier_free_guidance.py",
        "The default for training was the default for drawing: half of the calls with a class were without.",
    ),
    12: Notes(
        "softmax",
        "scores.softmax(dim=-2)  # over the queries",
        "scores.softmax(dim=-1)  # over the keys",
        "labmlai/annotated_deep_learning_paper_implementations#146",
        "Bug in SA for DDPM UNet?",
        "It was trained so too. Who found it measured both on CIFAR-10: no difference in the Fréchet distance.",
    ),
}
