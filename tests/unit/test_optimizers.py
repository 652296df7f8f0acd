"""Muon is held to torch.optim.Muon and to its formula, the EMA and the rate to closed forms."""

from dataclasses import replace

import pytest
import torch

from minimagen.config import TrainConfig
from minimagen.scenes import Scenes
from minimagen.stage import DEFAULTS, Stage
from minimagen.text import TextEncoder
from minimagen.training import ema, loop
from minimagen.training.ema import AveragedModel, warmed_up
from minimagen.training.optimizers import Muon, Optimizers
from minimagen.unet import PRESETS, UNet, UNetConfig

TINY = UNetConfig(channels=(16, 16), blocks=(1, 1), attention=("", ""), embedding=32)
SHAPES = ((40, 24), (24, 40), (32, 32))


def gradients(shape, steps=12):
    g = torch.Generator().manual_seed(sum(shape))
    mean = torch.randn(shape, generator=g)  # of one direction, so that momentum matters
    return [0.5 * mean + torch.randn(shape, generator=g) for _ in range(steps)]


def path(make, shape):
    """The weights after each step on fixed gradients."""
    torch.manual_seed(1)
    weight = torch.nn.Parameter(torch.randn(shape))
    optimizer, told = make([weight]), []
    for gradient in gradients(shape):
        weight.grad = gradient.clone()
        optimizer.step()
        told.append(weight.detach().clone())
    return torch.stack(told)


class Reference(torch.optim.Optimizer):
    """As its authors write it: Nesterov momentum 0.95, five quintic iterations, scale √max(1, rows / columns)."""

    def __init__(self, params, lr, decay):
        super().__init__(params, {"lr": lr, "decay": decay})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                m = self.state[p].setdefault("m", torch.zeros_like(p))
                m.mul_(0.95).add_(p.grad, alpha=0.05)
                g = (0.05 * p.grad + 0.95 * m).flatten(1)
                x = g / g.norm()
                x = x.T if len(g) > g.shape[1] else x
                for _ in range(5):
                    a = x @ x.T
                    x = 3.4445 * x + (-4.775 * a + 2.0315 * a @ a) @ x
                x = x.T if len(g) > g.shape[1] else x
                scale = max(1.0, g.shape[0] / g.shape[1]) ** 0.5
                p.mul_(1 - group["lr"] * group["decay"])
                p.sub_(group["lr"] * scale * x.reshape(p.shape))


@pytest.mark.parametrize("shape", (*SHAPES, (32, 16, 3, 3), (16, 32, 1, 1)), ids=str)
def test_muon_is_its_formula(shape):
    ours = path(lambda p: Muon(p, lr=0.02, decay=0.1), shape)
    theirs = path(lambda p: Reference(p, 0.02, 0.1), shape)
    torch.testing.assert_close(ours, theirs, atol=2e-4, rtol=0)


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch has Muon from 2.9")
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_muon_is_torchs_on_matrices(shape):
    """Theirs iterates in bfloat16: half a per cent of the way apart, where no Nesterov alone is some 10 %."""
    ours = path(lambda p: Muon(p, lr=0.02, decay=0.1), shape)
    theirs = path(lambda p: torch.optim.Muon(p, lr=0.02, weight_decay=0.1), shape)
    way = (theirs[-1] - theirs[0]).norm()
    assert (ours[-1] - theirs[-1]).norm() < 0.01 * way


