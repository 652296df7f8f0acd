"""The command line: minimagen draw, train, evaluate, doctor.

A mistake of the user gets one line on stderr that says what is wrong and what to do, and exit status 2. Our own
bugs keep their traceback; MINIMAGEN_DEBUG=1 shows it for both.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import io
import json
import os
import re
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .arguments import parser
from .config import PLAN, RESOLUTIONS, STAGES, STATE, SceneMix, TrainConfig
from .errors import TextWarning, UserError, complain, is_out_of_memory
from .interrupts import Interrupts

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from .imagen import Imagen

DRAWN_AT_ONCE = 4


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status: 0, 1 for findings of the doctor, 2 for a mistake, 130 for Ctrl-C."""
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
            return commands[args.command](args, interrupts) or 0
        except SystemExit:  # of --help
            raise
        except BaseException as error:
            if os.environ.get("MINIMAGEN_DEBUG", "") not in ("", "0"):
                raise
            if interrupts.seen or isinstance(error, KeyboardInterrupt):
                complain("interrupted")
                return 130
            if (sentence := sentence_of(error)) is None:
                raise
            complain(sentence)
            return 2


def sentence_of(error: BaseException) -> str | None:
    """What to tell the user about an error that they can put right; None: it is a bug of ours."""
    if isinstance(error, UserError):
        return str(error)
    if "worker (pid" in str(error):
        return "a worker process died, often for lack of memory: use fewer --workers"
    if is_out_of_memory(error):
        return "out of memory: close other programs, or train with --accumulate 4"
    if isinstance(error, OSError):
        advice = ": make room, then go on" if error.errno == errno.ENOSPC else ""
        return " ".join(str(error).split()) + advice
    return None


def say(text: str) -> None:
    """Print a result on stdout. If nobody reads it, as in `… | true`, that is no error."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        with contextlib.suppress(OSError, ValueError):  # or Python would complain as it ends
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def as_json(report: object) -> str:
    """JSON; bytes of a path that are no UTF-8 are escaped."""
    return json.dumps(report, ensure_ascii=False).encode("utf-8", "backslashreplace").decode()


def prompts_of(args: argparse.Namespace) -> list[str]:
    """The prompts, checked before anything is loaded. Raises UserError where one is missing or empty."""
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


def control_of(args: argparse.Namespace) -> dict[str, Any]:
    """What --init, --strength, --mask and --negative ask for, as control.edit takes it; read before the model is.

    Raises UserError where an image can't be read, or one of them does not go with the others.
    """
    if args.init is None:
        for option, value in (("--mask", args.mask), ("--strength", args.strength)):
            if value is not None:
                raise UserError(f"{option} needs an image to begin with: add --init FILE")
    if args.negative is not None and not args.negative.strip():
        raise UserError("--negative is empty: say what the image should not show")
    if args.negative is not None and args.guidance <= 1:
        raise UserError("--negative works by guidance: give a --guidance above 1")
    control: dict[str, Any] = {} if args.negative is None else {"negative": args.negative}
    if args.init is None:
        return control
    import torch

    from .images import read_image, read_mask, to_tensor, upright_size

    strength = (0.6 if args.mask is None else 1.0) if args.strength is None else args.strength
    with blaming("--init", args.init) as path:
        size = upright_size(path)
        side = RESOLUTIONS[STAGES[-1]]
        if args.mask is None and strength > 0:
            # a small one is a sketch: the stages above it draw as always
            side = min(s for s in RESOLUTIONS.values() if s >= min(*size, side))
        control |= {"image": to_tensor(read_image(path, side))[None], "strength": strength}
    if args.mask is not None:
        with blaming("--mask", args.mask) as path:
            if (own := upright_size(path)) != size:
                raise UserError(
                    "it is {} × {} pixels, and --init is {} × {}: give a mask of that size".format(
                        *own, *size
                    )
                )
            control["mask"] = torch.from_numpy(read_mask(path, side)).float()[None, None]
    return control


@contextlib.contextmanager
def blaming(option: str, name: str) -> Iterator[Path]:
    """The path of a file; a UserError about it names the option."""
    try:
        yield Path(name)
    except UserError as error:
        raise UserError(f"{option} {name} can't be used: {error}") from error


def draw(args: argparse.Namespace, interrupts: Interrupts) -> None:
    """`minimagen draw`: write the images and print their path, or a JSON object."""
    prompts = prompts_of(args)
    control = control_of(args)
    from .images import grid, save_png, writable
    from .text import normalized

    out, jobs = writable(args.out), len(prompts) * args.count
    paths = [out]
    if args.json and jobs > 1:  # each image has its own file too
        paths = [writable(str(out.with_stem(f"{out.stem}-{i}"))) for i in range(jobs)]
    prompts = [normalized(prompt) for prompt in prompts]
    imagen, device = load(args)
    for prompt in [*prompts, *given(args, ["negative"]).values()]:
        for warning in imagen.text_encoder.check(prompt):
            complain(f"warning: {warning}")
    interrupts.loaded()
    model = str(args.model or "data/cascade")
    more = {"Negative-Prompt": args.negative} if args.negative else {}
    if args.init is not None:
        more |= {"Init": Path(args.init).name, "Strength": f"{control['strength']:g}"}
    images: list[Image.Image] = []
    report: list[dict[str, Any]] = []
    for prompt, seed, image, seconds in drawn(imagen, prompts, args, control):
        path = paths[len(images)] if len(paths) == jobs else out
        if len(paths) == jobs:  # at once: who stops later keeps what is drawn
            save_png(image, path, prompt, seed, model, more)
        images.append(image)
        size = {"size": image.width, "seconds": seconds}
        report.append({"prompt": prompt, "seed": seed, "path": str(path), **size})
    if jobs > 1:
        seeds = f"{args.seed} to {args.seed + args.count - 1}" if args.count > 1 else args.seed
        sheet = grid(images, args.count if args.count > 1 else None)
        save_png(sheet, out, " | ".join(prompts), seeds, model, more)
    summary = {"images": report, "device": device, "model": model}
    say(as_json(summary) if args.json else str(out))


def drawn(
    imagen: Imagen, prompts: Sequence[str], args: argparse.Namespace, control: dict[str, Any]
) -> Iterator[tuple[str, int, Image.Image, float]]:
    """Yields prompt, seed, image and seconds of each image, with a progress bar on stderr."""
    from tqdm import tqdm

    from .control import edit
    from .images import to_pil

    jobs = [(prompt, args.seed + i) for prompt in prompts for i in range(args.count)]
    others = sum(imagen.stage(name).config.steps for name in imagen.stages if name != "base")
    total = (args.steps + others) * len(jobs)
    with tqdm(total=total, desc="drawing", unit="step", file=sys.stderr) as bar:
        for first in range(0, len(jobs), DRAWN_AT_ONCE):
            part, began = jobs[first : first + DRAWN_AT_ONCE], time.perf_counter()
            made = edit(
                imagen,
                [prompt for prompt, _ in part],
                [seed for _, seed in part],
                **control,
                guidance=args.guidance,
                steps=args.steps,
                callback=lambda stage, step, x_s, x_0: bar.update(len(x_0)),
            )
            seconds = round((time.perf_counter() - began) / len(part), 2)
            for (prompt, seed), image in zip(part, to_pil(list(made.values())[-1]), strict=True):
                yield prompt, seed, image, seconds


def device_of(name: str) -> str:
    """The device of that name; auto: the best that is here. Raises UserError for one that is not here."""
    import torch

    here = ["cpu"]
    if torch.backends.mps.is_available():
        here.insert(0, "mps")
    if torch.cuda.is_available():
        here.insert(0, "cuda")
    if name not in ("auto", *here):
        raise UserError(f"--device {name} is not available here: use {', '.join(here)}")
    return here[0] if name == "auto" else name


def load(args: argparse.Namespace, stages: Sequence[str] = STAGES) -> tuple[Imagen, str]:
    """The cascade of --model on the device of --device, and that device's name."""
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


