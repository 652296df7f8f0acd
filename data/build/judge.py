"""Train the judge on real scenes: python data/build/judge.py --vocabulary starter --minutes 8

It learns from the split "all" (every combination, so that held-out ones are judged fairly). Captions play no
part, and it never sees a generated picture.

    python data/build/judge.py --strict --minutes 60 --workers 1 --out data/judge/strict

trains the strict judge of the whole vocabulary, from the weights of `whole`, to answer "unknown" for objects that
spoil.py has smeared, torn, mixed or melted. It ends within its minutes, whatever happens.
"""

import argparse
import json
import multiprocessing
import os
import queue
import random
import threading
import time
from pathlib import Path

import numpy as np
import spoil
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from minimagen.assets import DATA
from minimagen.evaluation.alignment import joint_accuracy
from minimagen.evaluation.judge import UNKNOWN, Judge
from minimagen.scenes import Scene, Scenes
from minimagen.scenes.artwork import TIMELESS
from minimagen.training.optimizers import Muon


def truths(judge: Judge, scenes: list[Scene]) -> dict[str, torch.Tensor]:
    """The index of every right answer; −100 where none can be seen, as of an empty slot.

    Not seen is the time of day in a place that has none, and the style of things that are all tinted.
    """
    truth: dict[str, list] = {
        "layout": [(len(s.things), s.arrangement) for s in scenes],
        "style": [None if all(t.colour for t in s.things) else s.style for s in scenes],
        "place": [s.place for s in scenes],
        "time": [None if s.place in TIMELESS else s.time for s in scenes],
    }
    index = {
        name: torch.tensor([-100 if v is None else answers.index(v) for v in truth[name]])
        for name, answers in judge.answers.items()
    }
    for name, answers in judge.slot_answers.items():
        index[name] = torch.full((len(scenes), 3), -100)
        for i, scene in enumerate(scenes):
            for k, thing in enumerate(scene.things):
                index[name][i, k] = answers.index(getattr(thing, name))
    return index


def loss_of(logits: dict[str, torch.Tensor], truth: dict[str, torch.Tensor]) -> torch.Tensor:
    """Sum of the cross-entropies of every attribute that can be seen."""
    losses = [
        F.cross_entropy(logits[name].float().flatten(0, -2), index.flatten())
        for name, index in truth.items()
    ]
    return torch.stack(losses).sum()


def optimizers_of(judge: Judge) -> tuple[tuple[torch.optim.Optimizer, float], ...]:
    matrices, rest = [], []
    for name, p in judge.named_parameters():
        outer = name.startswith(("trunk.0.", "detail.0.", "position", "heads", "slot_heads"))
        (rest if outer or p.ndim < 2 else matrices).append(p)
    return (
        (Muon(matrices, 0.02), 0.02),
        (torch.optim.AdamW(rest, 2e-3, weight_decay=0.01), 2e-3),
    )


def begin_from(judge: Judge, vocabulary: str) -> None:
    """Takes over a shipped judge's weights; what it can't answer keeps its own first ones."""
    start = Judge.load(vocabulary, judge.size)
    other, judge.looks = start.state_dict(), start.looks
    for name, own in judge.state_dict().items():
        if name not in other:
            continue
        if own.shape == other[name].shape:
            own.copy_(other[name])
        elif own.shape[1:] == other[name].shape[1:] and len(own) > len(other[name]):  # UNKNOWN
            own[: len(other[name])] = other[name]


def plain(args: argparse.Namespace) -> None:
    scenes = Scenes(args.size, "all", args.vocabulary, length=10**9)
    judge = Judge(scenes.objects, args.size).to(memory_format=torch.channels_last)
    if args.start:
        begin_from(judge, args.start)
    print(sum(p.numel() for p in judge.parameters()), "parameters", flush=True)
    optimizers = optimizers_of(judge)
    name = args.vocabulary if args.size == 64 else f"{args.vocabulary}{args.size}"
    folder = args.out or DATA / "judge" / name
    begun, batch, step = time.monotonic(), 96, 0
    while (spent := (time.monotonic() - begun) / 60 / args.minutes) < 1:
        rate = args.rate * min(1, (step + 1) / 100) * (1 - spent)
        first = args.skip + step * batch
        items = [scenes[i] for i in range(first, first + batch)]
        images = torch.stack([item.image for item in items])
        images = images + torch.randn_like(images) * 0.05 * torch.rand(batch, 1, 1, 1)
        truth = truths(judge, [item.scene for item in items])
        loss = loss_of(judge.train()(images), truth)
        update(judge, loss, optimizers, rate)
        step += 1
        if step % 400 == 0:
            accuracy = joint_accuracy(judge, args.vocabulary, args.size, 300)
            print(
                f"{spent * args.minutes:.1f} min, {step * batch} scenes, {accuracy:.3f}", flush=True
            )
            judge.save(folder)
    judge.save(folder)
    sizes = (64, 256) if args.size == 64 else (16,)
    print({size: joint_accuracy(judge, args.vocabulary, size) for size in sizes})


def update(judge: Judge, loss: torch.Tensor, optimizers, rate: float) -> None:
    judge.zero_grad()
    loss.backward()
    for optimizer, lr in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = lr * rate
        optimizer.step()


