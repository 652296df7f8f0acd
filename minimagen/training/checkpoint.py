"""The state of a training run, which --resume goes on from."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ..assets import read_tensors, write


def save_state(
    out: Path,
    unet: nn.Module,
    ema: dict[str, Tensor],
    optimizers: tuple[torch.optim.Optimizer, ...],
    facts: dict,
) -> None:
    """Everything that --resume needs."""
    tensors = {f"model.{k}": v for k, v in unet.state_dict().items()}
    tensors |= {f"ema.{k}": v for k, v in ema.items()}
    for n, optimizer in enumerate(optimizers):
        for i, values in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{n}.{i}.{k}": torch.as_tensor(v) for k, v in values.items()}
    write(tensors, out / "state.safetensors", {"facts": json.dumps(facts)})


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """What is read of a file is there and fits, or a ValueError says that it does not."""
    try:
        yield
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        # too little memory says nothing of the file
        if any(sign in str(error) for sign in ("out of memory", "allocate memory")):
            raise
        raise ValueError(f"{path} is damaged ({error}): start anew in another folder") from error


def state_facts(out: Path) -> dict:
    """What a checkpoint says of itself: step, seconds, run, stage, data. ValueError where it is damaged."""
    path = out / "state.safetensors"
    # "np" opens it once; "pt" twice, and between them a run may put a new one in its place
    with readable(path), safe_open(path, "np") as file:
        return json.loads(file.metadata()["facts"])


def load_state(
    out: Path,
    unet: nn.Module,
    ema: dict[str, Tensor],
    optimizers: tuple[torch.optim.Optimizer, ...],
    about: dict,
) -> tuple[int, float, dict]:
    """Step, seconds and loss scale of a checkpoint; fills the rest in place.

    about: data, run and stage, as the checkpoint must have them too. Raises ValueError, with a sentence,
    where it has not, or is damaged.
    """
    path = out / "state.safetensors"
    if not path.is_file():  # killed before the first one: the run starts again from its beginning
        return 0, 0.0, {}
    facts = state_facts(out)
    about = json.loads(json.dumps(about))  # as JSON has it: lists for tuples
    names = "another data set", "other training settings", "another model"
    for key, name in zip(("data", "run", "stage"), names, strict=True):
        then, now = (z if isinstance(z, dict) else {"--data": z} for z in (facts[key], about[key]))
        changed = [k for k in now if then.get(k) != now[k]]
        if changed:
            raise ValueError(
                f"{out} was begun with {name} ({', '.join(changed)}): resume with the same ones, "
                "or start anew in another folder with --from"
            )
    with readable(path):
        tensors = read_tensors(path)
        unet.load_state_dict({k: tensors[f"model.{k}"] for k in unet.state_dict()})
        for name in ema:
            ema[name].copy_(tensors[f"ema.{name}"])
        for n, optimizer in enumerate(optimizers):
            params = [p for group in optimizer.param_groups for p in group["params"]]
            state: dict[int, dict[str, Tensor]] = {}
            for key, value in tensors.items():
                if key.startswith(f"optimizer.{n}."):
                    i, name = int(key.split(".")[2]), key.split(".")[3]
                    # the fused step wants the layout of the weights; and nothing may stay a view of the
                    # file, or Windows would not let the next checkpoint take its place
                    like = params[i] if name.startswith("exp_avg") else value
                    value = torch.empty_like(like).copy_(value)
                    state.setdefault(i, {})[name] = value
            optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    return facts["step"], facts["seconds"], facts.get("scale", {})
