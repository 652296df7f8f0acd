"""Train the judge on real scenes: python data/build/judge.py --vocabulary starter --minutes 8

It learns from the split "all" (every combination, so that held-out ones are judged fairly). Captions play no
part, and it never sees a generated picture.
"""

import argparse
import time
from pathlib import Path

import torch
import torch.nn.functional as F

from minimagen.artwork import TIMELESS
from minimagen.evaluation import Judge, joint_accuracy
from minimagen.grammar import DATA, Scene
from minimagen.optimizers import Muon
from minimagen.scenes import Scenes


def loss_of(judge: Judge, images: torch.Tensor, scenes: list[Scene]) -> torch.Tensor:
    """Sum of the cross-entropies of every attribute that can be seen; empty slots do not count.

    Not seen is the time of day in a place that has none, and the style of things that are all tinted.
    """
    logits, total = judge(images), images.new_zeros(())
    truth: dict[str, list] = {
        "layout": [(len(s.things), s.arrangement) for s in scenes],
        "style": [None if all(t.colour for t in s.things) else s.style for s in scenes],
        "place": [s.place for s in scenes],
        "time": [None if s.place in TIMELESS else s.time for s in scenes],
    }
    for name, answers in judge.answers.items():
        index = torch.tensor([-100 if v is None else answers.index(v) for v in truth[name]])
        total = total + F.cross_entropy(logits[name], index)
    for name, answers in judge.slot_answers.items():
        index = torch.full((len(scenes), 3), -100)
        for i, scene in enumerate(scenes):
            for k, thing in enumerate(scene.things):
                index[i, k] = answers.index(getattr(thing, name))
        total = total + F.cross_entropy(logits[name].flatten(0, 1), index.flatten())
    return total


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--vocabulary", default="starter", choices=("starter", "whole"))
parser.add_argument("--size", type=int, default=64, choices=(16, 64))
parser.add_argument("--minutes", type=float, default=8)
parser.add_argument("--threads", type=int, default=2)
parser.add_argument(
    "--start", metavar="VOCABULARY", help="from that judge's weights, where they fit"
)
parser.add_argument("--rate", type=float, default=1, help="share of the full rate to begin with")
parser.add_argument("--skip", type=int, default=0, help="scenes that it has seen")
parser.add_argument("--out", type=Path, help="a folder; default: where the shipped one is")
args = parser.parse_args()
torch.set_num_threads(args.threads)
torch.manual_seed(0)
scenes = Scenes(args.size, "all", args.vocabulary, length=10**9)
judge = Judge(scenes.objects, args.size).to(memory_format=torch.channels_last)
if args.start:
    start = Judge.load(args.start, args.size)
    own, other, judge.looks = judge.state_dict(), start.state_dict(), start.looks
    judge.load_state_dict({k: other[k] if other[k].shape == v.shape else v for k, v in own.items()})
print(sum(p.numel() for p in judge.parameters()), "parameters", flush=True)
matrices, rest = [], []
for name, p in judge.named_parameters():
    outer = name.startswith(("trunk.0.", "position", "heads", "slot_heads"))
    (rest if outer or p.ndim < 2 else matrices).append(p)
optimizers = (
    (Muon(matrices, 0.02), 0.02),
    (torch.optim.AdamW(rest, 2e-3, weight_decay=0.01), 2e-3),
)
name = args.vocabulary if args.size == 64 else f"{args.vocabulary}{args.size}"
folder = args.out or DATA / "judge" / name
begun, batch, step = time.monotonic(), 96, 0
while (spent := (time.monotonic() - begun) / 60 / args.minutes) < 1:
    rate = args.rate * min(1, (step + 1) / 100) * (1 - spent)
    first = args.skip + step * batch
    items = [scenes[i] for i in range(first, first + batch)]
    images = torch.stack([item.image for item in items])
    images = images + torch.randn_like(images) * 0.05 * torch.rand(batch, 1, 1, 1)
    loss = loss_of(judge.train(), images, [item.scene for item in items])
    judge.zero_grad()
    loss.backward()
    for optimizer, lr in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = lr * rate
        optimizer.step()
    step += 1
    if step % 400 == 0:
        accuracy = joint_accuracy(judge, args.vocabulary, args.size, 300)
        print(f"{spent * args.minutes:.1f} min, {step * batch} scenes, {accuracy:.3f}", flush=True)
        judge.save(folder)
judge.save(folder)
sizes = (64, 256) if args.size == 64 else (16,)
print({size: joint_accuracy(judge, args.vocabulary, size) for size in sizes})