# --- the strict judge -------------------------------------------------------------------------


def layers(scenes: Scenes, judge: Judge, indices: range) -> dict[str, np.ndarray]:
    """A batch before it is spoiled: layers, the truth, and which slots are in the layer."""
    drawn, described = [], [scenes.describe(i) for i in indices]
    for scene, _, _, rng in described:
        drawn.append(spoil.parts(scene, rng))
    batch = {name: z.numpy() for name, z in truths(judge, [d[0] for d in described]).items()}
    batch["behind"], batch["layer"], batch["which"] = (
        np.stack(z) for z in zip(*drawn, strict=True)
    )
    counts = [len(scene.things) for scene, *_ in described]
    batch["all"] = batch["which"].sum(axis=1) == np.array(counts)
    return batch


def work(out, worker: int, workers: int, batch: int, skip: int, end: float) -> None:
    """Makes every workers-th batch until the end of the run, or until its parent is gone."""
    torch.set_num_threads(1)
    scenes = Scenes(64, "all", "whole", length=10**9)
    judge, parent, k = Judge(scenes.objects, doubt=0.0), os.getppid(), worker
    while time.time() < end and os.getppid() == parent:
        made = layers(scenes, judge, range(skip + k * batch, skip + (k + 1) * batch))
        k += workers
        while time.time() < end and os.getppid() == parent:
            try:
                out.put(made, timeout=1)
                break
            except queue.Full:
                pass
    out.cancel_join_thread()


def spoiled(made: dict[str, np.ndarray], judge: Judge, device: str):
    """Pictures (B, 3, 64, 64) in [−1, 1], the truth of each after what was done to it, and the scores (B,)."""
    batch = {name: torch.from_numpy(z).to(device, non_blocking=True) for name, z in made.items()}
    which = batch.pop("which")
    behind, layer = (
        batch.pop(name).permute(0, 3, 1, 2).float() / 255 for name in ("behind", "layer")
    )
    names = (batch["key"] + 100 * which).clamp(min=0).mul(which).sum(dim=1)
    images, score = spoil.spoil(behind, layer, names, batch.pop("all"))
    key, harmed, gone = batch["key"], score > spoil.MILD, score > spoil.GONE
    here = which & (key >= 0)
    key = torch.where(here & harmed[:, None], -100, key)
    batch["key"] = torch.where(here & gone[:, None], judge.slot_answers["key"].index(UNKNOWN), key)
    for name in ("colour", "size"):
        batch[name] = torch.where(here & harmed[:, None], -100, batch[name])
    batch["style"] = torch.where(harmed, -100, batch["style"])
    return images, batch, score


def save(judge: Judge, folder: Path) -> None:
    """All of it or nothing."""
    judge.save(folder / ".new")
    for name in ("model.safetensors", "config.json"):
        os.replace(folder / ".new" / name, folder / name)
    (folder / ".new").rmdir()


@torch.no_grad()
def check(judge: Judge, tests, device: str) -> str:
    """Shares of pictures that were never trained on: whole ones read right, spoiled ones refused, by score."""
    right, refused, scores = [], [], []
    for images, truth, score in tests:
        logits = judge.eval()(images)
        ok = torch.ones(len(images), dtype=torch.bool, device=device)
        for name, index in truth.items():
            same = (logits[name].argmax(-1) == index) | (index < 0)
            ok &= same if same.ndim == 1 else same.all(dim=1)
        unknown = (logits["key"].argmax(-1) == len(judge.objects)) & (truth["key"] >= 0)
        right.append(ok)
        refused.append(unknown.any(dim=1) | (logits["key"][:, 0].argmax(-1) == len(judge.objects)))
        scores.append(score)
    ok, no, s = torch.cat(right), torch.cat(refused), torch.cat(scores)
    line = [f"whole {ok[s == 0].float().mean():.3f} right, {no[s == 0].float().mean():.3f} refused"]
    edges = (0.0, spoil.MILD, spoil.GONE, 0.7, 1.0, 9.0)
    for low, high in zip(edges[:-1], edges[1:], strict=True):
        inside = (s > low) & (s <= high)
        line.append(f"{low:g}–{high:g} {no[inside].float().mean():.2f}")
    return "; refused by score: ".join((line[0], ", ".join(line[1:])))


