"""The command line: minimagen draw, train, evaluate, doctor.

A mistake gets one line on stderr that says what is wrong and what to do, and exit status 2.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import io
import json
import math
import os
import re
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from .errors import TextWarning, UserError

if TYPE_CHECKING:
    import torch

    from .imagen import Imagen

STAGES = ("base", "sr64", "sr256")
# torch has no type of its own for a CPU's memory
NO_MEMORY = "memoryerror", "out of memory", "allocate memory", "shared memory"


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message[0].lower()}{message[1:]}: see {self.prog} --help")


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


def version() -> str:
    """The version of the package that is installed."""
    with contextlib.suppress(metadata.PackageNotFoundError):
        return metadata.version("minimagen-course")
    return "(not installed)"


def parser() -> Parser:
    """The command line's arguments."""
    main = Parser(prog="minimagen", description="Imagen from scratch.")
    main.add_argument("--version", action="version", version=f"minimagen {version()}")
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


class Interrupts:
    """What Ctrl-C does, while the block runs.

    As long as libraries load, it ends the process at once: nothing is half done, and inside an import an exception
    may become another one, or be lost. After `loaded` it is a KeyboardInterrupt, and `seen` tells that it came.
    """

    def __init__(self) -> None:
        self.seen = False
        self.process = os.getpid()

    def __enter__(self) -> Interrupts:
        if self.possible():
            self.before = signal.signal(signal.SIGINT, self.end)
        return self

    def __exit__(self, *_: object) -> None:
        if self.possible():
            signal.signal(signal.SIGINT, self.before)

    @staticmethod
    def possible() -> bool:
        return threading.current_thread() is threading.main_thread()

    def loaded(self) -> None:
        """From now on there is work that can be stopped properly."""
        if self.possible():
            signal.signal(signal.SIGINT, self.note)

    def end(self, *_: object) -> None:
        if os.getpid() == self.process:  # and not a worker
            with contextlib.suppress(OSError):
                os.write(2, b"minimagen: interrupted\n")
        os._exit(130)

    def note(self, *_: object) -> None:
        self.seen = True
        raise KeyboardInterrupt


interrupts = Interrupts()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit status. Of the user's mistakes one sentence is printed, no traceback."""
    global interrupts
    for variable in ("HF_HUB_DISABLE_PROGRESS_BARS", "TRANSFORMERS_NO_ADVISORY_WARNINGS"):
        os.environ.setdefault(variable, "1")
    # in a pipe, Windows' own encoding has no 猫; and a path may hold bytes that are no UTF-8
    for stream, errors in ((sys.stdout, "surrogateescape"), (sys.stderr, "backslashreplace")):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors=errors)
    warnings.filterwarnings("ignore", category=TextWarning)  # draw says it in its own way
    with Interrupts() as interrupts:
        try:
            args = parser().parse_args(arguments)
            if args.command is None:
                raise UserError(
                    "say what to do: draw, train, evaluate or doctor (see minimagen --help)"
                )
            commands = {"draw": draw, "train": train, "evaluate": evaluate, "doctor": doctor}
            return commands[args.command](args) or 0
        except SystemExit:  # of --help
            raise
        except BaseException as error:
            if os.environ.get("MINIMAGEN_DEBUG") == "1":
                raise
            if interrupts.seen or isinstance(error, KeyboardInterrupt):
                complain("interrupted")
                return 130
            if (sentence := sentence_of(error)) is None:
                raise
            complain(sentence)
            return 2


def sentence_of(error: BaseException) -> str | None:
    """What to tell the user of an error that they can put right; None: it is a mistake of ours."""
    if isinstance(error, ValueError | FloatingPointError):
        return str(error)
    if "worker (pid" in str(error):
        return "a worker process died, often of too little memory: use fewer --workers"
    if isinstance(error, RuntimeError | MemoryError):
        if any(sign in repr(error).lower() for sign in NO_MEMORY):
            return "out of memory: close other programs, or train with --accumulate 4"
        return None
    if isinstance(error, OSError):
        full = ": make room, then go on" if error.errno == errno.ENOSPC else ""
        return " ".join(str(error).split()) + full
    return None


def complain(sentence: str) -> None:
    """A sentence on stderr, if anybody still reads it."""
    with contextlib.suppress(OSError, ValueError):
        print(f"minimagen: {sentence}", file=sys.stderr, flush=True)


