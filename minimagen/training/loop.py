"""Training as a generator, on Accelerate: it yields after every step, so a notebook can plot, sample, stop.

A run of so many steps is a pure function of its settings: step n draws its pictures by index and its noise
from a generator seeded by n. So a checkpoint needs no random state, and a run that was killed goes on to the
same weights.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from ..assets import read_tensors
from ..stage import Stage, StageConfig
from ..text import TextEncoder, add_text_noise
from .accelerator import make_accelerator
from .checkpoint import load_state, readable, save_state, state_facts
from .ema import update_ema
from .optimizers import optimizers
from .order import _kth_picture
from .owner import owning


class ImageDataset(Protocol):
    """What can be trained on: Scenes, or a folder of one's own."""

    @property
    def identity(self) -> str | dict: ...  # a run is resumed on the pictures that it began with

    def batch(self, indices: list[int]) -> tuple[Tensor, list[str]]: ...

    def __len__(self) -> int: ...


@dataclass(frozen=True)
class TrainConfig:
    """One run. Give steps, or minutes; the learning rate follows the share that is done.

    Imagen (section 4.1) trains the base with Adafactor and the rest with Adam, at 1e-4 after 10 k warm-up
    steps. Minutes instead of days ask for more a step: Muon (Jordan et al. 2024) for the matrices, AdamW
    for the rest, a short warm-up, a plateau, and a linear decay to zero, where most of the gain of a short
    run appears.
    """

    steps: int | None = None
    minutes: float | None = None
    batch: int = 48
    grad_accum_steps: int = 1  # parts of a batch, one after the other, where memory is short
    lr: float = 2e-3  # of AdamW
    muon_lr: float = 0.02  # 0: AdamW for everything
    weight_decay: float = 0.1  # of Muon
    warmup_steps: int = 40
    decay_fraction: float = 0.35  # the last share of the run, over which the rate falls to zero
    ema_decay: float = 0.995
    clip_norm: float = 1.0
    text_noise: float = 0.0  # of up to this σ on a caption's states: near words are read alike
    checkpoint_minutes: float = 3.0
    seed: int = 0


@dataclass(frozen=True)
class Batches(Dataset[tuple[Tensor, list[str]]]):
    """Pictures (B / parts, 3, H, W) and captions of part i: which ones follows from i alone.

    Part i belongs to step i // parts. A batch has parts = processes × grad_accum_steps parts.
    """

    pictures: ImageDataset
    config: TrainConfig
    parts: int = 1

    def __getitem__(self, i: int) -> tuple[Tensor, list[str]]:
        share, n = self.config.batch // self.parts, len(self.pictures)
        which = range(i * share, (i + 1) * share)
        return self.pictures.batch([_kth_picture(k, n, self.config.seed) for k in which])

    def __len__(self) -> int:
        return 10**9 * self.parts