def strict(args: argparse.Namespace) -> None:
    begun = time.time()
    end = begun + 60 * args.minutes - args.spare
    # whatever hangs, a driver or a pipe: the process is gone a moment after its time
    watchdog = threading.Timer(60 * args.minutes + 5 - (time.time() - begun), os._exit, (3,))
    watchdog.daemon = True
    watchdog.start()
    device = "cuda" if torch.cuda.is_available() and not args.cpu else "cpu"
    folder = args.out or DATA / "judge" / "strict"
    folder.mkdir(parents=True, exist_ok=True)
    spawn = multiprocessing.get_context("spawn")
    made, workers = spawn.Queue(2 + 2 * args.workers), []
    for k in range(args.workers):
        at = (made, k, args.workers, args.batch, args.skip, end)
        workers.append(spawn.Process(target=work, args=at, daemon=True))
        workers[-1].start()
    scenes = Scenes(64, "all", "whole", length=10**9)
    judge = Judge(scenes.objects, doubt=0.0)
    begin_from(judge, args.start or "whole")
    torch.nn.init.zeros_(judge.key_value_of_detail.weight)  # it begins as it was
    torch.nn.init.constant_(judge.slot_heads["key"].bias[-1:], -2.0)
    if (folder / "model.safetensors").is_file() and args.go_on:
        judge.load_state_dict(load_file(folder / "model.safetensors"))
    judge = judge.float().to(device, memory_format=torch.channels_last)
    print(sum(p.numel() for p in judge.parameters()), "parameters on", device, flush=True)
    optimizers, step, seen = optimizers_of(judge), 0, 0
    other = Scenes(64, "all", "whole", seed=5)
    count = 4 if device == "cpu" else 10
    tests = [
        spoiled(layers(other, judge, range(k * 200, k * 200 + 200)), judge, device)
        for k in range(count)
    ]
    shown = time.time()
    start = time.time()
    while (now := time.time()) < end:
        try:
            batch = made.get(timeout=max(0.1, min(8.0, end - now))) if workers else None
        except queue.Empty:  # the workers are late, or gone
            batch = None
        if batch is None:
            first = args.skip + 10**8 + step * args.batch
            batch = layers(scenes, judge, range(first, first + args.batch))
        images, truth, _ = spoiled(batch, judge, device)
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            logits = judge.train()(images)
        loss = loss_of(logits, truth)
        rate = args.rate * min(1, (step + 1) / 100) * max(0.0, 1 - (now - start) / (end - start))
        update(judge, loss, optimizers, rate)
        step, seen = step + 1, seen + len(images)
        if now - shown > args.every:
            shown = now
            print(f"{now - begun:.0f} s, {seen} scenes, loss {loss.item():.3f}", flush=True)
            print(" ", check(judge, tests, device), flush=True)
            save(judge, folder)
    save(judge, folder)
    print(f"{time.time() - begun:.0f} s, {seen} scenes: {check(judge, tests, device)}", flush=True)
    for worker in workers:
        worker.terminate()
    watchdog.cancel()
    os._exit(0)  # no thread of a queue holds it up


def calibrate(args: argparse.Namespace) -> None:
    """Gives the strict judge in --out the most doubt with which it is right on enough whole pictures.

    They are others than those of joint_accuracy, which reports; no generated picture is looked at.
    """
    folder = args.out or DATA / "judge" / "strict"
    judge = Judge(**json.loads((folder / "config.json").read_text()))
    judge.load_state_dict(load_file(folder / "model.safetensors"))
    judge = judge.float().eval()
    scenes = Scenes(64, "seen", "whole", seed=6)
    items = [scenes[i] for i in range(args.count)]
    images = torch.stack([item.image for item in items]).split(100)
    for doubt in (4.0, 3.0, 2.5, 2.0, 1.5, 1.0, 0.5, 0.0, -0.5, -1.0, -2.0, -3.0):
        judge.doubt = doubt
        read = [scene for some in images for scene in judge.read(some)]
        right = [all(i.asked.asks(s).values()) for i, s in zip(items, read, strict=True)]
        unknown = [any(t.key == UNKNOWN for t in s.things) for s in read]
        print(f"doubt {doubt:g}: {np.mean(right):.2%} right, {np.mean(unknown):.2%} unknown")
        if np.mean(right) >= args.right:
            break
    save(judge, folder)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--vocabulary", default="starter", choices=("starter", "whole"))
    parser.add_argument("--size", type=int, default=64, choices=(16, 64))
    parser.add_argument("--minutes", type=float, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--start", metavar="VOCABULARY", help="from that judge's weights, where they fit"
    )
    parser.add_argument(
        "--rate", type=float, default=1, help="share of the full rate to begin with"
    )
    parser.add_argument("--skip", type=int, default=0, help="scenes that it has seen")
    parser.add_argument("--out", type=Path, help="a folder; default: where the shipped one is")
    parser.add_argument("--strict", action="store_true", help="the judge that may say: unknown")
    parser.add_argument("--workers", type=int, default=0, help="processes that draw (strict)")
    parser.add_argument("--batch", type=int, default=384, help="pictures a step (strict)")
    parser.add_argument("--every", type=float, default=20, help="seconds to a checkpoint (strict)")
    parser.add_argument("--spare", type=float, default=4, help="seconds kept for the end (strict)")
    parser.add_argument("--go-on", action="store_true", help="from the weights in --out (strict)")
    parser.add_argument("--calibrate", action="store_true", help="only set the doubt of --out")
    parser.add_argument("--count", type=int, default=2000, help="pictures to calibrate on")
    parser.add_argument("--right", type=float, default=0.984, help="their share (calibrate)")
    parser.add_argument("--cpu", action="store_true", help="not on a GPU (strict)")
    return parser.parse_args()


if __name__ == "__main__":
    args = parse()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    random.seed(0)
    (calibrate if args.calibrate else strict if args.strict else plain)(args)
