"""What a request to train becomes: settings, data and batch, by device and by what the run was begun with."""

import math
import os
from dataclasses import asdict, replace
from types import SimpleNamespace

import pytest
import torch

from minimagen.assets import read_tensors, write_tensors
from minimagen.config import TrainConfig
from minimagen.errors import UserError
from minimagen.scenes import Scenes
from minimagen.stage import DEFAULTS, Stage
from minimagen.training import run
from minimagen.training.checkpoint import Metadata
from minimagen.training.run import (
    TrainRequest,
    batch_for,
    data_of,
    pool_of,
    settings_of,
    starting_stage,
)
from minimagen.unet import UNetConfig

TINY = UNetConfig(channels=(16,), blocks=(1,), attention=("",), embedding=32)
CPU = SimpleNamespace(device=torch.device("cpu"), is_main_process=True)


@pytest.fixture
def made(monkeypatch):
    """How many workers a pool on a GPU is asked for."""
    asked = []
    memory = SimpleNamespace(total_memory=10**9)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: memory)
    monkeypatch.setattr(run, "Pool", lambda *arguments: asked.append(arguments[-1]))
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    return asked


def test_no_workers_are_none_and_not_said_is_one_a_core_but_one(made):
    for given in (None, 0, 3):
        config = TrainConfig(steps=1, workers=given)
        pool_of(Scenes(16), None, "base", config, CPU)
    assert made == [15, 0, 3]


def test_workers_belong_to_the_machine_and_not_to_the_run():
    begun: Metadata = {"run": asdict(TrainConfig(steps=5, workers=8, batch=4)), "seconds": 0.0}
    request = TrainRequest("base", None, resume=True)
    config, _ = settings_of(request, begun)
    assert config.workers is None and config.batch == 4 and config.steps == 5


@pytest.mark.parametrize(
    "count, batch, parts, expected",
    [
        (10, 48, 1, 48),  # a CPU's batch is not made smaller
        (100, 1536, 1, 100),
        (100, 1536, 3, 99),
        (5, 1536, 5, 45),
        (5, 1536, 64, 64),  # more parts than that: one image each
        (5000, 1536, 7, 1536),  # as it was asked for: if it doesn't divide, the error names it
    ],
)
def test_the_batch_of_a_small_folder_can_be_divided(count, batch, parts, expected):
    assert batch_for(count, batch, parts) == expected


def test_a_run_of_a_notebook_is_refused_in_one_sentence(tmp_path):
    """Its data set is one that the command line can't make."""
    begun = {"data": {"world": ["cat"], "places": ["grass"], "pictures": 6000}}
    request = TrainRequest("base", tmp_path, resume=True)
    with pytest.raises(
        UserError, match=r"data set that minimagen train does not make \(pictures\)"
    ):
        data_of(request, DEFAULTS["base"], begun, CPU)


def test_a_model_with_nan_is_no_beginning(tmp_path):
    """And the sentence names it: --resume would be of no use."""
    stage = Stage(replace(DEFAULTS["base"], unet=TINY))
    stage.save(tmp_path)
    weights = read_tensors(tmp_path / "model.safetensors")
    weights["out.2.weight"][0, 0] = math.nan
    write_tensors(weights, tmp_path / "model.safetensors")
    request = TrainRequest("base", tmp_path / "new", origin=tmp_path)
    with pytest.raises(UserError, match="out.2.weight holds NaN or infinity") as caught:
        starting_stage(request, resumed=False)
    assert str(tmp_path) in str(caught.value) and "--resume" not in str(caught.value)
