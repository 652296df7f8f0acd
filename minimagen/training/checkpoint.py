"""Checkpoints of a training run: one file, OUT/state.safetensors, from which --resume goes on exactly.

It holds model.*, ema.* and optimizer.N.I.* tensors, and metadata as JSON: version, step, seconds, the loss
scaler, and what a resumed run must have in common with it (data, run, stage).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ..assets import read_tensors, write_tensors
from ..config import STATE, TrainConfig
from ..errors import UserError, is_out_of_memory
from ..stage import Stage, StageConfig
from .optimizers import Optimizers

VERSION = 2  # 1: version 0.1 of the package, with another order of images and other names

Metadata = dict[str, Any]


def save_checkpoint(
    out: Path, unet: nn.Module, ema: nn.Module, optimizers: Optimizers, metadata: Metadata
) -> None:
    """Write everything that --resume needs to out/state.safetensors, whole or not at all.

    metadata: step, seconds, data, run and stage. Raises OSError where it can't be written.
    """
    tensors = {f"model.{k}": v for k, v in unet.state_dict().items()}
    tensors |= {f"ema.{k}": v for k, v in ema.state_dict().items()}
    for n, optimizer in enumerate(optimizers.all):
        for i, values in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{n}.{i}.{k}": torch.as_tensor(v) for k, v in values.items()}
    metadata = {"version": VERSION, "scale": optimizers.scaler_state(), **metadata}
    write_tensors(tensors, out / STATE, {"facts": json.dumps(metadata)})


def check_unused(out: Path, resume: bool) -> None:
    """Raises UserError where a new run into the folder `out` would overwrite a model or another run."""
    if resume and (out / STATE).exists():
        return
    if any((out / name).exists() for name in ("config.json", "model.safetensors")):
        raise UserError(f"{out} holds a model: go on from it with --from {out} and another --out")
    if (out / STATE).exists():
        raise UserError(f"{out} holds a run: go on with --resume, or give another folder")


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turns errors of reading a checkpoint into a UserError: it is damaged. Out-of-memory errors pass through."""
    try:
        yield
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise
        raise UserError(f"{path} is damaged ({error}): start anew in another folder") from error


def read_metadata(out: Path) -> Metadata:
    """The metadata of the checkpoint in a run's folder. Raises UserError where it is damaged."""
    path = out / STATE
    # "np" opens the file once; "pt" twice, and a run may replace it in between
    with readable(path), safe_open(path, "np") as file:
        return cast(Metadata, json.loads(file.metadata()["facts"]))


def check_same_run(out: Path, metadata: Metadata, expected: Metadata) -> None:
    """Raises UserError, with a sentence, where a run with these settings can't go on from the checkpoint.

    expected: data, run and stage, which must be the checkpoint's too.
    """
    if metadata.get("version", 1) != VERSION:
        raise UserError(
            f"the run in {out} was begun by an older version of minimagen, and can't be resumed exactly: "
            f"take its weights into a new run with --from {out} and another --out"
        )
    expected = json.loads(json.dumps(expected))  # as JSON has it: lists for tuples
    names = {"data": "another data set", "run": "other training settings", "stage": "another model"}
    for key, name in names.items():
        then, now = metadata[key], expected[key]
        if key == "run":  # settings that did not exist yet had their defaults
            then = {**asdict(TrainConfig()), **then}
        if not isinstance(then, dict) or not isinstance(now, dict):  # a folder of images
            then, now = {"--data": then}, {"--data": now}
        changed = [k for k in now if then.get(k) != now[k]]
        if changed:
            raise UserError(
                f"{out} was begun with {name} ({', '.join(changed)}): resume with the same ones, "
                "or start anew in another folder with --from"
            )


def load_checkpoint(
    out: Path, unet: nn.Module, ema: nn.Module, optimizers: Optimizers, expected: Metadata
) -> tuple[int, float]:
    """Load the state of a run into the U-Net, its average and the optimizers; returns its step and seconds.

    expected: data, run and stage, which must be the checkpoint's too. Without a checkpoint, in a run that was
    killed before the first one, it is step 0. Raises UserError where the checkpoint is damaged or does
    not fit.
    """
    path = out / STATE
    if not path.is_file():
        return 0, 0.0
    metadata = read_metadata(out)
    check_same_run(out, metadata, expected)
    with readable(path):
        tensors = read_tensors(path)
        unet.load_state_dict({k: tensors[f"model.{k}"] for k in unet.state_dict()})
        ema.load_state_dict({k: tensors[f"ema.{k}"] for k in ema.state_dict()})
        for n, optimizer in enumerate(optimizers.all):
            state = _optimizer_state(optimizer, n, tensors)
            optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    if optimizers.scaler is not None and metadata["scale"]:
        optimizers.scaler.load_state_dict(metadata["scale"])
    return metadata["step"], metadata["seconds"]


def _optimizer_state(
    optimizer: torch.optim.Optimizer, n: int, tensors: dict[str, Tensor]
) -> dict[int, dict[str, Tensor]]:
    """The state of optimizer number n, by the index of the parameter, in the layout that it steps with."""
    params = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith(f"optimizer.{n}."):
            _, _, index, name = key.split(".")
            i = int(index)
            # The fused step needs the memory format of the weights. And nothing may stay a view of the file, or
            # Windows would not let the next checkpoint replace it.
            like = params[i] if name.startswith("exp_avg") else value
            state.setdefault(i, {})[name] = torch.empty_like(like).copy_(value)
    return state


def load_ema_stage(out: Path) -> Stage:
    """The stage of a run, ended or not, with its averaged weights in float32, in eval mode.

    Raises UserError where the checkpoint is damaged.
    """
    path, metadata = out / STATE, read_metadata(out)
    with readable(path):
        stage, tensors = Stage(StageConfig.from_dict(metadata["stage"])), read_tensors(path)
        stage.unet.load_state_dict({k: tensors[f"ema.{k}"] for k in stage.unet.state_dict()})
    return stage.eval()


def remove_leftovers(out: Path) -> None:
    """Remove the half-written files of a run that was killed; files of others stay."""
    for path in [*out.glob("state.*.tmp"), *out.glob("model.*.tmp"), *out.glob("config.*.tmp")]:
        path.unlink(missing_ok=True)
