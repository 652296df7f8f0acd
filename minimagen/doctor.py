"""The doctor: looks for common causes of noise in a model, a training run or a data set.

Each finding is one sentence that says what is wrong and what to do. No finding means that no common problem was
found, not that there is none: a fault that was there in training too, as an odd layer, is learned around.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .assets import CASCADE, read_tensors
from .config import RESOLUTIONS, STAGES, STATE
from .diffusion import alpha_sigma
from .errors import UserError
from .imagen import Imagen
from .images import downsample
from .probes import (
    FLOAT16_MAX,
    Batch,
    denoised,
    errors_by_caption,
    errors_with,
    follows,
    guess,
    largest_activation,
    rms,
    sampled,
    surely_less,
    x_0_errors,
)
from .scenes import Folder, Scenes
from .stage import Stage
from .text import TextEncoder
from .training.batches import ImageDataset
from .training.checkpoint import load_ema_stage, read_metadata
from .training.log import read_log

LOG = "log.jsonl"


def examine(subject: str | Path | Stage | Imagen | None = None) -> list[str]:
    """The findings for a stage or a cascade in memory, which is also run, or for what lies in a folder.

    A folder: a cascade, a stage, a run of `minimagen train`, or images. None: the shipped cascade. Raises
    UserError, with a sentence, where a path is none of these.
    """
    if isinstance(subject, Imagen):
        return list(_check_cascade(subject))
    if isinstance(subject, Stage):
        return list(check_stage(subject, TextEncoder()))
    folder = CASCADE if subject is None else Path(subject)
    if subject == "" or not folder.is_dir():
        raise UserError(f"{str(subject)!r} is no folder: give a model, a training run, or pictures")
    names, encoder = {p.name for p in folder.iterdir()}, TextEncoder()
    if STATE in names:
        return list(check_run(folder, encoder))
    if names & {"config.json", "model.safetensors"}:
        return [*check_log(folder / LOG, folder.name), *_check_saved(folder, encoder)]
    if names & set(STAGES):
        return [f for name in STAGES for f in _check_saved(folder / name, encoder, name)]
    if "metadata.jsonl" in names or _has_images(folder):
        try:
            pictures = Folder(folder, 64, encoder)
        except ValueError as error:
            return [str(error)]
        return [*pictures.warnings, *check_pictures(pictures, encoder)]
    raise UserError(f"{folder} holds no model, no run of minimagen train and no pictures")


def _has_images(folder: Path) -> bool:
    """Whether a file here or one folder below has the suffix of an image."""
    suffixes = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif"}
    return any(p.suffix.lower() in suffixes for z in ("*", "*/*") for p in folder.glob(z))


def check_weights(weights: Mapping[str, Tensor], name: str) -> Iterator[str]:
    """Findings for weights that are not finite, all zero, or as they were initialised."""
    last = [v for k, v in weights.items() if k.startswith("out.") and k.endswith("weight")]
    if broken := [k for k, v in weights.items() if not v.isfinite().all()]:
        yield f"{name}: {broken[0]} holds NaN or infinity: go back to an earlier checkpoint, lower --lr"
    elif not any(v.any() for v in weights.values()):
        yield f"{name}: all weights are zero: the file is no trained model, get or train it again"
    elif not last[-1].any():
        yield f"{name}: the last layer is zero, as at the start: it was never trained, so train it"


def _check_cascade(imagen: Imagen) -> Iterator[str]:
    """Findings for the text encoder of a cascade, then for its stages."""
    if found := list(check_encoder(imagen.text_encoder)):
        yield from found  # what the stages make of such a text says nothing of them
        return
    for name in imagen.stages:
        yield from check_stage(imagen.stage(name), imagen.text_encoder)


def check_encoder(encoder: TextEncoder) -> Iterator[str]:
    """Findings for a text encoder: whether there is something at each token, and whether it differs by the text."""
    text, mask = encoder(["a cat on the beach", "two red cars at night"])
    silent = ~text.any(dim=-1) & mask
    if silent[mask].all():
        yield (
            "the text encoder gives zeros at every token: its mask is the wrong way round, True must mean a token"
        )
    elif rms(text[0, 0], text[1, 0]) < 1e-4:
        yield "the text encoder gives the same for two texts: look at its weights and its tokenizer"


def check_stage(
    stage: Stage, encoder: TextEncoder, pictures: ImageDataset | None = None
) -> Iterator[str]:
    """Findings for a stage: its weights, text encoder and schedule, one denoising step, and how it samples.

    pictures: images of the stage's resolution to test it on; None: Scenes of its vocabulary.
    """
    config, name = stage.config, stage.config.name
    if found := list(check_weights(stage.unet.state_dict(), name)):
        yield from found  # nothing else can be told of it
        return
    if not encoder.fits(config.text_encoder):
        yield (
            f"{name}: it was trained with text encoder {config.text_encoder} and cannot read "
            f"{encoder.fingerprint}: use its own encoder, or train it again with this one"
        )
        return
    alpha, _ = alpha_sigma(stage.schedule(torch.ones(1, dtype=torch.float64)))
    if alpha > 0.05:
        yield (
            f"{name}: at t = 1 its schedule leaves {alpha.item():.0%} of the picture, but sampling starts "
            "from noise alone: take a schedule that ends in noise, and train again"
        )
    pictures = pictures or Scenes(RESOLUTIONS[name], "seen", config.vocabulary, seed=4)
    stage.eval()
    # larger pictures take longer, and fewer of them say as much
    batch = Batch.of(pictures, encoder, 4 if config.unet.low_res else 8, config.crop)
    if found := [*_check_sampling(stage, batch), *_check_denoising(stage, batch)]:
        yield from found
        return
    yield from _check_text(stage, batch)


def _check_denoising(stage: Stage, batch: Batch) -> Iterator[str]:
    """On real images: whether one step beats a constant grey, and whether its numbers fit into float16."""
    name, target = stage.config.name, stage.config.target
    errors = x_0_errors(stage, batch, -1.0)
    constant = (batch.x_0 - batch.x_0.mean()).square().mean().item()
    best = min(errors, key=lambda t: errors[t])
    if not errors[target] < constant and errors[best] < 0.3 * constant:
        yield (
            f"{name}: its config says that it predicts {target}, but its output is {best}: read so, one step of "
            f"denoising errs by {errors[best]:.3f}, else by {errors[target]:.3f}: set target to {best}"
        )
    elif not errors[target] < constant:
        yield (
            f"{name}: one step of denoising errs by {errors[target]:.3f}, one grey for all by {constant:.3f}: "
            "train on, with the target and schedule that it is sampled with"
        )
    largest, layer = max(largest_activation(stage, batch, level) for level in (-8.0, 8.0))
    if largest > FLOAT16_MAX:
        yield (
            f"{name}: layer {layer} reaches {largest:,.0f}, and float16 ends at {FLOAT16_MAX:,.0f}: black pictures "
            "and NaN there, so compute in float32 or bfloat16, or scale the layer's weights down"
        )


def _check_text(stage: Stage, batch: Batch) -> Iterator[str]:
    """Whether what the text says changes a step of denoising."""
    name, target = stage.config.name, stage.config.target
    told, silent = (denoised(stage, batch, -4.0, silent=s)[target] for s in (False, True))
    if stage.config.guidance != 1 and rms(told, silent) < 0.01:
        yield (
            f"{name}: the text changes nothing, so guidance can't either: train on, and look whether the "
            "captions belong to their pictures"
        )


def _check_sampling(stage: Stage, batch: Batch) -> Iterator[str]:
    """By `Stage.sample`: the same twice, guidance, the last step, and the small image of super-resolution."""
    name, few = stage.config.name, batch[: len(batch.x_0) // 2]
    try:
        told = guess(stage, few)
        if max(rms(told, guess(stage, few)) for _ in range(3)) > 1e-3:
            yield (
                f"{name}: the same noise and words give two pictures: what belongs to training (dropping captions, "
                "dropout) is on when it draws: switch it off"
            )
            return  # no two calls can be compared
        if stage.config.guidance != 1:
            yield from _check_guidance(stage, few, told)
        end = sampled(stage, few, steps=2)
    except UserError as error:  # NaN or infinity
        yield str(error)
        return
    if (left := rms(end.x_s, end.x_0)) > 1e-3:
        yield (
            f"{name}: the last step leaves noise in the picture ({left:.2g} after two steps): it must end at the "
            "clean image, σ = 0, not at the last level of the schedule"
        )
    if stage.config.unet.low_res:
        slope, offset = follows(stage, few)
        if abs(slope - 0.5) < 0.15 and abs(offset - 0.5) < 0.15:
            yield (
                f"{name}: it shows its small image at half the contrast and too bright ({slope:.2f} x + "
                f"{offset:.2f}): the small image comes in [0, 1], give it in [−1, 1]"
            )
        elif abs(slope - 1) > 0.3 or abs(offset) > 0.3:
            yield (
                f"{name}: it shows its small image as {slope:.2f} x + {offset:.2f}, not as x: look at the range, "
                "the noise and the size of what it is given"
            )


def _check_guidance(stage: Stage, batch: Batch, told: Tensor) -> Iterator[str]:
    """Whether guidance is w · with words + (1 − w) · without: at w = 0 no word counts, w = 2 follows from both."""
    name = stage.config.name
    untold, double = guess(stage, batch, 0.0), guess(stage, batch, 2.0)
    others = Batch(batch.x_0, batch.text.roll(1, 0), batch.mask.roll(1, 0), batch.eps)
    if (moved := rms(untold, guess(stage, others, 0.0))) > 1e-3:
        yield (
            f"{name}: at w = 0 guidance is without words, and still other words change the picture (by "
            f"{moved:.2g}): its halves with and without words are mixed up, keep one order in every input"
        )
    elif (off := rms(double, 2 * told - untold)) > 1e-2:
        yield (
            f"{name}: guidance is off by {off:.2g} at w = 2: it must be w · with words + (1 − w) · without"
        )


def check_run(folder: Path, encoder: TextEncoder) -> Iterator[str]:
    """Findings for a run: its step, its log, its weights, and whether their average can be sampled from."""
    try:
        metadata, tensors = read_metadata(folder), read_tensors(folder / STATE)
        stage = load_ema_stage(folder)
        model = {k: tensors[f"model.{k}"] for k in stage.unet.state_dict()}
    except Exception as error:  # safetensors, json and torch each have errors of their own
        reason = " ".join(str(error).split())[:200]
        yield f"{folder}: its state can't be read ({reason}): start anew in another folder"
        return
    name, step = stage.config.name, metadata["step"]
    warmup = metadata["run"].get("warmup_steps", 0)
    if step <= warmup:
        yield f"{name}: the run is at step {step} and warms up for {warmup}: go on with --resume"
    yield from check_log(folder / LOG, name)
    if found := list(check_weights(model, name)):
        yield from found
        return
    size = sum(v.square().sum() for v in model.values()) ** 0.5
    far = sum((v - tensors[f"ema.{k}"]).square().sum() for k, v in model.items()) ** 0.5 / size
    if step > 200 and not tensors["ema.out.2.weight"].any():
        yield (
            f"{name}: after {step} steps the last layer of the averaged weights is zero, as at the start, and that "
            "of the weights is not: the average is never updated, so move it after every step"
        )
        return
    if far > 0.5:
        yield f"{name}: the averaged weights are {far:.0%} off, too young to sample from: train on"
    if isinstance(metadata["data"], dict):  # Scenes; a folder of images is not at hand here
        yield from check_stage(stage, encoder)


def check_log(log: Path, name: str) -> Iterator[str]:
    """Findings for the log of a run: whether the loss rose, and whether the learning rate ended too early."""
    rows = [row for row in read_log(log) if "loss" in row]
    first, last = _mean_losses(rows)
    if last > 1.2 * first or math.isnan(last) != math.isnan(first):
        yield f"{name}: the loss is {last:.3g}, and was {first:.3g}: train again, lower --lr"
    rates = [
        (row["progress"], row["lr_factor"])
        for row in rows
        if {"progress", "lr_factor"} <= row.keys()
    ]
    idle = [progress for progress, factor in rates if factor <= 0]
    if len(idle) > 1 and idle[0] < 0.9:
        yield (
            f"{name}: the learning rate was 0 from {idle[0]:.0%} of the run on, and nothing was learned any more: "
            "the schedule must be as long as the run (is it stepped once for every process?)"
        )


def _mean_losses(rows: list[dict[str, Any]], window: int = 100) -> tuple[float, float]:
    """The mean loss of the first rows of a log, and of the last; nan for both where there are none."""
    losses = [float(row["loss"]) for row in rows]
    n = max(1, min(window, len(losses) // 2))
    first, last = losses[:n], losses[-n:]
    return (sum(first) / n, sum(last) / n) if losses else (math.nan, math.nan)


def check_pictures(pictures: ImageDataset, encoder: TextEncoder) -> Iterator[str]:
    """Findings for the first 64 images: range, blank ones, captions, and what the shipped base sees in them."""
    images, captions = pictures.batch(list(range(min(64, len(pictures)))))
    low, high = images.min().item(), images.max().item()
    if low < -1.01 or high > 1.01 or low >= 0:
        yield f"the pictures lie in [{low:.3g}, {high:.3g}], not in [−1, 1]: bytes want x / 127.5 − 1"
        return
    if blank := [i for i, x in enumerate(images) if x.std() < 0.01]:
        yield f"pictures {blank} show one colour and nothing else: leave them out"
    if empty := [i for i, text in enumerate(captions) if not text.strip()]:
        yield f"the captions of pictures {empty} are empty: say what they show, or leave them out"
    elif len(captions) > 1 and len(set(captions)) == 1:
        yield f"all captions are {captions[0]!r}: say of each picture what only it shows"
    elif len(captions) >= 8:
        yield from _check_as_seen(downsample(images[:16], 16), captions[:16], encoder)
    if strange := [text for text in captions if text.strip() and not encoder.knows(text)]:
        yield f"no token of {strange[0]!r} is in the text encoder's vocabulary: use English or Chinese"


def _check_as_seen(x_0: Tensor, captions: list[str], encoder: TextEncoder) -> Iterator[str]:
    """What the shipped base finds easier to denoise: other colours, or other captions. x_0 (B, 3, 16, 16).

    It knows little of photographs: there is a finding only where another reading fits far better.
    """
    base, (text, mask) = Stage.load(CASCADE / "base"), encoder(captions)
    own = errors_with(base, x_0, text, mask)
    if surely_less(errors_with(base, x_0.flip(1), text, mask), own, 0.5):
        yield (
            "the pictures are far more like what they are said to show once red and blue are exchanged: they were "
            "saved as BGR, so turn their channels round"
        )
        return
    silent = errors_with(base, x_0, torch.zeros_like(text), mask)
    if not surely_less(silent, own, 0.8):
        return
    best = errors_by_caption(base, x_0, text, mask).min(dim=1)
    others = sum(captions[j] != captions[i] for i, j in enumerate(best.indices.tolist()))
    if others > len(x_0) / 2 and surely_less(best.values, own, 0.5):
        yield (
            f"{others} of {len(x_0)} pictures fit the caption of another better than their own: captions and "
            "pictures are in two orders, so keep each pair by its name, not by its place"
        )


def _check_saved(folder: Path, encoder: TextEncoder, name: str | None = None) -> Iterator[str]:
    """Findings for a stage on disk; name: the stage that its place in the cascade needs, if any."""
    try:
        stage = Stage.load(folder)
    except ValueError as error:
        yield f"{error}: copy it again, or train it with minimagen train {name or 'STAGE'}"
        return
    if name not in (None, stage.config.name):
        yield f"{folder} holds a stage {stage.config.name}, not {name}: put each where it belongs"
    elif stage.config.unet.low_res != (stage.config.name != "base"):
        yield f"{folder}: a {stage.config.name} of this shape fits no cascade: train it again"
    else:
        yield from check_stage(stage, encoder)
