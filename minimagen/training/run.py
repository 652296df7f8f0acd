"""A training run as the command line asks for it: begun, started from other weights, or resumed."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from tqdm import tqdm

from ..config import (
    GPU_SETTINGS,
    NEW_CAPTIONS,
    POOL_SIZES,
    RESOLUTIONS,
    STATE,
    TrainConfig,
)
from ..errors import UserError, complain
from ..scenes import Folder, Scenes
from ..stage import DEFAULTS, SHIPPED, Stage, StageConfig
from ..text import MAX_TOKENS, TextEncoder
from .accelerator import make_accelerator
from .batches import ImageDataset
from .checkpoint import Metadata, check_unused, load_ema_stage, read_metadata
from .log import RunLog
from .loop import train
from .pool import ENDLESS, Pool
from .preview import preview_of

SCENE_TOKENS = 40  # of a caption in a pool of scenes; the longest of 20,000 has 41


@dataclass(frozen=True)
class TrainRequest:
    """What `minimagen train` was asked for. What is not in settings and scenes keeps its default.

    When a run is resumed, what is not given is taken from its checkpoint.
    """

    stage: str  # base, sr64 or sr256
    out: Path  # the folder of the run
    resume: bool = False  # go on with the run in `out`, if there is one
    origin: Path | None = None  # a stage or a run whose weights a new run starts from
    data: Path | None = None  # a folder of your own images; None: Scenes
    device: str = "cpu"
    precision: str | None = None  # fp32, bf16 or fp16
    previews: int = 8  # images of a preview at each checkpoint; 0: none
    settings: dict[str, Any] = field(default_factory=dict)  # of TrainConfig
    scenes: dict[str, Any] = field(default_factory=dict)  # of Scenes: vocabulary, pairs, version …


def run_training(request: TrainRequest) -> None:
    """Train as asked, and print `out` at the end. Raises UserError for what does not fit together."""
    if run_stage(request):
        print(request.out)


def run_stage(request: TrainRequest) -> bool:
    """Train as asked, with a progress bar on stderr and a log in out/log.jsonl.

    Returns whether this is the main process. Raises UserError, with a sentence, for what does not fit together.
    """
    out = request.out
    check_unused(out, request.resume)
    resumed = request.resume and (out / STATE).is_file()
    begun = read_metadata(out) if resumed else {}
    stage = starting_stage(request, resumed)
    config, precision = settings_of(request, begun)
    # where several processes were launched, each gets its own device here
    accelerator = make_accelerator(request.device == "cpu", precision)
    pooled = is_pooled(accelerator)
    dataset, encoder = data_of(request, stage.config, begun, accelerator, pooled)
    if isinstance(dataset, Folder) and not begun and "batch" not in request.settings:
        parts = accelerator.num_processes * config.grad_accum_steps
        config = replace(config, batch=batch_for(len(dataset), config.batch, parts))
    stage.config = trained_on(stage.config, dataset, encoder, request.origin or out)
    preview = preview_of(dataset, encoder, out, request.previews) if request.previews else None
    source = pool_of(dataset, encoder, request.stage, config, accelerator) if pooled else dataset
    rows = train(stage, source, encoder, config, out, request.resume, accelerator, preview)
    if accelerator.is_main_process:
        report(rows, RunLog(out / "log.jsonl", begun.get("step", 0)), request.stage)
    else:
        for _ in rows:
            pass
    return bool(accelerator.is_main_process)


def starting_stage(request: TrainRequest, resumed: bool) -> Stage:
    """The stage that training starts from: of the run, of --from, or new. Raises UserError for another stage."""
    if resumed:
        stage = load_ema_stage(request.out)
    elif request.origin is not None:
        # a run that went on after its end has newer weights in its state
        is_run = (request.origin / STATE).is_file()
        stage = load_ema_stage(request.origin) if is_run else Stage.load(request.origin)
    else:
        torch.manual_seed(request.settings.get("seed", TrainConfig().seed))
        stage = Stage((SHIPPED if request.device == "cuda" else DEFAULTS)[request.stage])
    stage.check_finite(request.origin or request.out)
    if stage.config.name != request.stage:
        raise UserError(
            f"that is a stage {stage.config.name}, and you asked to train {request.stage}"
        )
    return stage


def settings_of(request: TrainRequest, begun: Metadata) -> tuple[TrainConfig, str]:
    """The settings of the run and its precision, as Accelerate names it.

    begun: the metadata of the checkpoint that it goes on from, or empty.
    """
    before = dict(begun.get("run", {}))
    known = {f.name for f in fields(TrainConfig)} - {"workers"}  # they belong to the machine
    precision = request.precision or before.get("precision") or default_precision(request.device)
    if request.settings.keys() & {"steps", "minutes"}:
        before = {k: v for k, v in before.items() if k not in ("steps", "minutes")}
    new = GPU_SETTINGS[request.stage] if request.device == "cuda" and not begun else {}
    config = TrainConfig(**new | {k: v for k, v in before.items() if k in known} | request.settings)
    if begun and (minutes := request.settings.get("minutes")) is not None:
        if begun["seconds"] >= 60 * minutes:
            raise UserError(
                f"the run in {request.out} has had that long: --minutes is of the whole run"
            )
    if begun and (config.muon_lr > 0) != (begun["run"].get("muon_lr", config.muon_lr) > 0):
        raise UserError(
            f"the run in {request.out} began with another optimizer: keep --muon-lr as it was"
        )
    if precision == "fp16" and request.device != "cuda":
        raise UserError("--precision fp16 needs a CUDA device: use bf16 or fp32")
    return config, "no" if precision == "fp32" else precision


def batch_for(count: int, batch: int, parts: int) -> int:
    """The batch for a folder of `count` images, where none is asked for: `batch`, or fewer for a small folder.

    At least the batch of a CPU; a multiple of `parts`, in which it is divided.
    """
    if batch <= (smaller := max(TrainConfig.batch, count)):
        return batch
    return max(parts, smaller // parts * parts)


def default_precision(device: str) -> str:
    """ "bf16" on a GPU that supports it; elsewhere, and on CPUs, of which many are slower in bf16, "no" (fp32)."""
    has_bf16 = device == "cuda" and torch.cuda.get_device_capability() >= (8, 0)
    return "bf16" if has_bf16 else "no"


def is_pooled(accelerator: Accelerator) -> bool:
    """Whether the images are buffered in a pool on the device, and a step is compiled and captured: on one GPU.

    On a GPU, the reason against it is printed on stderr.
    """
    if accelerator.device.type != "cuda":
        return False
    if accelerator.num_processes == 1 and accelerator.scaler is None:
        torch.set_float32_matmul_precision("high")  # TF32
        torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.benchmark = True
        return True
    if accelerator.is_main_process:
        why = "--precision fp16" if accelerator.scaler is not None else "several processes"
        tell([f"with {why}, steps are not captured as a CUDA graph: each takes longer"])
    return False


def pool_of(
    dataset: ImageDataset,
    encoder: TextEncoder,
    name: str,
    config: TrainConfig,
    accelerator: Accelerator,
) -> Pool:
    """A pool of the images on the device, within a tenth of its memory."""
    device = accelerator.device
    room = torch.cuda.get_device_properties(device).total_memory // 10
    size = min(POOL_SIZES[name], room // (3 * RESOLUTIONS[name] ** 2))
    if isinstance(dataset, Folder):  # its images are in memory: no processes make them
        longest = max(len(encoder.tokenizer(c)["input_ids"]) for c in dataset.captions)
        return Pool(dataset, encoder, device, size, min(MAX_TOKENS, longest))
    workers = config.workers
    if workers is None:
        workers = max(1, (os.cpu_count() or 2) - 1)
    return Pool(dataset, encoder, device, size, SCENE_TOKENS, workers)


def data_of(
    request: TrainRequest,
    config: StageConfig,
    begun: Metadata,
    accelerator: Accelerator,
    pooled: bool = False,
) -> tuple[ImageDataset, TextEncoder]:
    """The images to train on, and the text encoder for their captions. pooled: as many scenes as a run can need.

    Embeddings differ in the last bits with batch composition. For bit-exact resume, captions of a folder are
    encoded once, in a fixed order; captions of Scenes, which rarely repeat, are not cached.
    """
    resolution = RESOLUTIONS[request.stage]
    if request.data is not None:
        if request.scenes:
            option = next(iter(request.scenes)).replace("version", "captions")
            raise UserError(f"--{option} is for scenes, not for --data: leave one out")
        encoder = TextEncoder()
        folder = Folder(request.data, resolution, encoder)
        if accelerator.is_main_process:
            tell(folder.warnings)
        encoder.cache_size = len(folder)
        encoder.to(accelerator.device)
        for i in range(0, len(folder), 256):
            encoder(folder.captions[i : i + 256])
        return folder, encoder
    before = begun.get("data", {})
    if not isinstance(before, dict):
        raise UserError(f"the run in {request.out} is on your own pictures: give --data again")
    if foreign := before.keys() - {f.name for f in fields(Scenes)}:
        raise UserError(
            f"the run in {request.out} is on a data set that minimagen train does not make ({min(foreign)}): "
            "go on with it where it was begun, in its notebook"
        )
    # a run that is resumed keeps the captions that it began with
    version = {} if begun else {"version": NEW_CAPTIONS}
    options = {"vocabulary": config.vocabulary} | version | before | request.scenes
    options |= {"length": ENDLESS} if pooled else {}
    return Scenes(resolution, **options), TextEncoder(cache_size=0).to(accelerator.device)


def tell(warnings: Sequence[str], shown: int = 10) -> None:
    """Print warnings to stderr, a line each; of many, the first."""
    for warning in warnings[:shown]:
        complain(f"warning: {warning}")
    if len(warnings) > shown:
        complain(f"warning: and {len(warnings) - shown} like these")


def trained_on(
    config: StageConfig, dataset: ImageDataset, encoder: TextEncoder, origin: Path
) -> StageConfig:
    """The stage's config with the text encoder and the vocabulary that it is trained on.

    Raises UserError where its weights, from `origin`, belong to another text encoder.
    """
    if not encoder.fits(config.text_encoder):
        raise UserError(f"{origin} was trained with another text encoder")
    vocabulary = dataset.vocabulary if isinstance(dataset, Scenes) else config.vocabulary
    return replace(config, text_encoder=encoder.fingerprint, vocabulary=vocabulary)


def report(rows: Iterator[dict[str, Any]], log: RunLog, name: str) -> None:
    """Run the training, log every row, and show progress and the smoothed loss on stderr."""
    loss = math.nan
    with tqdm(
        total=100.0,
        desc=name,
        bar_format="{desc}: {percentage:3.0f} %|{bar}| {elapsed}<{remaining}{postfix}",
        file=sys.stderr,
        delay=1,
    ) as bar:
        for row in rows:
            log.append(row)
            loss = row["loss"] if math.isnan(loss) else 0.99 * loss + 0.01 * row["loss"]
            bar.update(min(100.0, 100 * row["progress"]) - bar.n)
            bar.set_postfix(step=row["step"], loss=f"{loss:.4f}", refresh=False)
