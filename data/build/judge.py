"""Train the judge on real scenes: python data/build/judge.py --vocabulary starter --minutes 8

It learns from the split "all" (every combination, so that held-out ones are judged fairly), English and
Chinese captions play no part, and it never sees a generated picture.
"""

import argparse
import time

import torch

from minimagen.evaluation import Judge, joint_accuracy
from minimagen.grammar import DATA
from minimagen.scenes import Scenes

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--vocabulary", default="starter", choices=("starter", "whole"))
parser.add_argument("--minutes", type=float, default=8)
parser.add_argument("--size", type=int, default=64, choices=(16, 64))
parser.add_argument("--width", type=int, default=32)
parser.add_argument("--threads", type=int, default=2)
args = parser.parse_args()
torch.set_num_threads(args.threads)
torch.manual_seed(0)
scenes = Scenes(args.size, "all", args.vocabulary)
judge = Judge(scenes.objects, args.size, args.width).to(memory_format=torch.channels_last)
print(sum(p.numel() for p in judge.parameters()), "parameters", flush=True)
optimizer = torch.optim.AdamW(judge.parameters(), lr=2e-3, weight_decay=0.01)
start, batch, step = time.monotonic(), 96, 0
while (spent := (time.monotonic() - start) / 60 / args.minutes) < 1:
    for group in optimizer.param_groups:
        group["lr"] = 2e-3 * min(1, step / 200) * (1 if spent < 0.5 else 2 * (1 - spent) + 1e-3)
    items = [scenes[i] for i in range(step * batch, (step + 1) * batch)]
    images = torch.stack([item.image for item in items])
    images = images + torch.randn_like(images) * 0.05 * torch.rand(batch, 1, 1, 1)
    loss = judge.train().loss(images, [item.scene for item in items])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    step += 1
    if step % 200 == 0:
        accuracy = joint_accuracy(judge, args.vocabulary, args.size, 300)
        print(f"{spent * args.minutes:.1f} min, {step * batch} scenes, {accuracy:.3f}", flush=True)
judge.save(
    DATA / "judge" / (args.vocabulary if args.size == 64 else f"{args.vocabulary}{args.size}")
)
judge = Judge.load(args.vocabulary, args.size)
sizes = (64, 256) if args.size == 64 else (16,)
print({size: joint_accuracy(judge, args.vocabulary, size) for size in sizes})