def say(text: str) -> None:
    """A result on stdout. If nobody reads it, as in `… | true`, what was done is done all the same."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        with contextlib.suppress(OSError, ValueError):  # or Python would complain as it ends
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def as_json(report: object) -> str:
    """JSON in UTF-8; what is no UTF-8 in a path is escaped."""
    return json.dumps(report, ensure_ascii=False).encode("utf-8", "backslashreplace").decode()


def prompts_of(args: argparse.Namespace) -> list[str]:
    """The prompts, looked at before anything is loaded."""
    prompts = [" ".join(p.split()) for p in args.prompts]
    if not prompts:
        raise UserError('no prompt: say what to draw, like minimagen draw "a cat on the grass"')
    if not all(prompts):
        raise UserError("a prompt is empty: say what to draw")
    for prompt in prompts:
        if re.match("[‐-―−]+[a-z]", prompt):  # an editor made it of --
            raise UserError(
                f"{prompt!r} begins with a dash that is no hyphen: write --{prompt[1:]}"
            )
    if len(prompts) > 2 and not any(" " in p for p in prompts) and "".join(prompts).isascii():
        complain(
            f"warning: these are {len(prompts)} prompts of one word each: to draw one picture, put "
            f'"{" ".join(prompts)[:60]}" in quotes'
        )
    return prompts


def draw(args: argparse.Namespace) -> None:
    prompts = prompts_of(args)
    from .images import grid, save_png, writable
    from .text import normalized

    paths = [writable(args.out)]
    if args.json and len(prompts) * args.count > 1:
        names = (f"{paths[0].stem}-{i}" for i in range(len(prompts) * args.count))
        paths += [writable(str(paths[0].with_stem(name))) for name in names]
    out = paths[0]
    prompts = [normalized(prompt) for prompt in prompts]
    imagen, device = load(args)
    for prompt in prompts:
        for told in imagen.text_encoder.check(prompt):
            complain(f"warning: {told}")
    interrupts.loaded()

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
    say(as_json(report) if args.json else str(out))


def device_of(name: str) -> str:
    import torch

    there = ["cuda"] * torch.cuda.is_available() + ["mps"] * torch.backends.mps.is_available()
    there += ["cpu"]
    if name not in ("auto", *there):
        raise UserError(f"--device {name} is not here: use {', '.join(there)}")
    return there[0] if name == "auto" else name


def load(args: argparse.Namespace, stages: Sequence[str] = STAGES) -> tuple[Imagen, str]:
    device = device_of(args.device)
    if (name := args.model) is not None and not os.path.isdir(name):
        if os.path.exists(name) or name.count("/") != 1:  # owner/name may be on the hub
            raise UserError(
                f"--model {name!r} is no folder: give one that holds base/ sr64/ sr256/"
            )
    from .assets import CASCADE
    from .imagen import Imagen

    imagen = Imagen.from_pretrained(CASCADE if args.model is None else args.model, stages=stages)
    return imagen.to(device).eval(), device


def train(args: argparse.Namespace) -> None:
    if args.stage not in STAGES:
        raise UserError(f"there is no stage called {args.stage!r}: it is {', '.join(STAGES)}")
    for option, value in (("--data", args.data), ("--from", args.origin)):
        if value == "":
            raise UserError(f"{option} '' is no folder: give one")
    out = Path(args.out)
    resumed = args.resume and (out / "state.safetensors").exists()
    if args.minutes is None and args.steps is None and not resumed:
        raise UserError("say how long to train: --minutes M or --steps N")
    if not args.out or (out.exists() and not out.is_dir()):
        raise UserError(f"--out {args.out!r} is no folder: give one for the run")
    if any((out / name).exists() for name in ("config.json", "model.safetensors")) and not resumed:
        raise UserError(f"{out} holds a model: go on from it with --from {out} and another --out")
    there = next(p for p in (out, *out.absolute().parents) if p.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise UserError(
            f"--out {args.out} can't be written: {there} belongs to others, or is no folder"
        )
    device = device_of(args.device)
    if args.resume and not resumed:
        complain(f"{out} holds no run: a new one begins")
    from .training.run import train as run

    interrupts.loaded()
    run(args, device, resumed)


def evaluate(args: argparse.Namespace) -> None:
    from .evaluation.alignment import evaluate as score
    from .evaluation.suites import SUITES

    if args.suite not in SUITES:
        raise UserError(f"there is no suite called {args.suite!r}: it is {', '.join(SUITES)}")
    imagen, device = load(args, STAGES[: 2 if args.size == 64 else 3])
    vocabulary = args.vocabulary or imagen.vocabulary
    interrupts.loaded()

    def sample(prompts: Sequence[str], first: int) -> torch.Tensor:
        seeds = [args.seed + first + i for i in range(len(prompts))]
        return list(imagen.generate(prompts, seeds, args.guidance, args.steps).values())[-1]

    from tqdm import tqdm

    with tqdm(total=args.samples, desc=args.suite, unit="picture", file=sys.stderr) as bar:
        report = score(sample, args.suite, args.samples, vocabulary, args.size, progress=bar.update)
    if args.json:
        say(as_json(report))
        return
    low, high = report["interval"]
    say(f"{args.suite}: {report['alignment']:.1%} aligned ({low:.1%} to {high:.1%}, {device})")
    say(f"judge right on real pictures: {report['judge_joint_accuracy']:.1%}")
    if "alignment_strict" in report:
        low, high = report["interval_strict"]
        say(f"by the strict judge: {report['alignment_strict']:.1%} ({low:.1%} to {high:.1%})")
        say(f"strict judge right on real pictures: {report['strict_joint_accuracy']:.1%}")
    for name, share in report["by_category"].items():
        say(f"  {name:17} {share:.1%}")


def doctor(args: argparse.Namespace) -> int:
    from .doctor import examine

    found = examine(args.path)
    for finding in found or ["nothing of the usual is wrong here"]:
        say(finding)
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
