"""Training as a generator, on Accelerate: it yields after every step, so a notebook can plot, sample, stop.

A run of so many steps is a pure function of its settings: step n draws its pictures by index and its noise
from a generator seeded by n. So a checkpoint needs no random state, and a run that was killed goes on to the
same weights.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from .imagen import Stage
from .text import TextEncoder


class Pictures(Protocol):
    """What can be trained on: Scenes, or a folder of one's own."""

    identity: str  # the same for the same pictures, so that a run is resumed on what it began with

    def batch(self, indices: list[int]) -> tuple[Tensor, list[str]]: ...

    def __len__(self) -> int: ...


def _place(k: int, n: int, seed: int) -> int:
    """Which of n pictures comes k-th: every one once an epoch, in mixed order, another one each epoch."""
    epoch, place = divmod(k, n)
    stride = n // 3 + 7 * epoch + seed % 97 + 1
    while math.gcd(stride, n) > 1:
        stride += 1
    return (place * stride + epoch + seed * 7_919) % n


@dataclass(frozen=True)
class TrainConfig:
    """One run. Give steps, or minutes; the learning rate follows the share that is done.

    Imagen trains the base with Adafactor and the rest with Adam at 1e-4 after 10 k warm-up steps. Minutes
    instead of days ask for more a step: Muon (Jordan et al. 2024) for the matrices, AdamW for the rest, a
    short warm-up, a plateau, and a linear decay to zero, where most of the gain of a short run appears.
    """

    steps: int | None = None
    minutes: float | None = None
    batch: int = 48
    lr: float = 2e-3  # of AdamW
    muon_lr: float = 0.02  # 0: AdamW for everything
    warmup: int = 40  # steps
    decay: float = 0.35  # the last share of the run, over which the rate falls to zero
    ema: float = 0.995
    clip_norm: float = 1.0
    text_noise: float = (
        0.0  # a caption's states get noise of up to this σ: near words are read alike
    )
    checkpoint_minutes: float = 3.0
    seed: int = 0


