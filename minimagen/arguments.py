"""The arguments of the command line: what `minimagen draw, train, evaluate, doctor --help` list.

Flags, bounds and defaults are those of the settings in config.py. Nothing heavy is imported: --help comes at once.
"""

from __future__ import annotations

import argparse
import contextlib
import math
from collections.abc import Callable
from dataclasses import Field, fields
from importlib import metadata
from typing import Any, NoReturn

from .config import (
    CAPTION_VERSIONS,
    GPU_SETTINGS,
    NEW_CAPTIONS,
    STAGES,
    VOCABULARIES,
    SampleConfig,
    SceneMix,
    TrainConfig,
    flag_of,
)
from .errors import UserError


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose mistakes are UserErrors: one sentence, without the usage."""

    def error(self, message: str) -> NoReturn:
        """Raise UserError with argparse's message."""
        raise UserError(f"{message[0].lower()}{message[1:]}: see {self.prog} --help")


def number(kind: type, low: float, high: float) -> Callable[[str], Any]:
    """A parser of numbers from low to high, for argparse."""

    def parse(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:  # nan is not
            what = "a whole number" if kind is int else "a number"
            raise argparse.ArgumentTypeError(f"{text!r} is not {what} from {low:g} to {high:g}")
        return value

    return parse


def add_option(
    command: argparse._ActionsContainer, setting: Field[Any], default: object = None
) -> None:
    """An option for a field of a settings dataclass: its flag, type, bounds, meaning and default.

    default: what argparse gives where the option is not used; None: nothing, so that it can be told.
    """
    low, high = setting.metadata["range"]
    kind = int if "int" in str(setting.type) else float
    about = setting.metadata["about"]
    if setting.default is not None:
        about += f" (default: {setting.default:g}{on_gpu(setting)})"
    command.add_argument(
        flag_of(setting),
        dest=setting.name,
        type=number(kind, low, high),
        default=default,
        metavar="N" if kind is int else "X",
        help=about.replace("%", "%%"),
    )


def on_gpu(setting: Field[Any]) -> str:
    """What the help adds where a setting of training has other defaults on a GPU."""
    values = {stage: GPU_SETTINGS[stage].get(setting.name, setting.default) for stage in STAGES}
    if set(values.values()) == {setting.default}:
        return ""
    if len(set(values.values())) == 1:
        return f"; with CUDA: {values[STAGES[0]]:g}"
    return "; with CUDA: " + ", ".join(f"{stage} {value:g}" for stage, value in values.items())


def version() -> str:
    """The version of the package that is installed."""
    with contextlib.suppress(metadata.PackageNotFoundError):
        return metadata.version("minimagen-course")
    return "(not installed)"


def parser() -> Parser:
    """The parser of the whole command line."""
    main = Parser(
        prog="minimagen", description="Imagen, built from scratch: text-to-image diffusion."
    )
    main.add_argument("--version", action="version", version=f"minimagen {version()}")
    commands = main.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)
    draw = commands.add_parser("draw", help="draw an image of each prompt")
    train = commands.add_parser("train", help="train a stage of the cascade")
    evaluate = commands.add_parser(
        "evaluate", help="measure how well images show what prompts ask for"
    )
    doctor = commands.add_parser(
        "doctor", help="find common causes of noise in a model, run or folder"
    )
    add_draw(draw)
    add_train(train)
    add_evaluate(evaluate)
    doctor.add_argument(
        "path", nargs="?", metavar="PATH", help="a model, a run or a folder of images"
    )
    for command in (draw, evaluate):
        for setting in fields(SampleConfig):
            add_option(command, setting, setting.default)
        command.add_argument("--model", metavar="DIR", help="a cascade (default: the shipped one)")
        command.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    for command, seed in ((draw, 0), (train, None), (evaluate, 0)):
        # larger ones would begin again with the noise of small ones
        seeds = number(int, 0, 5e8)
        command.add_argument(
            "--seed", type=seeds, default=seed, metavar="N", help="random seed (default: 0)"
        )
        command.add_argument(
            "--device", default="auto", help="auto, cpu, cuda or mps (default: auto)"
        )
    return main


def add_draw(draw: argparse.ArgumentParser) -> None:
    """The arguments of `minimagen draw`."""
    draw.add_argument("prompts", nargs="*", metavar="PROMPT")
    draw.add_argument("--out", default="out.png", help="the PNG to write (default: out.png)")
    draw.add_argument(
        "--count", type=number(int, 1, 64), default=1, metavar="N", help="images of each prompt (default: 1)"
    )  # fmt: skip
    draw.add_argument("--init", metavar="FILE", help="an image to begin with: its middle square")
    draw.add_argument(
        "--strength", type=number(float, 0, 1), metavar="X",
        help="how much of it is forgotten: 0 nothing, 1 all (default: 0.6; with --mask: 1)",
    )  # fmt: skip
    draw.add_argument(
        "--mask", metavar="FILE", help="an image of the same size: white is drawn anew, the rest is kept"
    )  # fmt: skip
    draw.add_argument("--negative", metavar="TEXT", help="what the image should not show")


def add_train(train: argparse.ArgumentParser) -> None:
    """The arguments of `minimagen train`."""
    train.add_argument(
        "stage",
        metavar="base|sr64|sr256|all",
        help="all: one after the other; with CUDA in the larger shapes of the shipped weights",
    )
    train.add_argument("--out", required=True, metavar="DIR", help="the folder of the run")
    start = train.add_mutually_exclusive_group()
    start.add_argument("--resume", action="store_true", help="continue the run in --out")
    start.add_argument(
        "--from", dest="origin", metavar="DIR", help="start from another model's weights"
    )
    train.add_argument(
        "--data",
        metavar="FOLDER",
        help="your own images, with metadata.jsonl; with CUDA, a small folder has a smaller batch",
    )
    train.add_argument(
        "--vocabulary", choices=VOCABULARIES, help="of the scenes (default: starter)"
    )
    train.add_argument(
        "--captions", dest="version", type=int, choices=CAPTION_VERSIONS,
        help=f"version of the training captions (default: {NEW_CAPTIONS})",
    )  # fmt: skip
    for setting in fields(SceneMix):
        add_option(train, setting)
    length = train.add_mutually_exclusive_group()
    for setting in fields(TrainConfig):
        if setting.name != "seed":
            add_option(length if setting.name in ("steps", "minutes") else train, setting)
    train.add_argument(
        "--precision",
        choices=("fp32", "bf16", "fp16"),
        help="default: fp32; with CUDA: bf16, where the GPU computes in it",
    )
    train.add_argument(
        "--previews", type=number(int, 0, 64), default=8, metavar="N",
        help="images of the preview at each checkpoint (default: 8)",
    )  # fmt: skip


def add_evaluate(evaluate: argparse.ArgumentParser) -> None:
    """The arguments of `minimagen evaluate`."""
    evaluate.add_argument(
        "--suite", default="seen", help="seen, heldout, words, chinese, drawbench or everyday (default: seen)"
    )  # fmt: skip
    evaluate.add_argument(
        "--samples", type=number(int, 1, 100_000), default=200, metavar="N", help="images in all (default: 200)"
    )  # fmt: skip
    evaluate.add_argument("--size", type=int, choices=(64, 256), default=64, help="default: 64")
    evaluate.add_argument("--vocabulary", choices=VOCABULARIES, help="default: the model's")