@owning
def train(
    stage: Stage,
    pictures: ImageDataset,
    encoder: TextEncoder,
    config: TrainConfig,
    out: Path | None = None,
    resume: bool = False,
    accelerator: Accelerator | None = None,
    workers: int = 0,
    preview: Callable[[Stage, int], object] | None = None,
) -> Iterator[dict[str, float]]:
    """Yields {step, loss, rate, share, seconds} after every step; `stage` then holds the running weights.

    At the end `stage` holds the EMA weights, and out/ (if given) the same as config.json and
    model.safetensors. While it runs, out/state.safetensors holds what `resume` goes on from.
    workers: processes that make the batches; 0: this one does. preview(stage, step) is called at
    every checkpoint, with the EMA weights. Raises ValueError for settings that can't be, and
    FloatingPointError where the loss is no number.
    """
    if (config.steps is None) == (config.minutes is None):
        raise ValueError("give either steps or minutes, and not both")
    if (
        min(
            config.steps or config.minutes or 0,
            config.batch,
            config.grad_accum_steps,
            config.decay_fraction,
        )
        <= 0
    ):
        raise ValueError(
            "steps, minutes, batch, grad_accum_steps and decay_fraction must be above 0"
        )
    if out is not None and not resume and (out / "state.safetensors").exists():
        raise ValueError(f"{out} holds a run: go on with --resume, or give another folder")
    accelerator = accelerator or make_accelerator(cpu=not torch.cuda.is_available())
    rank, ranks = accelerator.process_index, accelerator.num_processes
    parts = ranks * config.grad_accum_steps
    if config.batch % parts:
        raise ValueError(
            f"a batch of {config.batch} can't be shared evenly by {ranks} processes, each in "
            f"{config.grad_accum_steps} parts: choose a multiple of {parts}"
        )
    device = accelerator.device
    model = accelerator.prepare(stage.to(device))
    both = (muon, adam) = optimizers(stage.unet, config.lr, config.muon_lr, config.weight_decay)
    used = [(o, lr) for o, lr in ((muon, config.muon_lr), (adam, config.lr)) if lr > 0]
    scaler = accelerator.scaler  # of the loss, in fp16 alone: small gradients would be lost
    ema = {k: v.detach().clone() for k, v in stage.unet.state_dict().items()}
    step, spent = 0, 0.0
    run = _identity(config) | {"precision": accelerator.mixed_precision}
    about = {"data": pictures.identity, "run": run, "stage": asdict(stage.config)}
    if out is not None and accelerator.is_main_process:
        # half-written by a run that was killed
        for left in [*out.glob("state.*.tmp"), *out.glob("model.*.tmp")]:
            left.unlink(missing_ok=True)
    if resume and out is not None:
        step, spent, scale = load_state(out, stage.unet, ema, both, about)
        if scaler is not None and scale:
            scaler.load_state_dict(scale)
    first = step * parts + rank * config.grad_accum_steps
    own = (
        k + i for k in range(first, 10**9 * parts, parts) for i in range(config.grad_accum_steps)
    )
    alone = torch.Generator()  # or the loader would draw from the global one
    data = Batches(pictures, config, parts)
    batches = iter(DataLoader(data, None, sampler=own, num_workers=workers, generator=alone))
    begun = saved = time.monotonic()

    def seconds() -> float:
        """Of training so far, by the main process's clock: all processes end at the same step."""
        so_far = spent + time.monotonic() - begun
        return broadcast(torch.tensor(so_far, device=device)).item() if ranks > 1 else so_far

    def keep(step: int, seconds: float) -> None:
        if out is not None and accelerator.is_main_process:
            scale = {} if scaler is None else scaler.state_dict()
            facts = {"step": step, "seconds": seconds, "scale": scale, **about}
            facts |= {"run": asdict(config) | run}  # its free settings too: resume begins with them
            save_state(out, stage.unet, ema, both, facts)

    def look(step: int) -> None:
        if preview is not None and accelerator.is_main_process:
            shown = copy.deepcopy(stage)
            shown.unet.load_state_dict(ema)
            preview(shown, step)

    # at once, or a run that is killed early would forget its settings and whose weights it had
    if out is not None and not (resume and (out / "state.safetensors").exists()):
        keep(0, 0.0)
    stage.train()
    while (share := _share(config, step, seconds())) < 1:
        rate = min(1.0, (step + 1) / max(1, config.warmup_steps)) * min(
            1.0, (1 - share) / config.decay_fraction
        )
        total = torch.zeros((), device=device)
        for i in range(config.grad_accum_steps):
            try:
                images, captions = next(batches)
            except ValueError as error:  # a worker's comes with its traceback: keep the sentence
                raise ValueError(str(error).strip().split("ValueError: ")[-1]) from error
            with torch.autocast(device.type, torch.bfloat16, accelerator.mixed_precision == "bf16"):
                text, mask = encoder(captions)  # never in fp16: a T5 overflows
            images, text, mask = images.to(device), text.to(device), mask.to(device)
            # every part draws the noise of the whole batch from one seed, and keeps its own
            part = rank * config.grad_accum_steps + i
            seed = config.seed * 1_000_003 + step * 1_024
            if config.text_noise:
                g = _generator(seed + 1, device)
                text = add_text_noise(text, mask, config.text_noise, g, part, parts)
            last = i == config.grad_accum_steps - 1
            with nullcontext() if last else accelerator.no_sync(model):
                loss = model(images, text, mask, _generator(seed, device), part, parts)
                accelerator.backward(loss / config.grad_accum_steps)
            total += loss.detach() / config.grad_accum_steps
        if scaler is not None:
            for optimizer, _ in used:
                scaler.unscale_(optimizer)
        norm = nn.utils.clip_grad_norm_(stage.unet.parameters(), config.clip_norm)
        # in fp16 a gradient may overflow: then the scaler leaves this step out and scales less
        finite = bool(torch.isfinite(norm))
        if not (torch.isfinite(total) and (scaler is not None or finite)):
            raise FloatingPointError(
                f"the loss is {total.item()} and its gradient {norm.item()} at step {step}: go on from "
                "the last checkpoint with --resume and lower rates (--lr, --muon-lr)"
            )
        for optimizer, lr in used:
            for group in optimizer.param_groups:
                group["lr"] = lr * rate
            if scaler is None:
                optimizer.step()
            elif finite:  # the norm is of both optimizers: one alone must not step by it
                scaler.step(optimizer)
            optimizer.zero_grad()
        if scaler is not None:
            scaler.update()
        step += 1
        update_ema(ema, stage.unet, min(config.ema_decay, (1 + step) / (10 + step)))
        now = time.monotonic()
        if now - saved > config.checkpoint_minutes * 60:
            keep(step, spent + now - begun)
            look(step)
            saved = now
        yield {
            "step": step,
            "loss": accelerator.reduce(total, "mean").item(),
            "rate": rate,
            "share": _share(config, step, spent + now - begun),
            "seconds": spent + now - begun,
        }
    keep(step, spent + time.monotonic() - begun)
    stage.unet.load_state_dict(ema)
    if out is not None and accelerator.is_main_process:
        stage.save(out)
    look(step)


def load_ema_stage(out: Path) -> Stage:
    """The stage of a run, ended or not, with its EMA weights in fp32. ValueError where the state is damaged."""
    path, facts = out / "state.safetensors", state_facts(out)
    with readable(path):
        stage, tensors = Stage(StageConfig.from_dict(facts["stage"])), read_tensors(path)
        stage.unet.load_state_dict({k: tensors[f"ema.{k}"] for k in stage.unet.state_dict()})
    return stage.eval()


def _generator(seed: int, device: str | torch.device) -> torch.Generator:
    return torch.Generator(device).manual_seed(seed % 2**63)


def _share(config: TrainConfig, step: int, seconds: float) -> float:
    """How much of the run is done, from 0 to 1."""
    if config.steps is not None:
        return step / config.steps
    assert config.minutes is not None
    return seconds / 60 / config.minutes


def _identity(config: TrainConfig) -> dict:
    """What a resumed run must share with its beginning: not its minutes, rates, nor the parts of a batch."""
    free = ("minutes", "checkpoint_minutes", "lr", "muon_lr", "grad_accum_steps")
    return {k: v for k, v in asdict(config).items() if k not in free}
