"""Train stages of the cascade on one GPU by the clock.

    python data/build/cascade.py --out runs/gpu --plan sr64:68,sr256:32 --minutes 9

A plan names stages and their shares of the time. OUT/STAGE then holds config.json,
model.safetensors and facts.json.

What makes it fast on a GPU, where a step of a small network is many small kernels: the pictures, drawn by worker
processes, wait in a pool on the device with their tokens; every step draws its batch from the pool, encodes its
captions, and moves weights and average without a number that crosses to the CPU. So the whole step is captured
as one CUDA graph, and launching it costs nothing. The U-Net and the text encoder are compiled, in bfloat16.
On a CPU the same steps run one by one: that is how it is rehearsed and tested, not how one trains there.
An earlier form of this script trained the shipped stages (data/cascade/README.md); this one has run on a CPU only.

A run is not resumed: it lasts minutes. It goes on from weights with --from.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import queue
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

os.environ["TOKENIZERS_PARALLELISM"] = "false"  # or every worker would start a thread a core

import numpy as np
import torch
import torch.multiprocessing as mp
import torch.nn.functional as F
from torch import Tensor, nn

from minimagen import unet
from minimagen.assets import DEFAULT_ENCODER
from minimagen.config import RESOLUTIONS
from minimagen.diffusion import SCHEDULES, diffusion_loss
from minimagen.guidance import drop_captions
from minimagen.images import downsample
from minimagen.scenes import Scenes
from minimagen.scenes.artwork import draw
from minimagen.stage import DEFAULTS, Stage
from minimagen.text import TextEncoder
from minimagen.training.optimizers import split_parameters

TOKENS = 40  # a caption's; the longest in 20,000 has 41
MIX = {"vocabulary": "whole", "starter": 0.2, "pairs": 0.55, "styled": 0.8, "version": 2}


@dataclass(frozen=True)
class Recipe:
    """How a stage is trained."""

    batch: int
    pool: int  # pictures on the device
    text_noise: float  # σ on a caption's token states is this · u², u ~ U(0, 1)
    channels: tuple[int, ...]  # the U-Net's, with blocks and attention: fine to coarse
    blocks: tuple[int, ...]
    attention: tuple[str, ...]
    max_loss_weight: float | None = None
    muon_lr: float = 0.02
    lr: float = 2e-3  # of AdamW
    weight_decay: float = 0.1  # of Muon
    warmup: int = 100  # steps
    decay: float = 0.7  # the last share of the run, over which the rates fall to zero
    ema: float = 0.999
    clip_norm: float = 1.0


RECIPES = {
    "base": Recipe(1536, 2_000_000, 1.5, (96, 192), (3, 2), ("self", "self")),
    "sr64": Recipe(768, 400_000, 0.75, (64, 128, 160), (2, 3, 3), ("", "self", "self"), 20.0),
    "sr256": Recipe(512, 24_000, 0.0, (32, 64, 96), (1, 2, 3), ("", "", "cross"), 8.0),
}

# --- pictures: workers draw, the pool keeps ------------------------------------------------------


def produce(rank: int, workers: int, side: int, out: Any, stop: Any, first: int) -> None:
    """A worker: pictures uint8 (n, 3, side, side), token ids (n, TOKENS) and masks, until told to stop."""
    from transformers import AutoTokenizer

    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(DEFAULT_ENCODER)
    scenes = Scenes(side, "train", length=10**9, **MIX)
    n, k = 256 if side < 256 else 64, rank
    while not stop.is_set():
        described = [scenes.describe(first + i) for i in range(k * n, (k + 1) * n)]
        k += workers
        images = np.stack([draw(scene, rng, side) for scene, _, _, rng in described])
        tokens = tokenizer(
            [text for _, _, text, _ in described],
            padding="max_length",
            truncation=True,
            max_length=TOKENS,
            return_tensors="np",
        )
        item = (
            torch.from_numpy(np.ascontiguousarray(np.moveaxis(images, -1, 1))),
            torch.from_numpy(tokens["input_ids"].astype(np.int32)),
            torch.from_numpy(tokens["attention_mask"].astype(bool)),
        )
        while not stop.is_set():
            try:
                out.put(item, timeout=1)
                break
            except queue.Full:
                pass
    out.cancel_join_thread()


class Pool:
    """A ring of pictures with their tokens on the device, filled by workers while it is drawn from."""

    def __init__(self, size: int, side: int, workers: int, device: str, first: int) -> None:
        self.size, self.device, self.made = size, device, 0
        self.images = torch.zeros(size, 3, side, side, dtype=torch.uint8, device=device)
        self.ids = torch.zeros(size, TOKENS, dtype=torch.int32, device=device)
        self.mask = torch.zeros(size, TOKENS, dtype=torch.bool, device=device)
        self.filled = torch.zeros((), device=device)
        self.calm = threading.Lock()  # held while a graph is captured: nothing else may pin memory
        context = mp.get_context("spawn")
        self.pipe, self.stop = context.Queue(maxsize=2 * workers), context.Event()
        self.workers = [
            context.Process(
                target=produce, args=(i, workers, side, self.pipe, self.stop, first), daemon=True
            )
            for i in range(workers)
        ]
        for worker in self.workers:
            worker.start()
        self.ready: queue.Queue = queue.Queue(maxsize=8)
        threading.Thread(target=self._pin, daemon=True).start()

    def _pin(self) -> None:
        """Beside the training: a copy from memory that is not pinned would wait for the device."""
        while not self.stop.is_set():
            try:
                item = self.pipe.get(timeout=1)
            except queue.Empty:
                continue
            if self.device == "cuda":
                with self.calm:
                    item = [z.pin_memory() for z in item]
            while not self.stop.is_set():
                try:
                    self.ready.put(item, timeout=1)
                    break
                except queue.Full:
                    pass

    def take(self, wait: bool = False) -> None:
        """Lets new pictures in, on the training's own stream: no step sees half of one."""
        for _ in range(4):
            try:
                item = self.ready.get(wait, timeout=120 if wait else None)
            except queue.Empty:
                break
            wait, at = False, self.made % self.size
            n = min(len(item[0]), self.size - at)
            for kept, new in zip((self.images, self.ids, self.mask), item, strict=True):
                kept[at : at + n].copy_(new[:n], non_blocking=True)
            self.made += n
        self.filled.fill_(float(min(self.made, self.size)))

    def batch(self, n: int, crop: int | None) -> tuple[Tensor, Tensor, Tensor]:
        """Pictures (n, 3, H, W) in [−1, 1], token ids (n, TOKENS), mask; crops lie on a grid of 4."""
        i = (torch.rand(n, device=self.device) * self.filled).long()
        side = self.images.shape[-1]
        if crop is None or crop >= side:
            images = self.images[i]
        else:
            corner = (torch.rand(n, 2, device=self.device) * ((side - crop) // 4 + 1)).long() * 4
            along = torch.arange(crop, device=self.device)
            rows, columns = corner[:, :1] + along, corner[:, 1:] + along  # (n, crop)
            channel = torch.arange(3, device=self.device)[None, :, None, None]
            images = self.images[
                i[:, None, None, None], channel, rows[:, None, :, None], columns[:, None, None, :]
            ]
        return images.float().div_(127.5).sub_(1), self.ids[i].long(), self.mask[i]

    def close(self) -> None:
        self.stop.set()
        for worker in self.workers:
            worker.join(timeout=2)
            if worker.is_alive():
                worker.kill()


# --- what must not ask the device for a number -----------------------------------------------------


class PlainT5(nn.Module):
    """The pocket encoder's layers, in tensor operations alone: token ids and mask (B, TOKENS) → (B, TOKENS, D)."""

    def __init__(self, encoder: TextEncoder) -> None:
        super().__init__()
        self.model = encoder.model
        config = self.model.config
        self.heads, self.width, self.eps = (
            config.num_heads,
            config.d_kv,
            config.layer_norm_epsilon,
        )
        attention = self.model.encoder.block[0].layer[0].SelfAttention
        at = torch.arange(TOKENS)
        bucket = attention._relative_position_bucket(
            at[None, :] - at[:, None],
            bidirectional=True,
            num_buckets=attention.relative_attention_num_buckets,
            max_distance=attention.relative_attention_max_distance,
        )
        bias = attention.relative_attention_bias.weight[bucket].permute(2, 0, 1)
        self.bias: Tensor
        self.register_buffer("bias", bias[None].clone())  # (1, heads, TOKENS, TOKENS)

    def _norm(self, x: Tensor, weight: Tensor) -> Tensor:
        x = x.float()
        return weight * (x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps))

    @torch.no_grad()
    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        x = F.embedding(ids, self.model.shared.weight)
        bias = self.bias + torch.where(mask[:, None, None, :], 0.0, -1e9)
        for block in self.model.encoder.block:
            layer, feed = block.layer
            attention, dense = layer.SelfAttention, feed.DenseReluDense
            z = self._norm(x, layer.layer_norm.weight)
            q, k, v = (
                project(z).unflatten(-1, (self.heads, self.width)).transpose(1, 2)
                for project in (attention.q, attention.k, attention.v)
            )  # (B, heads, TOKENS, width)
            p = (q @ k.transpose(-1, -2) + bias).float().softmax(-1)
            x = x + attention.o((p.to(v.dtype) @ v).transpose(1, 2).flatten(2))
            z = self._norm(x, feed.layer_norm.weight)
            x = x + dense.wo(F.gelu(dense.wi_0(z), approximate="tanh") * dense.wi_1(z))
        x = self._norm(x, self.model.encoder.final_layer_norm.weight)
        return x.half().float() * mask[..., None]  # fp16 as TextEncoder keeps it


def orthogonal(g: Tensor, iterations: int = 5) -> Tensor:
    """training.optimizers.orthogonal for many matrices (N, a, b) at once."""
    x = g.mT if g.shape[-2] > g.shape[-1] else g
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    a = x @ x.mT
    eye = torch.eye(a.shape[-1], device=x.device)
    q = eye.expand_as(a)
    for _ in range(iterations):
        p = torch.baddbmm(a, a, a, beta=-4.775, alpha=2.0315) + 3.4445 * eye
        q, a = p @ q, p @ a @ p
    x = q @ x
    return x.mT if g.shape[-2] > g.shape[-1] else x


class GroupedMuon:
    """training.optimizers.Muon with matrices of one shape together; its rate is a tensor."""

    def __init__(self, params: Sequence[nn.Parameter], lr: float, decay: float) -> None:
        self.lr, self.decay, self.momentum = lr, decay, 0.95
        self.groups: dict[tuple, list[nn.Parameter]] = defaultdict(list)
        for p in params:
            self.groups[tuple(p.flatten(1).shape)].append(p)
        self.buffers = {
            shape: torch.zeros(len(group), *shape, device=group[0].device)
            for shape, group in self.groups.items()
        }

    @torch.no_grad()
    def step(self, factor: Tensor) -> None:
        """factor: of the learning rate, from 0 to 1."""
        every = [p for group in self.groups.values() for p in group]
        torch._foreach_mul_(every, 1 - self.lr * self.decay * factor)
        for shape, group in self.groups.items():
            g = torch.stack([p.grad.contiguous().flatten(1) for p in group])  # type: ignore[union-attr]
            m = self.buffers[shape].lerp_(g, 1 - self.momentum)
            scale = max(1.0, shape[0] / shape[1]) ** 0.5
            update = orthogonal(torch.lerp(g, m, self.momentum)) * (self.lr * scale * factor)
            moves = [u.reshape(p.shape) for p, u in zip(group, update, strict=True)]
            torch._foreach_sub_(group, moves)


def half_attention(self: unet.Attention, x: Tensor, text: Tensor, mask: Tensor) -> Tensor:
    """unet.Attention.forward, with attention in the precision of autocast: on a GPU that is faster."""
    B, C, H, W = x.shape
    pixels = self.norm(x.float()).permute(0, 2, 3, 1).flatten(1, 2)  # (B, HW, C)
    kv, seen = self.text_kv(self.text_norm(text)), mask
    if self.to_kv is not None:
        kv = torch.cat([self.to_kv(pixels), kv], dim=1)
        seen = F.pad(mask, (H * W, 0), value=True)
    q, k, v = (
        z.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
        for z in (self.to_q(pixels), *kv.chunk(2, dim=-1))
    )
    h = F.scaled_dot_product_attention(q, k, v, attn_mask=seen[:, None, None, :])
    h = self.out(h.transpose(1, 2).flatten(2))
    return (x + h.unflatten(1, (H, W)).permute(0, 3, 1, 2)) * self.scale


class Step:
    """One update of a stage from a batch of the pool: loss, gradient, Muon, AdamW, average."""

    def __init__(self, stage: Stage, encoder: TextEncoder, pool: Pool, recipe: Recipe) -> None:
        self.stage, self.pool, self.recipe, self.device = stage, pool, recipe, pool.device
        cuda = self.device == "cuda"
        encode: nn.Module = PlainT5(encoder).to(self.device)
        self.unet: Callable[..., Tensor] = stage.unet
        self.encode: Callable[..., Tensor] = encode
        if cuda:
            unet.Attention.forward = half_attention  # type: ignore[method-assign]
            self.unet = torch.compile(stage.unet, dynamic=False)
            self.encode = torch.compile(encode, dynamic=False)
        matrices, rest = split_parameters(stage.unet)
        self.muon = GroupedMuon(matrices, recipe.muon_lr, recipe.weight_decay)
        # what changes from step to step lives in tensors, which a captured graph reads anew
        self.factor, self.keep, self.lr, self.loss = (
            torch.zeros((), device=self.device) for _ in range(4)
        )
        lr: Any = self.lr if cuda else recipe.lr
        self.adam = torch.optim.AdamW(
            rest, lr, betas=(0.9, 0.98), weight_decay=0.0, fused=True, capturable=cuda
        )
        self.params = list(stage.unet.parameters())
        self.ema = [p.detach().clone() for p in self.params]
        self.graph: Any = None
        self.count = 0

    def set(self, progress: float) -> None:
        """Rates and the average's memory for the next step; progress: of the run, 0 to 1."""
        recipe = self.recipe
        factor = min(1.0, (self.count + 1) / recipe.warmup, (1 - progress) / recipe.decay)
        self.factor.fill_(factor)
        self.lr.fill_(recipe.lr * factor)
        self.keep.fill_(min(recipe.ema, (1 + self.count) / (10 + self.count)))
        if self.device != "cuda":
            for group in self.adam.param_groups:
                group["lr"] = recipe.lr * factor

    @torch.no_grad()
    def inputs(self) -> tuple[Tensor, Tensor, Tensor, tuple[Tensor, ...]]:
        """x_0, token states with noise on them, mask, and the augmented low-resolution picture with its log-SNR."""
        config, recipe, n = self.stage.config, self.recipe, self.recipe.batch
        x_0, ids, mask = self.pool.batch(n, config.crop)
        with torch.autocast(self.device, torch.bfloat16):
            text = self.encode(ids, mask).float()
        if recipe.text_noise:
            sigma = torch.rand(n, 1, 1, device=self.device).square() * recipe.text_noise
            text = text + sigma * torch.randn_like(text) * mask[..., None]
        text, mask = drop_captions(
            text, mask, config.caption_drop, torch.rand(n, device=self.device)
        )
        low: tuple[Tensor, ...] = ()
        if config.unet.low_res:
            small = downsample(x_0, x_0.shape[-1] // 4)
            level = torch.rand(n, device=self.device) * config.max_aug_level
            low = self.stage.augment(small, level, torch.randn_like(small))
        return x_0, text, mask, low

    def update(self) -> None:
        config = self.stage.config
        x_0, text, mask, low = self.inputs()
        t = torch.rand(len(x_0), device=self.device) ** config.time_exponent
        eps = torch.randn_like(x_0)
        with torch.autocast(self.device, torch.bfloat16, cache_enabled=False):
            loss = diffusion_loss(
                lambda x_t, log_snr: self.unet(x_t, log_snr, text, mask, *low),
                x_0,
                t,
                eps,
                SCHEDULES[config.schedule],
                config.target,
                config.max_loss_weight,
            )
        loss.backward()
        nn.utils.clip_grad_norm_(self.params, self.recipe.clip_norm, foreach=True)
        self.muon.step(self.factor)
        self.adam.step()
        new = [p.detach() for p in self.params]
        torch._foreach_mul_(self.ema, self.keep)
        torch._foreach_add_(self.ema, torch._foreach_mul(new, 1 - self.keep))
        self.loss.add_(loss.detach())

    def _forget_gradients(self) -> None:
        for p in self.params:
            p.grad = None

    def capture(self) -> None:
        """Three steps that compile, then the step as a CUDA graph."""
        stream = torch.cuda.Stream()
        for _ in range(3):
            self.set(0.0)
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                self.update()
            torch.cuda.current_stream().wait_stream(stream)
            self._forget_gradients()
            self.count += 1
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with self.pool.calm, torch.cuda.graph(graph, capture_error_mode="thread_local"):
            self.update()
        torch.cuda.synchronize()
        self.graph = graph
        self.loss.zero_()

    def __call__(self, progress: float) -> None:
        self.set(progress)
        if self.graph is None:
            self.update()
            self._forget_gradients()
        else:
            self.graph.replay()
        self.count += 1


# --- a run ---------------------------------------------------------------------------------------------


def begin(name: str, recipe: Recipe, origin: Path | None, fingerprint: str) -> Stage:
    if origin is not None:
        return Stage.load(origin)
    config = DEFAULTS[name]
    shape = {k: getattr(recipe, k) for k in ("channels", "blocks", "attention")}
    torch.manual_seed(0)
    return Stage(
        replace(
            config,
            unet=replace(config.unet, **shape),
            max_loss_weight=recipe.max_loss_weight,
            vocabulary="whole",
            text_encoder=fingerprint,
        )
    )


def train(name: str, end: float, args: argparse.Namespace, device: str) -> None:
    """Trains a stage until time.monotonic() is `end`, and saves its average."""
    recipe = RECIPES[name]
    if args.batch:
        recipe = replace(recipe, batch=args.batch, pool=min(recipe.pool, 100 * args.batch))
    encoder = TextEncoder(cache_size=0)
    pool = Pool(recipe.pool, RESOLUTIONS[name], args.workers, device, args.first)
    origin = args.origin and args.origin / name
    stage = begin(name, recipe, origin, encoder.fingerprint).to(device).train()
    step, history, marks = Step(stage, encoder, pool, recipe), [], []
    while pool.made < min(pool.size, 2 * recipe.batch):
        pool.take(wait=True)
    if device == "cuda":
        step.capture()
    begun, first = time.monotonic(), step.count
    print(f"{name}: {end - begun:.0f} s to go", flush=True)
    while (progress := (time.monotonic() - begun) / max(end - begun, 1e-9)) < 1:
        pool.take()
        step(progress)
        if device == "cuda":  # at most two steps ahead of the device
            event = torch.cuda.Event()
            event.record()
            marks.append(event)
            if len(marks) > 2:
                marks.pop(0).synchronize()
        if (step.count - first) % args.every == 0:
            loss, seconds = step.loss.item() / args.every, time.monotonic() - begun
            step.loss.zero_()
            rate = (step.count - first) * recipe.batch / seconds
            history.append((step.count, round(seconds, 1), loss))
            print(f"{name}: step {step.count}, loss {loss:.5f}, {rate:.0f} images/s", flush=True)
            if not math.isfinite(loss):
                raise FloatingPointError(f"the loss of {name} is {loss} at step {step.count}")
    seconds = time.monotonic() - begun
    with torch.no_grad():
        for p, average in zip(step.params, step.ema, strict=True):
            p.copy_(average)
    pool.close()
    folder = args.out / name
    stage.to("cpu").save(folder)
    facts = {
        "stage": name,
        "steps": step.count,
        "batch": recipe.batch,
        "new_pictures": pool.made,
        "seconds": round(seconds, 1),
        "history": history,
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "torch": torch.__version__,
    }
    (folder / "facts.json").write_text(json.dumps(facts) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--plan", default="base:50,sr64:35,sr256:15", help="STAGE:SHARE,…")
    parser.add_argument("--minutes", type=float, required=True, help="of all, compiling included")
    parser.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 2) - 2))
    parser.add_argument("--from", dest="origin", type=Path, help="a cascade to go on from")
    parser.add_argument("--first", type=int, default=2_000_000, help="index of the first scene")
    parser.add_argument("--batch", type=int, help="another one, for a rehearsal")
    parser.add_argument("--every", type=int, default=200, help="steps between two lines")
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    plan = [(name, float(share)) for name, share in (z.split(":") for z in args.plan.split(","))]
    left, end = sum(share for _, share in plan), time.monotonic() + 60 * args.minutes
    for name, share in plan:
        now = time.monotonic()
        train(name, now + (end - now) * share / left, args, device)
        left -= share


if __name__ == "__main__":
    main()
