"""Nothing of the package mixes the CPU and the GPU: seen on a GPU that is played by the CPU."""

import copy
import sys

import pytest
import torch
from fake_gpu import FakeGpu, Gpu

from minimagen import Imagen, Scenes
from minimagen.config import TrainConfig
from minimagen.diffusion import cosine_log_snr
from minimagen.evaluation.judge import Judge
from minimagen.samplers import SAMPLERS, times
from minimagen.stage import DEFAULTS, Stage
from minimagen.training.ema import AveragedModel
from minimagen.training.optimizers import Optimizers

OPTIM = ("torch.optim.adam", "torch.optim.adamw", "torch.optim.optimizer")


@pytest.fixture(autouse=True)
def gpu(monkeypatch):
    """Autocast and the fused AdamW ask for the kind of the device: they get the CPU's."""
    autocast, meta = torch.autocast, torch.device("meta")
    monkeypatch.setattr(torch, "autocast", lambda kind, *a, **k: autocast("cpu", *a, **k))
    name = "_get_fused_kernels_supported_devices"
    for module in [m for m in sys.modules.values() if getattr(m, "__name__", "") in OPTIM]:
        if hasattr(module, name):
            monkeypatch.setattr(module, name, lambda: ["meta"])
    with FakeGpu():
        yield meta


def test_it_refuses_what_a_gpu_refuses(gpu):
    x, y = torch.ones(3, device=gpu), torch.ones(3)
    assert isinstance(x, Gpu) and (x + x).cpu().tolist() == [2, 2, 2]
    assert (2 * x[torch.tensor([0, 2])] + torch.tensor(1.0)).tolist() == [3, 3]
    with pytest.raises(RuntimeError, match="one tensor is on the GPU"):
        x + y
    with pytest.raises(TypeError, match="cpu"):
        x.numpy()
    with pytest.raises(RuntimeError, match="generator"):
        torch.randn(3, device=gpu, generator=torch.Generator())


def test_gradients_are_a_cpus(gpu):
    torch.manual_seed(0)
    here = torch.nn.Conv2d(3, 4, 3)
    there = copy.deepcopy(here).to(gpu)
    x = torch.randn(2, 3, 8, 8)
    here(x).square().mean().backward()
    there(x.to(gpu)).square().mean().backward()
    assert torch.equal(here.weight.grad, there.weight.grad.cpu())


def test_the_cascade_draws_there_what_it_draws_here(gpu):
    imagen = Imagen.from_pretrained(stages=["base", "sr64"])
    prompts, seeds = ["a cat", "two dogs on the grass"], [0, 1]
    here = imagen.generate(prompts, seeds, steps=2)
    there = imagen.to(gpu).generate(prompts, seeds, steps=2)
    for name, pictures in there.items():
        assert isinstance(pictures, Gpu) and (pictures.cpu() - here[name]).abs().max() < 1e-4


def test_every_sampler_runs_there(gpu):
    x = torch.randn(2, 3, 4, 4, device=gpu)
    for sample in SAMPLERS.values():
        assert isinstance(sample(lambda x_t, log_snr: x_t / 2, x, cosine_log_snr, times(3)), Gpu)


@pytest.mark.parametrize("name", ["base", "sr64", "sr256"])
def test_a_step_of_training_runs_there(gpu, name):
    torch.manual_seed(0)
    stage = Stage(DEFAULTS[name]).to(gpu)
    side = {"base": 16, "sr64": 32, "sr256": 128}[name]
    text, mask = torch.randn(2, 5, 256, device=gpu), torch.ones(2, 5, dtype=torch.bool, device=gpu)
    average = AveragedModel(stage, 0.9)
    noise = stage.draw_noise(2, side, torch.Generator())
    loss = stage(torch.zeros(2, 3, side, side, device=gpu), text, mask, noise)
    loss.backward()
    assert all(isinstance(p, Gpu) and isinstance(p.grad, Gpu) for p in stage.unet.parameters())
    Optimizers(stage.unet, TrainConfig(steps=1)).step()
    average.update_parameters(stage)
    assert all(isinstance(p, Gpu) for p in (*stage.unet.parameters(), *average.module.parameters()))


def test_the_judge_reads_there_what_it_reads_here(gpu):
    pictures = Scenes(64).batch(range(4))[0]
    judge = Judge.load()
    here, features = judge.read(pictures), judge.embed(pictures)
    judge = judge.to(gpu)
    assert judge.read(pictures.to(gpu)) == here
    assert (judge.embed(pictures.to(gpu)).cpu() - features).abs().max() < 1e-4