@pytest.mark.parametrize("rate", [float, torch.tensor])
def test_matrices_of_one_shape_together_are_matrices_one_by_one(rate):
    shapes = [(32, 16, 3, 3), (16, 48), (32, 16, 3, 3), (64, 16), (16, 48)]
    torch.manual_seed(0)
    start, ends = [torch.randn(shape) for shape in shapes], []
    for grouped in (True, False):
        params = [torch.nn.Parameter(z.clone()) for z in start]
        params[0].data = params[0].data.to(memory_format=torch.channels_last)
        muon = Muon(params, rate(0.02), 0.1, grouped)
        g = torch.Generator().manual_seed(1)
        for _ in range(5):
            for p in params:
                p.grad = torch.randn(p.shape, generator=g)
            muon.step()
        ends.append(params)
    for one, other in zip(*ends, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch has Muon from 2.9")
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_grouped_muon_is_torchs_on_matrices(shape):
    ours = path(lambda p: Muon(p, lr=torch.tensor(0.02), decay=0.1, grouped=True), shape)
    theirs = path(lambda p: torch.optim.Muon(p, lr=0.02, weight_decay=0.1), shape)
    way = (theirs[-1] - theirs[0]).norm()
    assert (ours[-1] - theirs[-1]).norm() < 0.01 * way


@pytest.mark.parametrize("name", PRESETS)
def test_which_parameter_is_moved_by_which_optimizer_and_with_what(name):
    """Muon: matrices and kernels with 16 rows and columns or more, but for stem and out. AdamW: all the rest."""
    unet = UNet(PRESETS[name])
    adam, muon = Optimizers(unet, TrainConfig(lr=2e-3, muon_lr=0.02, weight_decay=0.1)).all
    assert len(muon.param_groups) == len(adam.param_groups) == 1
    names = {id(p): k for k, p in unet.named_parameters()}
    held = [{names[id(p)] for p in o.param_groups[0]["params"]} for o in (muon, adam)]
    expected = set()
    for k, p in unet.named_parameters():
        if k.split(".")[0] not in ("stem", "out") and p.ndim > 1:
            rows, columns = p.shape[0], p.numel() // p.shape[0]
            expected |= {k} if rows >= 16 and columns >= 16 else set()
    assert held[0] == expected and held[1] == set(names.values()) - expected
    assert {"stem.weight", "out.0.weight", "out.2.weight", "pool.score.weight"} <= held[1]
    assert {"pool.value.weight", "time.layers.0.weight", "down.0.blocks.0.conv1.weight"} <= held[0]
    [m], [a] = muon.param_groups, adam.param_groups
    assert (m["lr"], m["momentum"], m["weight_decay"]) == (0.02, 0.95, 0.1)
    assert (a["lr"], a["betas"], a["weight_decay"]) == (2e-3, (0.9, 0.98), 0.0)


def test_without_muon_adam_has_everything():
    unet = UNet(TINY)
    [adam] = Optimizers(unet, TrainConfig(lr=1e-3, muon_lr=0)).all
    assert len(adam.param_groups[0]["params"]) == len(list(unet.parameters()))


def test_the_settings_of_a_run_unless_told_otherwise():
    c = TrainConfig(steps=1)
    assert (c.batch, c.lr, c.muon_lr, c.weight_decay) == (48, 2e-3, 0.02, 0.1)
    assert (c.warmup_steps, c.decay_fraction, c.ema_decay, c.clip_norm) == (40, 0.35, 0.995, 1.0)


def test_the_average_in_closed_form():
    """Of weights w_1 … w_n from e_0: d^n e_0 + (1 − d) Σ d^(n − k) w_k."""
    net, d, n = torch.nn.Linear(3, 2), 0.9, 7
    for in_tensors in (False, True):
        for p in net.parameters():
            torch.nn.init.constant_(p, 5.0)
        average = AveragedModel(net, d, in_tensors)
        average.updates = 1000  # no longer young
        for k in range(1, n + 1):
            for p in net.parameters():
                torch.nn.init.constant_(p, float(k * k))
            average.update_parameters(net)
        expected = d**n * 5 + (1 - d) * sum(d ** (n - k) * k * k for k in range(1, n + 1))
        for value in average.module.parameters():
            torch.testing.assert_close(value, torch.full_like(value, expected))


def test_the_averaged_model_is_moved_by_the_warmed_up_decay():
    """Of weights 1, 1, … from an average of 0: 1 − the product of all decays."""
    net = torch.nn.Linear(3, 2)
    torch.nn.init.zeros_(net.weight)
    average, left = AveragedModel(net, 0.9), 1.0
    torch.nn.init.ones_(net.weight)
    for n in range(1, 40):
        average.update_parameters(net)
        left *= min(0.9, (1 + n) / (10 + n))
        torch.testing.assert_close(
            average.module.weight, torch.full((2, 3), 1 - left), rtol=1e-5, atol=1e-6
        )


def test_buffers_are_copied_and_not_averaged():
    net = torch.nn.BatchNorm1d(2, momentum=1.0)
    average = AveragedModel(net, 0.9)
    net(torch.tensor([[0.0, 4.0], [2.0, 8.0]]))
    average.update_parameters(net)
    assert average.module.running_mean.tolist() == [1.0, 6.0] and average.updates == 1
    assert not any(p.requires_grad for p in average.module.parameters())


@pytest.fixture(scope="module")
def run():
    """A hundred steps of a tiny U-Net: (rates, rates and gradient norms met by the optimizers, EMA decays)."""
    patch, met, norms, decays = pytest.MonkeyPatch(), [], [], []
    muon_step = Muon.step

    def step(self, closure=None):
        met.append(self.param_groups[0]["lr"])
        grads = [p.grad for p in stage.unet.parameters() if p.grad is not None]
        norms.append(torch.stack([g.norm() for g in grads]).norm().item())
        return muon_step(self)

    def decay(max_decay, updates):
        decays.append(warmed_up(max_decay, updates))
        return decays[-1]

    patch.setattr(Muon, "step", step)
    patch.setattr(ema, "warmed_up", decay)
    torch.manual_seed(0)
    stage = Stage(replace(DEFAULTS["base"], unet=TINY))
    settings = TrainConfig(steps=100, batch=2, warmup_steps=10, decay_fraction=0.4, clip_norm=0.01)
    reports = list(loop.train(stage, Scenes(16), TextEncoder(), settings))
    patch.undo()
    return [r["lr_factor"] for r in reports], met, norms, decays


def test_the_rate_warms_up_holds_and_ends_at_zero(run):
    rates, met, _, _ = run
    expected = [min((k + 1) / 10, 1.0, (1 - k / 100) / 0.4) for k in range(100)]
    assert rates == pytest.approx(expected)
    assert rates[0] == pytest.approx(0.1) and rates[10:60] == [1.0] * 50
    steps_down = [a - b for a, b in zip(rates[61:], [*rates[62:], 0.0], strict=True)]
    assert steps_down == pytest.approx([0.025] * 39), "a straight line to zero at the end"
    assert met == pytest.approx([0.02 * r for r in rates]), "the optimizers take it"


def test_a_young_average_forgets_faster(run):
    *_, decays = run
    assert decays == pytest.approx([min(0.995, (1 + n) / (10 + n)) for n in range(1, 101)])


def test_the_gradients_of_all_parameters_together_are_clipped(run):
    _, _, norms, _ = run
    assert norms == pytest.approx([0.01] * 100, rel=1e-3)


class OnePicture:
    """A data set in which nothing varies, so that only the noise does."""

    identity = "one"

    def __len__(self):
        return 1

    def batch(self, indices):
        return torch.full((len(indices), 3, 8, 8), 0.5), ["a cat"] * len(indices)


def test_every_step_and_every_seed_has_its_own_noise():
    def losses(seed):
        torch.manual_seed(0)
        stage = Stage(replace(DEFAULTS["base"], unet=TINY))
        settings = TrainConfig(steps=6, batch=2, lr=1e-12, muon_lr=1e-12, seed=seed)
        return [r["loss"] for r in loop.train(stage, OnePicture(), TextEncoder(), settings)]

    first, again, other = losses(3), losses(3), losses(4)
    assert first == again, "a run is a function of its settings"
    assert len({round(x, 6) for x in first + other}) == 12
