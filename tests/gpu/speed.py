"""Images a second of `minimagen train` on this GPU, stage by stage, and where a step's time goes.

    python tests/gpu/speed.py --seconds 10 --out speed.json

Beside what trained the shipped weights on an H100 (data/cascade/README.md). It takes about two minutes, most of it
compiling. Without a GPU it says so; --rehearse runs it on a CPU with a batch of 4, so that it can be tried.
Measured: steps with all that belongs to them, once they are captured; then one launch under torch.profiler, and the
time of its kernels by class.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from minimagen.config import GPU_SETTINGS, STAGES, TrainConfig
from minimagen.stage import SHIPPED, Stage
from minimagen.training.accelerator import make_accelerator
from minimagen.training.graph import WARM_UP
from minimagen.training.loop import StepResult
from minimagen.training.pool import Pool
from minimagen.training.run import TrainRequest, data_of, default_precision, is_pooled, pool_of
from minimagen.training.step import Step

SHIPPED_RATES = {"base": 14_000, "sr64": 13_300, "sr256": 19_700}  # images a second on an H100
CLASSES = {  # of kernels, by what their names hold; the first that fits
    "attention": ("fmha", "flash", "attention", "softmax"),
    "convolution": ("conv", "fprop", "dgrad", "wgrad", "implicit", "cudnn"),
    "matrix product": ("gemm", "cutlass", "cublas", "_mm", "bmm"),
    "normalisation": ("norm", "welford"),
    "optimizer and average": ("multi_tensor", "adam", "foreach", "lerp"),
    "random numbers": ("philox", "distribution", "rand"),
    "copies and indexing": ("memcpy", "memset", "copy", "index", "gather", "cat"),
    "reductions": ("reduce", "_red_"),
    "pointwise, compiled": ("triton_poi",),
    "compiled, other": ("triton",),
    "pointwise": ("elementwise",),
}


def class_of(name: str) -> str:
    low = name.lower()
    return next((k for k, signs in CLASSES.items() if any(s in low for s in signs)), "other")


def profiled(work: Any, cuda: bool) -> list[tuple[str, float, int]]:
    """Class, milliseconds and number of the kernels of one call, the longest first."""
    from torch.profiler import ProfilerActivity, profile

    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    with profile(activities=kinds) as seen:
        work()
        if cuda:
            torch.cuda.synchronize()
    spent: dict[str, list[float]] = defaultdict(lambda: [0.0, 0])
    for event in seen.key_averages():
        us = getattr(event, "self_device_time_total", 0) if cuda else event.self_cpu_time_total
        if us > 0:
            spent[class_of(event.key)][0] += us / 1000
            spent[class_of(event.key)][1] += event.count
    return sorted(((k, ms, n) for k, (ms, n) in spent.items()), key=lambda row: -row[1])


def measure(name: str, seconds: float, batch: int | None, cuda: bool) -> dict[str, Any]:
    device = "cuda" if cuda else "cpu"
    settings = {**GPU_SETTINGS[name], **({"batch": batch} if batch else {}), "steps": 10**6}
    config = TrainConfig(**settings)
    accelerator = make_accelerator(not cuda, default_precision(device))
    begun = time.monotonic()
    stage = Stage(replace(SHIPPED[name], vocabulary="whole")).train()
    request = TrainRequest(name, Path(), device=device)
    pooled = is_pooled(accelerator)
    dataset, encoder = data_of(request, stage.config, {}, accelerator, pooled)
    if pooled:
        pool = pool_of(dataset, encoder, name, config, accelerator)
    else:
        pool = Pool(dataset, encoder, accelerator.device, 8 * config.batch)
    step = Step(stage, config, accelerator, pool)
    step.begin(0)
    for n in range(WARM_UP + 3):
        StepResult(step(n, 1.0)).read()
    ready, made, count, readings = time.monotonic(), pool.made, n + 1, []
    while time.monotonic() - ready < seconds:
        readings.append(StepResult(step(count, 1.0)))
        if len(readings) > 2:
            loss, _ = readings.pop(0).read()
        count += 1
    for reading in readings:
        loss, _ = reading.read()
    spent, steps = time.monotonic() - ready, count - n - 1
    launched = step.launch
    row = {
        "stage": name,
        "batch": config.batch,
        "images_per_second": round(steps * config.batch / spent, 1),
        "ms_a_step": round(1000 * spent / steps, 2),
        "new_images_per_second": round((pool.made - made) / spent, 1),
        "set_up_seconds": round(ready - begun, 1),
        "loss": round(loss, 4),
        "captured": getattr(launched, "graph", None) is not None,
        "compiled": step.network is not None,
        "peak_gib": round(torch.cuda.max_memory_allocated() / 2**30, 2) if cuda else None,
        "kernels": profiled(launched, cuda),
    }
    pool.close()
    return row


def show(row: dict[str, Any]) -> None:
    name, rate = row["stage"], row["images_per_second"]
    print(
        f"\n{name}: {rate:,.0f} images/s, {rate / SHIPPED_RATES[name]:.2f} of what trained the shipped weights; "
        f"batch {row['batch']}, {row['ms_a_step']} ms a step, captured: {row['captured']}, compiled: "
        f"{row['compiled']}, {row['new_images_per_second']:,.0f} new images/s, ready in {row['set_up_seconds']} s"
    )
    total = sum(ms for _, ms, _ in row["kernels"])
    print("| kernels | ms | share | number |\n| --- | --- | --- | --- |")
    for kind, ms, number in row["kernels"]:
        print(f"| {kind} | {ms:.2f} | {ms / total:.0%} | {number} |")
    print(f"| all | {total:.2f} | of a step {total / row['ms_a_step']:.0%} | |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10.0, help="of measuring, for each stage")
    parser.add_argument("--stages", default=",".join(STAGES))
    parser.add_argument("--batch", type=int, help="another one")
    parser.add_argument("--rehearse", action="store_true", help="on a CPU, with a batch of 4")
    parser.add_argument("--out", type=Path, help="also write the rows as JSON")
    args = parser.parse_args()
    cuda = torch.cuda.is_available() and not args.rehearse
    if not cuda and not args.rehearse:
        sys.exit("there is no GPU here: --rehearse tries the script on a CPU")
    if not cuda:
        args.batch, args.seconds = 4, 0.1
    about = {"device": torch.cuda.get_device_name() if cuda else "cpu", "torch": torch.__version__}
    print(*about.values())
    rows = []
    for name in args.stages.split(","):
        rows.append(measure(name, args.seconds, args.batch, cuda))
        show(rows[-1])
        if args.out:
            args.out.write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
