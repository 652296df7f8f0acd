"""data/build/cascade.py, which trained the shipped stages on a GPU: its parts are the package's, faster."""

import copy
import importlib.util
import sys
from pathlib import Path

import pytest
import torch

from minimagen.stage import DEFAULTS, Stage
from minimagen.text import TextEncoder
from minimagen.training.optimizers import Muon
from minimagen.unet import Attention

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def cascade():
    spec = importlib.util.spec_from_file_location("cascade_build", ROOT / "data/build/cascade.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["cascade_build"] = module
    spec.loader.exec_module(module)
    return module


def test_its_text_encoder_is_the_courses(cascade):
    encoder = TextEncoder(cache_size=0)
    texts = [
        "a kitten playing on the grass",
        "一只小猫在草地上玩耍",
        "3d style, two red cars at night",
    ]
    tokens = encoder.tokenizer(
        texts, padding="max_length", max_length=cascade.TOKENS, return_tensors="pt"
    )
    states, mask = encoder(texts)
    plain = cascade.PlainT5(encoder)(tokens["input_ids"], tokens["attention_mask"].bool())
    assert (plain[:, : states.shape[1]] - states).abs().max() < 3e-3  # both are rounded to fp16
    assert not plain[:, states.shape[1] :].any()


def test_grouped_muon_is_muon(cascade):
    torch.manual_seed(0)
    shapes = [(32, 16, 3, 3), (16, 48), (32, 16, 3, 3), (64, 16)]
    ours = [torch.nn.Parameter(torch.randn(s)) for s in shapes]
    theirs = copy.deepcopy(ours)
    grouped, muon = cascade.GroupedMuon(ours, 0.02, 0.1), Muon(theirs, 0.02, 0.1)
    for factor in (0.5, 1.0, 0.25):
        for group in muon.param_groups:
            group["lr"] = 0.02 * factor
        for p, q in zip(ours, theirs, strict=True):
            p.grad = torch.randn_like(p)
            q.grad = p.grad.clone()
        grouped.step(torch.tensor(factor))
        muon.step()
    for p, q in zip(ours, theirs, strict=True):
        assert torch.allclose(p, q, atol=1e-5)


@pytest.mark.parametrize("kind", ["self", "cross"])
def test_half_attention_is_attention_in_full_precision(cascade, kind):
    torch.manual_seed(0)
    layer = Attention(64, 32, 16, kind, 0.7)
    torch.nn.init.normal_(layer.out.weight)
    x, text = torch.randn(2, 64, 4, 4), torch.randn(2, 5, 32)
    mask = torch.tensor([[True] * 5, [True, True, False, False, False]])
    expected = layer(x, text, mask)
    assert torch.allclose(cascade.half_attention(layer, x, text, mask), expected, atol=1e-5)


class Still:
    """A pool of one batch, which is always the same."""

    device = "cpu"

    def batch(self, n, crop):
        g = torch.Generator().manual_seed(0)
        mask = torch.zeros(n, 40, dtype=torch.bool)
        mask[:, :6] = True
        ids = torch.randint(5, 900, (n, 40), generator=g) * mask
        return torch.rand(n, 3, 16, 16, generator=g) * 2 - 1, ids, mask


def test_a_step_trains_and_the_average_follows(cascade):
    torch.manual_seed(0)
    encoder = TextEncoder(cache_size=0)
    recipe = cascade.Recipe(8, 8, 1.5, (32, 32), (1, 1), ("self", "self"), warmup=1, ema=0.5)
    stage = cascade.begin("base", recipe, None, encoder.fingerprint)
    assert stage.config.unet.channels == (32, 32) and stage.config.target == DEFAULTS["base"].target
    assert isinstance(stage, Stage)
    step = cascade.Step(stage, encoder, Still(), recipe)
    losses = []
    for i in range(30):
        torch.manual_seed(1)  # the same noise each time
        step(i / 100)
        losses.append(step.loss.item())
        step.loss.zero_()
    assert losses[-1] < 0.7 * losses[0]
    apart = [(p - e).abs().max().item() for p, e in zip(step.params, step.ema, strict=True)]
    assert 0 < max(apart) < 0.2
    assert torch.isclose(step.factor, torch.tensor(1.0))
    step.set(0.93)
    assert torch.isclose(step.factor, torch.tensor(0.1))  # (1 − 0.93) / 0.7: the decay ends at 0
    step.set(1.0)
    assert step.factor == 0
