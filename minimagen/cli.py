"""The command line: minimagen draw, train, evaluate, doctor.

A mistake gets one line on stderr that says what is wrong and what to do, and exit status 2.
"""

from __future__ import annotations

import argparse
import errno
import json
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    import torch

    from .imagen import Imagen

STAGES = ("base", "sr64", "sr256")
# torch has no type of its own for a CPU's memory, nor for a worker's that the system has killed
NO_MEMORY = "memoryerror", "out of memory", "allocate memory", "shared memory", "worker (pid"


class Mistake(Exception):
    """Something that the person at the keyboard can put right; its text is the sentence they see."""


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise Mistake(f"{message[0].lower()}{message[1:]}: see {self.prog} --help")


def number(kind: type, low: float, high: float) -> Callable[[str], float]:
    """A number between two bounds, or a sentence that names them."""

    def parse(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:  # nan is not
            what = "a whole number" if kind is int else "a number"
            raise argparse.ArgumentTypeError(f"{text!r} is not {what} from {low:g} to {high:g}")
        return value

    return parse


def parser() -> Parser:
    main = Parser(prog="minimagen", description="Imagen from scratch.")
    commands = main.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)

    draw = commands.add_parser("draw", help="draw a picture of each prompt")
    draw.add_argument("prompts", nargs="*", metavar="PROMPT")
    draw.add_argument("--out", default="out.png", help="the PNG to write (default: out.png)")
    draw.add_argument("--count", type=number(int, 1, 64), default=1, help="pictures a prompt")

    train = commands.add_parser("train", help="train a stage of the cascade")
    train.add_argument("stage", metavar="base|sr64|sr256")
    train.add_argument("--out", required=True, help="the folder of the run")
    start = train.add_mutually_exclusive_group()
    start.add_argument("--resume", action="store_true", help="go on where the run in --out stopped")
    start.add_argument("--from", dest="origin", metavar="DIR", help="start from another's weights")
    train.add_argument("--data", metavar="FOLDER", help="your own pictures, with metadata.jsonl")
    length = train.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=number(float, 0.01, 1e6), help="of the whole run")
    length.add_argument("--steps", type=number(int, 1, 1e9))
    train.add_argument("--vocabulary", choices=("starter", "whole"), help="default: starter")
    share = number(float, 0, 1)
    train.add_argument("--pairs", type=share, help="of scenes with two kinds (default: 0.45)")
    train.add_argument("--styled", type=share, help="of captions with a style (default: 0.55)")
    train.add_argument("--starter", type=share, help="of starter scenes in the whole vocabulary")
    train.add_argument("--captions", dest="version", type=int, choices=(1, 2), help="default: 2")
    train.add_argument("--batch", type=number(int, 1, 65536), help="pictures (default: 48)")
    train.add_argument("--lr", type=number(float, 1e-7, 1), help="of AdamW (default: 0.002)")
    train.add_argument("--muon-lr", type=number(float, 0, 1), help="of Muon; 0: AdamW only")
    train.add_argument(
        "--decay",
        dest="decay_fraction",
        type=number(float, 0.01, 1),
        help="last share (default: 0.35)",
    )
    train.add_argument("--text-noise", type=number(float, 0, 10), help="σ of noise on token states")
    train.add_argument(
        "--accumulate", dest="grad_accum_steps", type=number(int, 1, 1023), help="parts of a batch"
    )
    train.add_argument("--precision", choices=("fp32", "bf16", "fp16"), help="default: fp32")
    train.add_argument("--workers", type=number(int, 0, 1024), default=0, help="that make batches")
    train.add_argument("--checkpoint-minutes", type=number(float, 0, 1e6), help="default: 3")
    train.add_argument("--previews", type=number(int, 0, 64), default=8, help="at each checkpoint")

    evaluate = commands.add_parser("evaluate", help="how well do pictures follow their words?")
    evaluate.add_argument(
        "--suite", default="seen", help="or heldout, words, chinese, drawbench, everyday"
    )
    evaluate.add_argument("--samples", type=number(int, 1, 100_000), default=200)
    evaluate.add_argument("--size", type=int, choices=(64, 256), default=64)
    evaluate.add_argument("--vocabulary", choices=("starter", "whole"))

    doctor = commands.add_parser("doctor", help="why is there only noise? find the usual causes")
    doctor.add_argument("path", nargs="?", metavar="PATH", help="a model, a run or pictures")

    for command in (draw, evaluate):
        command.add_argument("--guidance", type=number(float, 0, 50), default=4.0, help="1 is none")
        command.add_argument("--steps", type=number(int, 1, 1000), default=20, help="of the base")
        command.add_argument("--model", metavar="DIR", help="a cascade (default: the shipped one)")
        command.add_argument("--json", action="store_true", help="one JSON object on stdout")
    for command, seed in ((draw, 0), (train, None), (evaluate, 0)):
        # larger ones would begin again with the noise of small ones
        command.add_argument("--seed", type=number(int, 0, 5e8), default=seed, help="of chance")
        command.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    return main


