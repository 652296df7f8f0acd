"""The two-step student of chapter 13: its adapter, and how near it comes to its teacher."""

import json

import pytest
import torch

from minimagen import Imagen
from minimagen.course import distilled
from minimagen.evaluation.judge import Judge
from minimagen.evaluation.suites import suite
from minimagen.samplers import ddim_step
from minimagen.stage import Stage, StageConfig
from minimagen.unet import UNetConfig


@pytest.fixture(scope="module")
def imagen():
    return Imagen.from_pretrained(stages=("base", "sr64")).eval()


@pytest.fixture
def small():
    torch.manual_seed(0)
    stage = Stage(
        StageConfig(unet=UNetConfig(channels=(32, 64), blocks=(1, 1), attention=("", "self")))
    )
    for parameter in stage.parameters():  # layers that begin at zero, too
        parameter.data += 0.05 * torch.randn_like(parameter)
    return stage.eval()


def given(n=2):
    text, mask = torch.randn(n, 5, 256), torch.ones(n, 5, dtype=torch.bool)
    return torch.randn(n, 3, 8, 8), torch.zeros(n), text, mask


def test_an_adapter_changes_nothing_at_first_and_alone_learns(small):
    before = given()
    own = distilled.adapted(small.unet, rank=3)
    assert torch.equal(own(*before), small.unet(*before))
    learning = {name for name, p in own.named_parameters() if p.requires_grad}
    assert learning and all(name.endswith((".down.weight", ".up.weight")) for name in learning)
    assert all(".layer." not in name for name in learning)
    assert sum(p.numel() for p in own.parameters() if p.requires_grad) < 0.3 * sum(
        p.numel() for p in small.unet.parameters()
    )


def test_what_is_saved_and_folded_in_is_what_was_trained(small, tmp_path):
    own = distilled.adapted(small.unet, rank=3)
    learned = {name: p for name, p in own.named_parameters() if p.requires_grad}
    for p in learned.values():
        p.data = 0.1 * torch.randn_like(p)
    distilled.save({name: p.detach() for name, p in learned.items()}, tmp_path)
    inputs = given()
    with torch.no_grad():
        wanted, before = own(*inputs), small.unet(*inputs)
        folded = distilled.load(small, tmp_path)
        made = folded.unet(*inputs)
        assert torch.equal(small.unet(*inputs), before)  # the teacher stays as it is
    assert (made - wanted).norm() < 0.05 * (wanted - before).norm()  # int8
    assert (wanted - before).norm() > 0.1 * before.norm()


def test_two_steps_are_those_of_the_sampler(small):
    x, _, text, mask = given()
    with torch.no_grad():
        first, half, end = distilled.two_steps(
            small.unet, x, text, mask, small.schedule(torch.tensor([1.0, 0.5]))
        )
        at = [z.expand(2) for z in small.schedule(torch.tensor([1.0, 0.5]))]
        torch.testing.assert_close(half, ddim_step(x, first, *at), atol=1e-5, rtol=1e-4)
        other = small.sample(x, text, mask, steps=2, sampler="ddim", threshold="none")
    torch.testing.assert_close(end.clamp(-1, 1), other, atol=1e-4, rtol=1e-4)


def test_the_second_step_starts_where_it_is_told(small):
    x, _, text, mask = given()
    half, choice = torch.randn_like(x), torch.tensor([True, False]).view(2, 1, 1, 1)
    levels = small.schedule(torch.tensor([1.0, 0.5]))
    start = distilled.two_steps(small.unet, x, text, mask, levels, half, choice)[1]
    assert torch.equal(start[0], half[0]) and not torch.equal(start[1], half[1])


def test_the_file_is_small():
    assert (distilled.FOLDER / distilled.FILE).stat().st_size < 300_000


def test_scores_say_what_was_promised():
    rows = json.loads((distilled.FOLDER / "scores.json").read_text(encoding="utf-8"))["rows"]
    for judge in ("whole", "strict"):
        own = rows["student, 2 steps"][judge]
        assert own > rows["teacher, 20 steps"][judge] - 0.15
        assert own > rows["teacher, 2 steps"][judge]


def right(imagen, stage, prompts, steps, guidance, enlarge, sampler="ddim"):
    """The share that the judge reads right: at 64×64, or of the starter set at 16×16."""
    judge = Judge.load("whole") if enlarge else Judge.load("starter", 16)
    hits, pictures = 0, []
    for first in range(0, len(prompts), 20):
        some = prompts[first : first + 20]
        seeds = range(first, first + len(some))
        text, mask = imagen.text_encoder([p.text for p in some])
        noise = imagen.noise(seeds, "base")[0]
        made = stage.sample(noise, text, mask, steps=steps, guidance=guidance, sampler=sampler)
        pictures.append(made)
        if enlarge:
            low = imagen.noise(seeds, "sr64")
            made = imagen.stage("sr64").sample(low[0], text, mask, made, low[1], guidance=2.0)
        read = judge.read(made)
        hits += sum(all(p.asked.asks(s).values()) for p, s in zip(some, read, strict=True))
    return hits / len(prompts), torch.cat(pictures)


def test_two_steps_of_the_student_are_near_its_teachers_twenty(imagen):
    prompts = suite("seen", "starter", 16, seed=11)
    base, own = imagen.stage("base"), distilled.load(imagen.stage("base"))
    teacher, pictures = right(imagen, base, prompts, 20, 4.0, False, "dpm_solver")
    hasty, _ = right(imagen, base, prompts, 2, 4.0, False)
    pale, faint = right(imagen, base, prompts, 2, 1.0, False)
    given, drawn = right(imagen, own, prompts, 2, 1.0, False)
    assert given > teacher - 0.15 and given > hasty
    assert (drawn - pictures).square().mean() < 0.95 * (faint - pictures).square().mean()


@pytest.mark.slow
def test_the_student_on_everything(imagen):
    prompts = suite("seen", "whole", 100, seed=11)
    base, own = imagen.stage("base"), distilled.load(imagen.stage("base"))
    teacher, _ = right(imagen, base, prompts, 20, 4.0, True, "dpm_solver")
    hasty, _ = right(imagen, base, prompts, 2, 4.0, True)
    given, _ = right(imagen, own, prompts, 2, 1.0, True)
    assert given > teacher - 0.15 and given > hasty
