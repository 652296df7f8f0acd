"""Distil the base into a student of two steps.

    python data/build/student.py                 # trains it
    python data/build/student.py --measure 200   # writes scores.json beside it

First the teacher draws: captions of its training, 8 steps of DPM-Solver++ with guidance 4; kept are the noise,
where it stood halfway, and where it ended. Then adapters beside the base's layers learn to land there in two steps
without guidance. The second step starts more and more often from where the first one landed, and not from the
teacher's halfway: that is what it will do later. Seconds are of one core's time.
"""

import argparse
import json
import math
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from minimagen import Imagen, Scenes
from minimagen.course.distilled import FOLDER, RANK, adapted, load, save, two_steps
from minimagen.diffusion import alpha_sigma
from minimagen.evaluation.alignment import wilson
from minimagen.evaluation.judge import Judge
from minimagen.evaluation.suites import suite
from minimagen.randomness import seeded_noise
from minimagen.samplers import dpm_solver, times
from minimagen.stage import Stage

BATCH, STEPS, GUIDANCE = 16, 8, 4.0
Batch = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]  # text, mask, noise, halfway, end


def log(*words: object) -> None:
    print(time.strftime("%H:%M:%S"), *words, flush=True)


@torch.no_grad()
def drawn(imagen: Imagen, seconds: float) -> list[Batch]:
    """Batches of what the teacher draws in this time."""
    base, begun, made = imagen.stage("base"), time.process_time(), []
    scenes = Scenes(16, "train", "whole", pairs=0.55, styled=0.8, starter=0.2)
    while not made or time.process_time() - begun < seconds:
        first = 10**6 + BATCH * len(made)
        captions = [scenes.describe(first + k)[2] for k in range(BATCH)]
        text, mask = imagen.text_encoder(captions)
        noise = seeded_noise(range(first, first + BATCH), (3, 16, 16), 0)
        along: list[Tensor] = []
        end = dpm_solver(
            base.denoiser(text, mask, guidance=GUIDANCE),
            noise,
            base.schedule,
            times(STEPS),
            callback=lambda i, x_s, x_0, along=along: along.append(x_s),
        )
        made.append((text.half(), mask, noise, along[STEPS // 2 - 1], end.clamp(-1, 1)))
        if len(made) % 10 == 0:
            log(f"{BATCH * len(made)} pictures by the teacher")
    return made


@torch.no_grad()
def share_right(imagen: Imagen, student: nn.Module, count: int = 48) -> float:
    """Of prompts of the starter set, the share that the student draws right in two steps, at 16×16."""
    prompts = suite("seen", "starter", count, seed=7)
    text, mask = imagen.text_encoder([p.text for p in prompts])
    levels = imagen.stage("base").schedule(torch.tensor([1.0, 0.5]))
    end = two_steps(student, imagen.noise(range(count), "base")[0], text, mask, levels)[-1]
    read = Judge.load("starter", 16).read(end.clamp(-1, 1))
    return sum(all(p.asked.asks(s).values()) for p, s in zip(prompts, read, strict=True)) / count


def rate_at(u: float, step: int) -> float:
    """The factor of the learning rate: 10 steps of warm-up, and from 30 % of the time a cosine down to 0."""
    return min(1, (step + 1) / 10) * (
        1 if u < 0.3 else (1 + math.cos(math.pi * (u - 0.3) / 0.7)) / 2
    )


def train(imagen: Imagen, batches: list[Batch], seconds: float, rate: float, out: Path) -> None:
    base: Stage = imagen.stage("base")
    torch.manual_seed(0)
    student = adapted(base.unet).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    learning = {name: p for name, p in student.named_parameters() if p.requires_grad}
    log(
        f"rank {RANK}: {sum(p.numel() for p in learning.values())} weights, right {share_right(imagen, student)}"
    )
    optimizer = torch.optim.AdamW(learning.values(), rate, betas=(0.9, 0.98), weight_decay=0.0)
    levels = base.schedule(torch.tensor([1.0, 0.5]))
    (a_t, a_s), (s_t, s_s) = alpha_sigma(levels)
    ratio, generator = s_s / s_t, torch.Generator().manual_seed(0)
    begun = saved = time.process_time()
    order: list[int] = []
    means, step = [0.0, 0.0], 0
    while (u := (time.process_time() - begun) / seconds) < 1:
        order = order or torch.randperm(len(batches), generator=generator).tolist()
        text, mask, noise, half, end = batches[order.pop()]
        optimizer.param_groups[0]["lr"] = rate * rate_at(u, step)
        target = (half - ratio * noise) / (a_s - ratio * a_t)  # where the first step must land
        given = torch.rand(len(noise), 1, 1, 1, generator=generator) >= min(0.75, 1.5 * u)
        first, _, last = two_steps(student, noise, text.float(), mask, levels, half, given)
        losses = (first - target).square().mean(), (last - end).square().mean()
        optimizer.zero_grad()
        sum(losses).backward()  # type: ignore[union-attr]
        nn.utils.clip_grad_norm_(learning.values(), 1.0)
        optimizer.step()
        step += 1
        means = [0.95 * m + 0.05 * loss.item() for m, loss in zip(means, losses, strict=True)]
        if time.process_time() - saved > 25:
            saved = time.process_time()
            save({name: p.detach() for name, p in learning.items()}, out)
            shown = [round(m / (1 - 0.95**step), 4) for m in means]
            log(
                f"step {step}, {100 * u:.0f} %: losses {shown}, right {share_right(imagen, student):.3f}"
            )
    save({name: p.detach() for name, p in learning.items()}, out)
    log(f"{step} steps, right {share_right(imagen, student):.3f}")


WAYS = {  # name → who draws, steps, guidance, sampler
    "teacher, 20 steps": ("teacher", 20, GUIDANCE, "dpm_solver"),
    "teacher, 2 steps": ("teacher", 2, GUIDANCE, "ddim"),
    "teacher, 2 steps, no guidance": ("teacher", 2, 1.0, "ddim"),
    "student, 2 steps": ("student", 2, 1.0, "ddim"),
}


@torch.no_grad()
def measure(
    imagen: Imagen, folder: Path, count: int, seed: int = 1
) -> dict[str, dict[str, object]]:
    """Alignment by both judges, at 64×64 after four steps of sr64, of `count` prompts of everything."""
    who = {"teacher": imagen.stage("base"), "student": load(imagen.stage("base"), folder)}
    sr64, judges = imagen.stage("sr64"), {n: Judge.load(n) for n in ("whole", "strict")}
    prompts, rows = suite("seen", "whole", count, seed=seed), {}
    drawn: dict[str, Tensor] = {}
    for name, (artist, steps, guidance, sampler) in WAYS.items():
        hits: dict[str, list[bool]] = {n: [] for n in judges}
        parts: list[Tensor] = []
        spent = 0.0
        for first in range(0, count, 25):
            some = prompts[first : first + 25]
            seeds = range(first, first + len(some))
            text, mask = imagen.text_encoder([p.text for p in some])
            begun = time.process_time()
            small = who[artist].sample(
                imagen.noise(seeds, "base")[0],
                text,
                mask,
                steps=steps,
                guidance=guidance,
                sampler=sampler,
            )
            spent += time.process_time() - begun
            parts.append(small)
            noise, low = imagen.noise(seeds, "sr64")
            large = sr64.sample(noise, text, mask, small, low, guidance=2.0, steps=4)
            for n, judge in judges.items():
                read = judge.read(large)
                hits[n] += [all(p.asked.asks(z).values()) for p, z in zip(some, read, strict=True)]
        drawn[name] = torch.cat(parts)
        away = (drawn[name] - drawn["teacher, 20 steps"]).square().mean().sqrt().item()
        rows[name] = {n: round(sum(h) / count, 4) for n, h in hits.items()}
        rows[name] |= {
            f"{n}_interval": [round(z, 4) for z in wilson(sum(h), count)] for n, h in hits.items()
        }
        rows[name] |= {"away": round(away, 4), "seconds": round(spent / count, 4)}
        log(name, rows[name])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--teacher", type=float, default=55, help="seconds that the teacher draws")
    parser.add_argument("--seconds", type=float, default=90, help="seconds of training")
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--out", type=Path, default=FOLDER)
    parser.add_argument(
        "--measure", type=int, metavar="N", help="measure on N prompts; train nothing"
    )
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.measure:
        rows = measure(
            Imagen.from_pretrained(stages=("base", "sr64")).eval(), args.out, args.measure
        )
        facts = {"suite": "seen, whole", "samples": args.measure, "rows": rows}
        (args.out / "scores.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
        return
    imagen = Imagen.from_pretrained(stages=("base",)).eval()
    batches = drawn(imagen, args.teacher)
    train(imagen, batches, args.seconds, args.rate, args.out)


if __name__ == "__main__":
    main()