def main(arguments: Sequence[str] | None = None) -> int:
    for variable in ("HF_HUB_DISABLE_PROGRESS_BARS", "TRANSFORMERS_NO_ADVISORY_WARNINGS"):
        os.environ.setdefault(variable, "1")
    for stream in (sys.stdout, sys.stderr):  # in a pipe, Windows' own encoding has no 猫
        getattr(stream, "reconfigure", dict)(encoding="utf-8")
    try:
        args = parser().parse_args(arguments)
        if args.command is None:
            raise Mistake("say what to do: draw, train, evaluate or doctor (see minimagen --help)")
        run = {"draw": draw, "train": train, "evaluate": evaluate, "doctor": doctor}[args.command]
        return run(args) or 0
    except (Mistake, ValueError, FloatingPointError, OSError, RuntimeError, MemoryError) as mistake:
        if isinstance(mistake, RuntimeError | MemoryError):
            if not any(sign in repr(mistake).lower() for sign in NO_MEMORY):
                raise
            mistake = Mistake("out of memory: close other programs, or train with --accumulate 4")
        advice = ": make room, then go on" * (getattr(mistake, "errno", 0) == errno.ENOSPC)
        print(f"minimagen: {' '.join(str(mistake).split())}{advice}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("minimagen: interrupted", file=sys.stderr)
        return 130


def draw(args: argparse.Namespace) -> None:
    prompts = [" ".join(p.split()) for p in args.prompts]
    if not prompts:
        raise Mistake('no prompt: say what to draw, like minimagen draw "a cat on the grass"')
    if not all(prompts):
        raise Mistake("a prompt is empty: say what to draw")
    if any(not p.isprintable() for p in prompts):
        raise Mistake("a prompt holds characters that are no text: type it again")
    from .images import grid, save_png, writable
    from .text import MAX_TOKENS

    out = writable(args.out)
    imagen, device = load(args)
    for prompt in prompts:
        if not imagen.text_encoder.knows(prompt):
            raise Mistake(f"the text encoder knows nothing in {prompt!r}: use English or Chinese")
        if strange := imagen.text_encoder.unknown(prompt):
            print(f"minimagen: warning: never met {', '.join(map(repr, strange))}", file=sys.stderr)
        if len(imagen.text_encoder.tokenizer(prompt)["input_ids"]) > MAX_TOKENS:
            print(f"minimagen: warning: too long: {prompt[:20]!r}… is cut", file=sys.stderr)

    from tqdm import tqdm

    from .images import to_pil

    model, pictures = str(args.model or "data/cascade"), []
    jobs: list[dict] = [
        {"prompt": prompt, "seed": args.seed + i} for prompt in prompts for i in range(args.count)
    ]
    passes = args.steps + sum(imagen.stage(n).config.steps for n in imagen.stages if n != "base")
    with tqdm(total=passes * len(jobs), desc="drawing", unit="step", file=sys.stderr) as bar:
        for first in range(0, len(jobs), 4):
            some, began = jobs[first : first + 4], time.perf_counter()
            made = imagen.generate(
                [job["prompt"] for job in some],
                [job["seed"] for job in some],
                args.guidance,
                args.steps,
                callback=lambda stage, step, x_t, x_0: bar.update(len(x_0)),
            )
            seconds = round((time.perf_counter() - began) / len(some), 2)
            for job, picture in zip(some, to_pil(list(made.values())[-1]), strict=True):
                pictures.append(picture)
                path = out if len(jobs) == 1 else out.with_stem(f"{out.stem}-{len(pictures) - 1}")
                if len(jobs) == 1 or args.json:  # at once: who stops later keeps what is drawn
                    save_png(picture, path, job["prompt"], job["seed"], model)
                job |= {"path": str(path), "size": picture.width, "seconds": seconds}
    if len(jobs) > 1:
        seeds = f"{args.seed} to {args.seed + args.count - 1}" if args.count > 1 else args.seed
        sheet = grid(pictures, args.count if args.count > 1 else None)
        save_png(sheet, out, " | ".join(prompts), seeds, model)
    report = {"images": jobs, "device": device, "model": model}
    print(json.dumps(report, ensure_ascii=False) if args.json else out)


def device_of(name: str) -> str:
    import torch

    there = ["cuda"] * torch.cuda.is_available() + ["mps"] * torch.backends.mps.is_available()
    there += ["cpu"]
    if name not in ("auto", *there):
        raise Mistake(f"--device {name} is not here: use {', '.join(there)}")
    return there[0] if name == "auto" else name


def load(args: argparse.Namespace, stages: Sequence[str] = STAGES) -> tuple[Imagen, str]:
    device = device_of(args.device)
    if (name := args.model) is not None and not os.path.isdir(name):
        if os.path.exists(name) or name.count("/") != 1:  # owner/name may be on the hub
            raise Mistake(f"--model {name!r} is no folder: give one that holds base/ sr64/ sr256/")
    from .assets import CASCADE
    from .imagen import Imagen

    imagen = Imagen.from_pretrained(CASCADE if args.model is None else args.model, stages=stages)
    return imagen.to(device).eval(), device


def train(args: argparse.Namespace) -> None:
    if args.stage not in STAGES:
        raise Mistake(f"there is no stage called {args.stage!r}: it is {', '.join(STAGES)}")
    out = Path(args.out)
    resumed = args.resume and (out / "state.safetensors").exists()
    if args.minutes is None and args.steps is None and not resumed:
        raise Mistake("say how long to train: --minutes M or --steps N")
    if not args.out or (out.exists() and not out.is_dir()):
        raise Mistake(f"--out {args.out!r} is no folder: give one for the run")
    if any((out / name).exists() for name in ("config.json", "model.safetensors")) and not resumed:
        raise Mistake(f"{out} holds a model: go on from it with --from {out} and another --out")
    device = device_of(args.device)
    if args.resume and not resumed:
        print(f"minimagen: {out} holds no run: a new one begins", file=sys.stderr)
    from .training.run import train as run

    run(args, device, resumed)


def evaluate(args: argparse.Namespace) -> None:
    from .evaluation.alignment import evaluate as score
    from .evaluation.suites import SUITES

    if args.suite not in SUITES:
        raise Mistake(f"there is no suite called {args.suite!r}: it is {', '.join(SUITES)}")
    imagen, device = load(args, STAGES[: 2 if args.size == 64 else 3])
    vocabulary = args.vocabulary or imagen.vocabulary

    def sample(prompts: Sequence[str], first: int) -> torch.Tensor:
        seeds = [args.seed + first + i for i in range(len(prompts))]
        return list(imagen.generate(prompts, seeds, args.guidance, args.steps).values())[-1]

    from tqdm import tqdm

    with tqdm(total=args.samples, desc=args.suite, unit="picture", file=sys.stderr) as bar:
        report = score(sample, args.suite, args.samples, vocabulary, args.size, progress=bar.update)
    if args.json:
        print(json.dumps(report))
        return
    low, high = report["interval"]
    print(f"{args.suite}: {report['alignment']:.1%} aligned ({low:.1%} to {high:.1%}, {device})")
    print(f"judge right on real pictures: {report['judge_joint_accuracy']:.1%}")
    if "alignment_strict" in report:
        low, high = report["interval_strict"]
        print(f"by the strict judge: {report['alignment_strict']:.1%} ({low:.1%} to {high:.1%})")
        print(f"strict judge right on real pictures: {report['strict_joint_accuracy']:.1%}")
    for name, share in report["by_category"].items():
        print(f"  {name:17} {share:.1%}")


def doctor(args: argparse.Namespace) -> int:
    from .doctor import examine

    found = examine(args.path)
    for finding in found or ["nothing of the usual is wrong here"]:
        print(finding)
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