class Muon(torch.optim.Optimizer):
    """Momentum whose matrices are replaced by the nearest orthogonal one (Jordan et al. 2024)."""

    def __init__(self, params: list[nn.Parameter], lr: float, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if "momentum" not in state:
                    state["momentum"] = torch.zeros_like(p, memory_format=torch.contiguous_format)
                m = state["momentum"].lerp_(p.grad, 1 - group["momentum"])
                update = orthogonal(p.grad.lerp(m, group["momentum"]).flatten(1))
                scale = max(1.0, update.shape[0] / update.shape[1]) ** 0.5
                p.add_(update.view(p.shape), alpha=-group["lr"] * scale)


def orthogonal(g: Tensor, iterations: int = 5) -> Tensor:
    """About U Vᵀ of g = U S Vᵀ, by Newton–Schulz; singular values that are not tiny end within [0.6, 1.2].

    Every iterate is x ← (3.4445 − 4.775 xxᵀ + 2.0315 (xxᵀ)²) x, a polynomial of a = xxᵀ times the first x. So
    we iterate on a and q, which are as small as the short side, and multiply x once: 2.5 times faster.
    """
    x = g.T if g.shape[0] > g.shape[1] else g
    x = x / (x.norm() + 1e-7)
    a = x @ x.T
    q = torch.eye(len(a), dtype=x.dtype, device=x.device)
    for _ in range(iterations):
        p = torch.addmm(a, a, a, beta=-4.775, alpha=2.0315)
        p.diagonal().add_(3.4445)
        q, a = p @ q, p @ a @ p
    x = q @ x
    return x.T if g.shape[0] > g.shape[1] else x


def batch_of(
    pictures: Pictures, config: TrainConfig, step: int, rank: int = 0, ranks: int = 1
) -> tuple[Tensor, list[str]]:
    """Pictures (B / ranks, 3, H, W) and captions of one step: which ones follows from the step alone."""
    share, n = config.batch // ranks, len(pictures)
    first = step * config.batch + rank * share
    return pictures.batch([_place(k, n, config.seed) for k in range(first, first + share)])


def train(
    stage: Stage,
    pictures: Pictures,
    encoder: TextEncoder,
    config: TrainConfig,
    out: Path | None = None,
    resume: bool = False,
    accelerator: Accelerator | None = None,
) -> Iterator[dict[str, float]]:
    """Yields {step, loss, rate, share, seconds} after every step; `stage` then holds the running weights.

    At the end `stage` holds the EMA weights, and out/ (if given) the same as config.json and
    model.safetensors. While it runs, out/state holds what `resume` goes on from.
    """
    if (config.steps is None) == (config.minutes is None):
        raise ValueError("give either steps or minutes, and not both")
    accelerator = accelerator or Accelerator(cpu=not torch.cuda.is_available())
    if accelerator.mixed_precision == "fp16":
        raise ValueError("training in fp16 is not made here: use bf16, or no mixed precision")
    rank, ranks = accelerator.process_index, accelerator.num_processes
    if config.batch % ranks:
        raise ValueError(f"{ranks} processes cannot share a batch of {config.batch} evenly")
    device = accelerator.device
    model = accelerator.prepare(stage.to(device))
    muon, adam = _optimizers(stage.unet, config)
    ema = {k: v.detach().clone() for k, v in stage.unet.state_dict().items()}
    step, spent = 0, 0.0
    about = {"data": pictures.identity, "run": _identity(config), "stage": asdict(stage.config)}
    if out is not None:
        for left in out.glob("state.*.tmp"):  # half-written by a run that was killed
            left.unlink(missing_ok=True)
    if resume and out is not None:
        step, spent = load_state(out, stage.unet, ema, (muon, adam), about)
    begun = saved = time.monotonic()

    def seconds() -> float:
        """Of training so far, by the main process's clock: all processes end at the same step."""
        so_far = spent + time.monotonic() - begun
        return broadcast(torch.tensor(so_far, device=device)).item() if ranks > 1 else so_far

    def keep(step: int, seconds: float) -> None:
        if out is not None and accelerator.is_main_process:
            facts = {"step": step, "seconds": seconds, **about}
            save_state(out, stage.unet, ema, (muon, adam), facts)

    stage.train()
    while (share := _share(config, step, seconds())) < 1:
        rate = min(1.0, (step + 1) / config.warmup) * min(1.0, (1 - share) / config.decay)
        images, captions = batch_of(pictures, config, step, rank, ranks)
        text, mask = encoder(captions)
        # + 0 for the batch's noise, + 1 … for the captions of each process
        own = config.seed * 1_000_003 + step * 1_024
        generator = torch.Generator().manual_seed(own % 2**63)
        if config.text_noise:  # captions are padded to another length in each process
            blurred = torch.Generator().manual_seed((own + 1 + rank) % 2**63)
            text = blur(text, mask, config.text_noise, blurred)
        images, text, mask = (z.to(device) for z in (images, text, mask))
        with accelerator.autocast():
            loss = model(images, text, mask, generator, rank, ranks)
        accelerator.backward(loss)
        norm = nn.utils.clip_grad_norm_(stage.unet.parameters(), config.clip_norm)
        if not (torch.isfinite(loss) and torch.isfinite(norm)):
            raise FloatingPointError(
                f"the loss is {loss.item()} and its gradient {norm.item()} at step {step}: go on from the "
                "last checkpoint with --resume and lower rates (--lr, --muon-lr)"
            )
        for optimizer, lr in ((muon, config.muon_lr), (adam, config.lr)):
            for group in optimizer.param_groups:
                group["lr"] = lr * rate
            optimizer.step()
            optimizer.zero_grad()
        step += 1
        update_ema(ema, stage.unet, min(config.ema, (1 + step) / (10 + step)))
        now = time.monotonic()
        if now - saved > config.checkpoint_minutes * 60:
            keep(step, spent + now - begun)
            saved = now
        yield {
            "step": step,
            "loss": accelerator.reduce(loss.detach(), "mean").item(),
            "rate": rate,
            "share": _share(config, step, spent + now - begun),
            "seconds": spent + now - begun,
        }
    keep(step, spent + time.monotonic() - begun)
    stage.unet.load_state_dict(ema)
    if out is not None and accelerator.is_main_process:
        stage.save(out)


def blur(text: Tensor, mask: Tensor, most: float, generator: torch.Generator) -> Tensor:
    """States (B, L, D) with Gaussian noise on every token of mask (B, L), its σ from U(0, most) a caption.

    Not in the paper: Imagen has seen millions of words, ours one name a thing. A synonym's states lie near
    its name's, and a network that has met the name's surroundings reads it.
    """
    sigma = torch.rand(len(text), 1, 1, generator=generator) * most
    noise = torch.randn(text.shape, generator=generator)
    return text + sigma * noise * mask[..., None]


def _share(config: TrainConfig, step: int, seconds: float) -> float:
    """How much of the run is done, from 0 to 1."""
    if config.steps is not None:
        return step / config.steps
    assert config.minutes is not None
    return seconds / 60 / config.minutes


def _optimizers(unet: nn.Module, config: TrainConfig) -> tuple[Muon, torch.optim.AdamW]:
    matrices: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, p in unet.named_parameters():
        # the first and last layers meet pixels, not features: Adam suits them better
        inner = (
            p.ndim >= 2 and min(p.flatten(1).shape) >= 16 and not name.startswith(("stem", "out"))
        )
        (matrices if inner and config.muon_lr > 0 else rest).append(p)
    muon = Muon(matrices or [nn.Parameter(torch.zeros(1, 1))], config.muon_lr)
    return muon, torch.optim.AdamW(rest, config.lr, betas=(0.9, 0.98), weight_decay=0.0, fused=True)


@torch.no_grad()
def update_ema(ema: dict[str, Tensor], model: nn.Module, decay: float) -> None:
    """ema ← decay · ema + (1 − decay) · weights. The caller lets a young average forget faster."""
    for name, value in model.state_dict().items():
        ema[name].lerp_(value, 1 - decay)


def _identity(config: TrainConfig) -> dict:
    """The settings that a resumed run must share with its beginning: not its minutes, nor its rates."""
    free = ("minutes", "checkpoint_minutes", "lr", "muon_lr")
    return {k: v for k, v in asdict(config).items() if k not in free}


def save_state(
    out: Path,
    unet: nn.Module,
    ema: dict[str, Tensor],
    optimizers: tuple[torch.optim.Optimizer, ...],
    facts: dict,
) -> None:
    """Everything that --resume needs, written aside and renamed: a kill leaves the old or the new, whole."""
    tensors = {f"model.{k}": v for k, v in unet.state_dict().items()}
    tensors |= {f"ema.{k}": v for k, v in ema.items()}
    for n, optimizer in enumerate(optimizers):
        for i, values in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{n}.{i}.{k}": torch.as_tensor(v) for k, v in values.items()}
    tensors = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    out.mkdir(parents=True, exist_ok=True)
    aside = out / f"state.{os.getpid()}.tmp"
    save_file(tensors, aside, metadata={"facts": json.dumps(facts)})
    with open(aside, "r+b") as file:
        os.fsync(file.fileno())
    os.replace(aside, out / "state.safetensors")


def state_facts(out: Path) -> dict:
    """What a checkpoint says of itself: step, seconds, run, stage, data. ValueError where it is damaged."""
    path = out / "state.safetensors"
    try:
        with safe_open(path, "pt") as file:
            return json.loads(file.metadata()["facts"])
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged ({error}): start anew in another folder") from error


def load_state(
    out: Path,
    unet: nn.Module,
    ema: dict[str, Tensor],
    optimizers: tuple[torch.optim.Optimizer, ...],
    about: dict,
) -> tuple[int, float]:
    """Step and seconds of a checkpoint; fills the rest in place. ValueError, with a sentence, where it can't.

    about: data, run and stage, as the checkpoint must have them too.
    """
    path = out / "state.safetensors"
    if not path.is_file():
        return 0, 0.0  # killed before the first checkpoint: the run starts again from its beginning
    facts = state_facts(out)
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged ({error}): start anew in another folder") from error
    about = json.loads(json.dumps(about))  # as JSON has it: lists for tuples
    for key, name in (("data", "data set"), ("run", "training settings"), ("stage", "model")):
        then, now = ({"data": z} if key == "data" else z for z in (facts[key], about[key]))
        changed = [k for k in now if then.get(k) != now[k]]
        if changed:
            raise ValueError(
                f"{out} was begun with another {name} ({', '.join(changed)}): resume with the same ones, "
                "or start anew in another folder with --from"
            )
    unet.load_state_dict({k: tensors[f"model.{k}"] for k in unet.state_dict()})
    for name in ema:
        ema[name].copy_(tensors[f"ema.{name}"])
    for n, optimizer in enumerate(optimizers):
        params = [p for group in optimizer.param_groups for p in group["params"]]
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith(f"optimizer.{n}."):
                i, name = int(key.split(".")[2]), key.split(".")[3]
                if name.startswith(
                    "exp_avg"
                ):  # the fused step wants them laid out like the weights
                    value = torch.empty_like(params[i]).copy_(value)
                state.setdefault(i, {})[name] = value
        optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    return facts["step"], facts["seconds"]
