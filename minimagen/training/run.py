"""A run of training, as the command line asks for it: begun, taken further from other weights, or resumed."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path

import torch
from tqdm import tqdm

from ..images import downsample, grid, save_png, to_pil
from ..samplers import seeded_noise
from ..scenes import Folder, Scenes
from ..scenes.everyday import VERSIONS
from ..stage import DEFAULTS, RESOLUTIONS, Stage
from ..text import TextEncoder
from .accelerator import make_accelerator
from .checkpoint import state_facts
from .loop import ImageDataset, TrainConfig, load_ema_stage
from .loop import train as steps_of


def train(args: argparse.Namespace, device: str, resumed: bool) -> None:
    """args: of `minimagen train`; resumed: is there a run to go on with?

    Raises ValueError, with a sentence, for what does not fit together.
    """
    out = Path(args.out)
    side, begun = RESOLUTIONS[args.stage], state_facts(out) if resumed else {}
    if resumed:
        stage = load_ema_stage(out)
    elif args.origin is not None:
        origin = Path(args.origin)
        # a run that went on after its end has newer weights in its state
        stage = (load_ema_stage if (origin / "state.safetensors").is_file() else Stage.load)(origin)
    else:
        torch.manual_seed(args.seed or 0)
        stage = Stage(DEFAULTS[args.stage])
    stage.check_finite(Path(args.origin or out))
    config = stage.config
    if config.name != args.stage:
        raise ValueError(f"that is a stage {config.name}, and you asked to train {args.stage}")
    # what a resumed run is not told again, it takes from its checkpoint
    names = {f.name for f in fields(TrainConfig)} | {"precision"}
    given = {name: value for name in names if (value := getattr(args, name, None)) is not None}
    if given.keys() & {"steps", "minutes"}:
        names -= {"steps", "minutes"}
    chosen = {k: v for k, v in begun.get("run", {}).items() if k in names} | given
    if resumed and args.minutes and begun["seconds"] >= 60 * args.minutes:
        raise ValueError(f"the run in {out} has had that long: --minutes is of the whole run")
    precision = chosen.pop("precision", "no").replace("fp32", "no")
    if precision == "fp16" and device != "cuda":
        raise ValueError("--precision fp16 needs a CUDA device: use bf16 or fp32")
    settings = TrainConfig(**chosen)
    if resumed and (settings.muon_lr > 0) != (begun["run"]["muon_lr"] > 0):
        raise ValueError(f"the run in {out} began with another optimizer: keep --muon-lr as it was")
    # a process of several gets its own device here
    accelerator = make_accelerator(device == "cpu", precision)
    kinds = ("vocabulary", "pairs", "styled", "starter", "version")
    asked = {name: value for name in kinds if (value := getattr(args, name)) is not None}
    if args.data is not None and asked:
        option = next(iter(asked)).replace("version", "captions")
        raise ValueError(f"--{option} is for scenes, not for --data: leave one out")
    pictures: Folder | Scenes
    # A state depends, in its last bits, on the texts beside it. A resumed run must meet the same bits: so
    # a folder's captions are all encoded first, and those of Scenes, which hardly repeat, every time.
    if args.data is not None:
        encoder = TextEncoder()
        pictures = Folder(args.data, side, encoder)
        if accelerator.is_main_process:
            tell(pictures.warnings)
        encoder.cache_size = len(pictures)
        encoder.to(accelerator.device)
        for i in range(0, len(pictures), 256):
            encoder(pictures.captions[i : i + 256])
    else:
        data = begun.get("data", {})
        if not isinstance(data, dict):
            raise ValueError(f"the run in {out} is on your own pictures: give --data again")
        # a new run takes the newest captions; one that is resumed keeps those that it began with
        new = {} if resumed else {"version": VERSIONS[-1]}
        pictures = Scenes(side, **({"vocabulary": config.vocabulary} | new | data | asked))
        encoder = TextEncoder(cache_size=0).to(accelerator.device)
        config = replace(config, vocabulary=pictures.vocabulary)
    if config.text_encoder not in ("", encoder.fingerprint):
        raise ValueError(f"{args.origin or out} was trained with another text encoder")
    stage.config = replace(config, text_encoder=encoder.fingerprint)
    show = preview(pictures, encoder, out, args.previews) if args.previews else None
    steps = steps_of(
        stage, pictures, encoder, settings, out, args.resume, accelerator, args.workers, show
    )
    main, log, smooth = accelerator.is_main_process, out / "log.csv", math.nan
    if main and resumed and log.exists():  # what came after the checkpoint comes again
        rows = log.read_text(encoding="utf-8").splitlines()
        rows = [r for r in rows if r.count(",") == 2 and int(r.split(",")[0]) <= begun["step"]]
        log.write_text("".join(f"{r}\n" for r in rows), encoding="utf-8")
        smooth = float(rows[-1].split(",")[2]) if rows else smooth
    look: dict = {"bar_format": "{desc}: {percentage:3.0f} %|{bar}| {elapsed}<{remaining}{postfix}"}
    look |= {"desc": args.stage, "file": sys.stderr, "delay": 1, "disable": not main}
    with tqdm(total=100.0, **look) as bar:
        for report in steps:
            smooth = report["loss"] if math.isnan(smooth) else 0.99 * smooth + 0.01 * report["loss"]
            bar.update(min(100.0, 100 * report["share"]) - bar.n)
            bar.set_postfix(step=int(report["step"]), loss=f"{smooth:.4f}", refresh=False)
            if report["step"] % 10 == 1 and main:
                with open(log, "a", encoding="utf-8") as file:
                    file.write(f"{report['step']:.0f},{report['seconds']:.1f},{smooth:.6f}\n")
    if main:
        print(out)


def tell(warnings: Sequence[str], shown: int = 10) -> None:
    """Warnings on stderr, a line each; of many, the first."""
    for warning in warnings[:shown]:
        print(f"minimagen: warning: {warning}", file=sys.stderr)
    if len(warnings) > shown:
        print(f"minimagen: warning: and {len(warnings) - shown} like these", file=sys.stderr)


def preview(
    pictures: ImageDataset, encoder: TextEncoder, out: Path, count: int = 8
) -> Callable[[Stage, int], None]:
    """Draws the captions of the first pictures, always from the same noise, when called with a stage and a step.

    out/previews/STEP.png has the pictures themselves above, and what `stage` makes of their captions below.
    """
    images, captions = pictures.batch(list(range(min(count, len(pictures)))))
    small, seeds, device = (
        downsample(images, images.shape[-1] // 4),
        range(len(images)),
        encoder.device,
    )
    noise = seeded_noise(seeds, images.shape[1:], 0).to(device)
    low = [small.to(device), seeded_noise(seeds, small.shape[1:], 1).to(device)]
    folder = out / "previews"

    def look(stage: Stage, step: int) -> None:
        guidance = stage.config.guidance or 4.0
        below = low if stage.config.unet.low_res else ()
        made = stage.sample(noise, *encoder(captions), *below, guidance=guidance)
        pair = [p.resize((128, 128), 0) for p in to_pil(torch.cat([images, made.cpu()]))]
        folder.mkdir(parents=True, exist_ok=True)
        save_png(
            grid(pair, len(images)), folder / f"{step:07}.png", " | ".join(captions), 0, str(out)
        )

    return look
