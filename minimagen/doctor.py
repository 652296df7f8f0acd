"""The doctor: looks for common causes of noise in a model, a training run or a data set.

Each finding is one sentence that says what is wrong and what to do. No finding means that no common problem was
found, not that there is none.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from .assets import CASCADE, read_tensors
from .config import RESOLUTIONS, STAGES
from .diffusion import alpha_sigma, q_sample, to_x_0
from .errors import UserError
from .images import downsample
from .scenes import Folder, Scenes
from .stage import Stage
from .text import TextEncoder
from .training.batches import ImageDataset
from .training.checkpoint import STATE, load_ema_stage, read_metadata
from .training.log import read_log


def examine(path: str | Path | None = None) -> list[str]:
    """The findings for a cascade, a stage, a run of `minimagen train` or a folder of images.

    None: the shipped cascade. Raises UserError, with a sentence, where `path` is none of these.
    """
    folder = CASCADE if path is None else Path(path)
    if path == "" or not folder.is_dir():
        raise UserError(f"{str(path)!r} is no folder: give a model, a training run, or pictures")
    names, encoder = {p.name for p in folder.iterdir()}, TextEncoder()
    if STATE in names:
        return list(check_run(folder, encoder))
    if names & {"config.json", "model.safetensors"}:
        return list(_check_saved(folder, encoder))
    if names & set(STAGES):
        return [f for name in STAGES for f in _check_saved(folder / name, encoder, name)]
    if "metadata.jsonl" in names or _has_images(folder):
        try:
            pictures = Folder(folder, 64, encoder)
        except ValueError as error:
            return [str(error)]
        return [*pictures.warnings, *check_pictures(pictures, encoder)]
    raise UserError(f"{path} holds no model, no run of minimagen train and no pictures")


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


def check_stage(
    stage: Stage, encoder: TextEncoder, pictures: ImageDataset | None = None
) -> Iterator[str]:
    """Findings for a stage: its weights, text encoder and schedule, one denoising step, and the effect of the text.

    pictures: images of the stage's resolution to test it on; None: Scenes of its vocabulary.
    """
    config, name = stage.config, stage.config.name
    if found := list(check_weights(stage.unet.state_dict(), name)):
        yield from found  # nothing else can be told of it
        return
    if config.text_encoder not in ("", encoder.fingerprint):
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
    yield from _check_denoising(
        stage, encoder, pictures or Scenes(RESOLUTIONS[name], "seen", config.vocabulary, seed=4)
    )


def _check_denoising(stage: Stage, encoder: TextEncoder, pictures: ImageDataset) -> Iterator[str]:
    """On 8 real images: whether a denoising step beats a constant grey, and whether the text changes it."""
    config, name = stage.config, stage.config.name
    x_0, captions = pictures.batch(list(range(min(8, len(pictures)))))
    x_0 = x_0[..., : config.crop, : config.crop]
    text, mask = encoder(captions)
    eps = torch.randn(x_0.shape, generator=torch.Generator().manual_seed(0))

    @torch.no_grad()
    def denoised(log_snr_t: float, text: Tensor, mask: Tensor) -> Tensor:
        log_snr = torch.full((len(x_0),), log_snr_t)
        low_res: tuple[Tensor, ...] = ()
        if config.unet.low_res:
            small = downsample(x_0, x_0.shape[-1] // 4)
            level = torch.full_like(log_snr, config.aug_level)
            low_res = stage.augment(small, level, torch.zeros_like(small))
        x_t = q_sample(x_0, log_snr, eps)
        return to_x_0(x_t, stage.unet(x_t, log_snr, text, mask, *low_res), log_snr, config.target)

    stage.eval()
    error = (denoised(-1.0, text, mask) - x_0).square().mean()
    constant = (x_0 - x_0.mean()).square().mean()
    if not error < constant:
        yield (
            f"{name}: one step of denoising errs by {error:.3f}, one grey for all by {constant:.3f}: train on, "
            "with the target and schedule that it is sampled with"
        )
    conditional = denoised(-4.0, text, mask)
    # under the same mask, so that only what the text says differs
    silent = denoised(-4.0, torch.zeros_like(text), mask)
    if config.guidance != 1 and (conditional - silent).square().mean().sqrt() < 0.01:
        yield (
            f"{name}: the text changes nothing, so guidance can't either: train on, and look whether the "
            "captions belong to their pictures"
        )


def check_run(folder: Path, encoder: TextEncoder) -> Iterator[str]:
    """Findings for a run: its step, its loss, its weights, and whether their average can be sampled from."""
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
    first, last = _mean_losses(folder / "log.jsonl")
    if last > 1.2 * first or math.isnan(last) != math.isnan(first):
        yield f"{name}: the loss is {last:.3g}, and was {first:.3g}: train again, lower --lr"
    if found := list(check_weights(model, name)):
        yield from found
        return
    size = sum(v.square().sum() for v in model.values()) ** 0.5
    far = sum((v - tensors[f"ema.{k}"]).square().sum() for k, v in model.items()) ** 0.5 / size
    if far > 0.5:
        yield f"{name}: the averaged weights are {far:.0%} off, too young to sample from: train on"
    if isinstance(metadata["data"], dict):  # Scenes; a folder of images is not at hand here
        yield from check_stage(stage, encoder)


def _mean_losses(log: Path, window: int = 100) -> tuple[float, float]:
    """The mean loss of the first rows of a log, and of the last; nan for both where there are none."""
    losses = [float(row["loss"]) for row in read_log(log) if "loss" in row]
    n = max(1, min(window, len(losses) // 2))
    first, last = losses[:n], losses[-n:]
    return (sum(first) / n, sum(last) / n) if losses else (math.nan, math.nan)


def check_pictures(pictures: ImageDataset, encoder: TextEncoder) -> Iterator[str]:
    """Findings for the first 64 images: their range, whether they are blank, and what their captions say."""
    images, captions = pictures.batch(list(range(min(64, len(pictures)))))
    low, high = images.min().item(), images.max().item()
    if low < -1.01 or high > 1.01 or low >= 0:
        yield f"the pictures lie in [{low:.3g}, {high:.3g}], not in [−1, 1]: bytes want x / 127.5 − 1"
    if blank := [i for i, x in enumerate(images) if x.std() < 0.01]:
        yield f"pictures {blank} show one colour and nothing else: leave them out"
    if empty := [i for i, text in enumerate(captions) if not text.strip()]:
        yield f"the captions of pictures {empty} are empty: say what they show, or leave them out"
    elif len(captions) > 1 and len(set(captions)) == 1:
        yield f"all captions are {captions[0]!r}: say of each picture what only it shows"
    if strange := [text for text in captions if text.strip() and not encoder.knows(text)]:
        yield f"the text encoder knows nothing in {strange[0]!r}: use English or Chinese"


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