def given(args: argparse.Namespace, names: Sequence[str]) -> dict[str, Any]:
    """Those of the options that the user gave."""
    return {name: value for name in names if (value := getattr(args, name)) is not None}


def out_of_train(args: argparse.Namespace) -> tuple[Path, bool]:
    """The folder of --out, and whether a run in it goes on. Raises UserError where one can't be trained there."""
    out = Path(args.out)
    resumed = args.resume and (out / (PLAN if args.stage == "all" else STATE)).exists()
    if args.minutes is None and args.steps is None and not resumed:
        raise UserError("say how long to train: --minutes M or --steps N")
    if not args.out or (out.exists() and not out.is_dir()):
        raise UserError(f"--out {args.out!r} is no folder: give one for the run")
    there = next(p for p in (out, *out.absolute().parents) if p.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise UserError(
            f"--out {args.out} can't be written: {there} belongs to others, or is no folder"
        )
    return out, resumed


def train(args: argparse.Namespace, interrupts: Interrupts) -> None:
    """`minimagen train`: train a stage, or all of them, and print the folder of the run, or its report."""
    if args.stage not in (*STAGES, "all"):
        raise UserError(
            f"there is no stage called {args.stage!r}: it is {', '.join(STAGES)}, or all"
        )
    for option, value in (("--data", args.data), ("--from", args.origin)):
        if value == "":
            raise UserError(f"{option} '' is no folder: give one")
    out, resumed = out_of_train(args)
    device = device_of(args.device)
    from .training.cascade import run_all
    from .training.checkpoint import check_unused
    from .training.run import TrainRequest, run_training

    interrupts.loaded()
    if args.resume and not resumed:
        check_unused(out, resume=False)
        complain(f"{out} holds no run: a new one begins")
    run = run_all if args.stage == "all" else run_training
    run(
        TrainRequest(
            stage=args.stage,
            out=out,
            resume=args.resume,
            origin=None if args.origin is None else Path(args.origin),
            data=None if args.data is None else Path(args.data),
            device=device,
            precision=args.precision,
            previews=args.previews,
            settings=given(args, [f.name for f in fields(TrainConfig)]),
            scenes=given(args, ["vocabulary", *(f.name for f in fields(SceneMix)), "version"]),
        )
    )


def evaluate(args: argparse.Namespace, interrupts: Interrupts) -> None:
    """`minimagen evaluate`: print the alignment of a suite, or a JSON object."""
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

    with tqdm(total=args.samples, desc=args.suite, unit="image", file=sys.stderr) as bar:
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


def doctor(args: argparse.Namespace, _: Interrupts) -> int:
    """`minimagen doctor`: print what is found; exit status 1 if anything is."""
    from .doctor import examine

    found = examine(args.path)
    for finding in found or ["no common problem found"]:
        say(finding)
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
