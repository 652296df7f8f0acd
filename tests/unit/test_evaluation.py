"""The judge is right on real pictures, is not fooled, and the interval is Wilson's."""

from collections import Counter
from functools import partial

import pytest
import torch

from minimagen.evaluation import alignment
from minimagen.evaluation.alignment import confidence_interval, evaluate, joint_accuracy, wilson
from minimagen.evaluation.distance import frechet_distance
from minimagen.evaluation.judge import Judge
from minimagen.evaluation.suites import SUITES, suite
from minimagen.scenes import Scenes, grammar, objects


@pytest.fixture
def few(monkeypatch):
    """A report whose judge is measured on 100 images instead of 1,000."""
    monkeypatch.setattr(alignment, "joint_accuracy", partial(joint_accuracy, count=100))


@pytest.mark.parametrize(
    "count, least", [(300, 0.97), pytest.param(1000, 0.98, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize(
    "vocabulary, own, size",
    [("starter", 64, 64), ("starter", 64, 256), ("starter", 16, 16), ("whole", 64, 64), ("whole", 64, 256)],
)  # fmt: skip
def test_the_judge_is_right_on_real_pictures(vocabulary, own, size, count, least):
    judge = Judge.load(vocabulary, own)
    assert joint_accuracy(judge, vocabulary, size, count) >= least


def test_the_judge_reads_the_mean_of_each_square_of_pixels():
    judge, images = Judge.load("starter"), torch.rand(2, 3, 256, 256) * 2 - 1
    small = torch.nn.functional.avg_pool2d(images, 4)
    with torch.no_grad():
        torch.testing.assert_close(judge.embed(images), judge.embed(small), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("vocabulary", ("starter", "whole"))
def test_noise_blank_and_scrambled_pictures_score_at_chance(vocabulary):
    judge, prompts = Judge.load(vocabulary), suite("seen", vocabulary, count=150)
    scenes = Scenes(64, "seen", vocabulary, languages=("en",), seed=1)
    real = torch.stack([scenes[i].image for i in range(150)])
    scrambled = real.flatten(2)[:, :, torch.randperm(64 * 64)].reshape(real.shape)
    blank = torch.zeros_like(real) + torch.rand(150, 3, 1, 1) * 2 - 1
    for kind, images in (
        ("real", real),
        ("noise", torch.randn_like(real).clamp(-1, 1)),
        ("blank", blank),
        ("scrambled", scrambled),
    ):
        read = judge.read(images)
        share = sum(
            all(p.asked.asks(s).values()) for p, s in zip(prompts, read, strict=True)
        ) / len(prompts)
        assert share >= 0.95 if kind == "real" else share <= 0.02, (kind, share)


@pytest.mark.parametrize("name", SUITES)
def test_suites_are_fixed_and_have_their_language(name):
    first, again = suite(name, count=50), suite(name, count=50)
    assert first == again
    chinese = [any("\u4e00" <= c <= "\u9fff" for c in p.text) for p in first]
    if name not in ("drawbench", "everyday"):  # which have both
        assert all(chinese) if name == "chinese" else not any(chinese)


def test_words_prompts_never_use_the_names_of_training():
    for prompt in suite("words", count=200):
        for thing in prompt.asked.things:
            row = objects()[thing.key]
            assert any(s.split()[0][:4] in prompt.text for s in row["synonyms"]["en"]), prompt.text
            rest = prompt.text
            told = row["synonyms"]["en"] + row["synonyms"]["plural"]
            for synonym in sorted(told, key=len, reverse=True):  # "giant panda"
                rest = rest.replace(synonym, "")
            assert f" {row['en']} " not in f" {rest} ", prompt.text


def test_evaluating_the_real_pictures_gives_the_judges_own_accuracy(few):
    scenes = Scenes(64, "seen", languages=("en",), seed=1)

    def perfect(prompts, first):
        return torch.stack([scenes[first + i].image for i in range(len(prompts))])

    report = evaluate(perfect, "seen", samples=60)
    assert report["alignment"] >= 0.98 and report["by_category"]["named object"] >= 0.98
    low, high = report["interval"]
    assert low <= report["alignment"] <= high


def test_a_kind_of_prompt_and_an_attribute_are_counted_apart(few):
    def nothing(prompts, first):
        return torch.zeros(len(prompts), 3, 64, 64)

    report = evaluate(nothing, "drawbench", samples=16)  # two prompts of each kind
    assert report["by_category"]["style"] == 0  # on grey not even the object is right
    assert "named style" in report["by_category"]


@pytest.mark.parametrize(
    "hits, n, low, high",
    [
        (22, 22, 0.8513, 1.0),
        (194, 200, 0.9361, 0.9862),
        (45, 100, 0.3561, 0.5476),
        (0, 10, 0.0, 0.2775),
        (0, 0, 0.0, 1.0),
    ],
)
def test_intervals_are_wilsons(hits, n, low, high):
    assert wilson(hits, n) == pytest.approx((low, high), abs=1e-4)
    told = [True] * hits + [False] * (n - hits)
    assert confidence_interval(told) == pytest.approx((low, high), abs=1e-4)


def test_a_judge_is_measured_on_images_of_a_seed_of_their_own(monkeypatch):
    """Neither the suites', which have 1, nor the training's 0."""
    seen = []

    class Blind:
        def read(self, images):
            seen.append(images)
            return [scenes[i].scene for i in range(len(images))]

    scenes = Scenes(16, "seen", "whole", seed=2)
    assert joint_accuracy(Blind(), "whole", 16, 5) == 1.0
    assert torch.equal(torch.cat(seen), torch.stack([scenes[i].image for i in range(5)]))


def test_five_looks_are_the_image_and_it_moved_by_a_thirty_second_each_way(monkeypatch):
    judge, images, met = Judge.load("starter"), torch.rand(1, 3, 64, 64), []
    judge.looks, forward = 5, judge.forward
    monkeypatch.setattr(judge, "forward", lambda x: met.append(x.clone()) or forward(x))
    judge.read(images)
    kept = images[..., 2:-2, 2:-2]
    moved = {
        (y, x)
        for look in met
        for y in range(5)
        for x in range(5)
        if torch.equal(look[..., y : y + 60, x : x + 60], kept)
    }
    assert len(met) == 5 and moved == {(2, 2), (0, 2), (4, 2), (2, 0), (2, 4)}
    down = next(look for look in met if torch.equal(look[..., 2:, :], images[..., :-2, :]))
    edge = images[..., :1, :].expand(-1, -1, 2, -1)
    assert torch.equal(down[..., :2, :], edge), "beyond an edge its pixels are repeated"


def test_frechet_distance_equals_torchmetrics():
    class Features(torch.nn.Module):
        num_features = 8

        def forward(self, images):
            return images.flatten(1).float()[:, :8]

    from torchmetrics.image.fid import FrechetInceptionDistance

    generator = torch.Generator().manual_seed(0)
    a = torch.randn(200, 3, 4, 4, generator=generator) @ torch.rand(4, 4, generator=generator)
    b = 0.3 + 1.2 * torch.randn(150, 3, 4, 4, generator=generator)
    metric = FrechetInceptionDistance(feature=Features(), normalize=False).set_dtype(torch.float64)
    metric.update(a, real=True)
    metric.update(b, real=False)
    ours = frechet_distance(a.flatten(1)[:, :8], b.flatten(1)[:, :8])
    assert ours == pytest.approx(metric.compute().item(), rel=1e-5)
    assert frechet_distance(a.flatten(1)[:, :8], a.flatten(1)[:, :8]) == pytest.approx(0, abs=1e-6)


def test_drawbench_has_nine_categories_of_twenty_prompts_that_its_truth_fits():
    prompts = suite("drawbench", "whole", 180)
    counts = Counter(p.category for p in prompts)
    assert len(counts) == 9 and set(counts.values()) == {20}
    assert len({p.text for p in prompts}) == 180
    scenes, words = Scenes(vocabulary="whole"), grammar()
    for p in prompts:
        assert all(t.key in scenes.objects for t in p.asked.things), p
        assert p.asked.place in scenes.places and p.asked.style in (None, *scenes.styles), p
        assert all(t.colour in (None, *words["colours"]) for t in p.asked.things), p
        assert all(p.asked.asks(p.asked).values())
        if p.category in ("colours", "counting", "style", "conflicting"):  # named in plain words
            names = [objects()[t.key][k] for t in p.asked.things for k in ("en", "plural")]
            assert any(name in p.text for name in names), p
            assert any(place in p.text for place in words["places"][p.asked.place]["en"]), p
        if p.category == "rare words":
            synonyms = objects()[p.asked.things[0].key]["synonyms"]["en"]
            assert any(word in p.text for word in synonyms), p
        assert (p.category == "Chinese") == any("一" <= c <= "鿿" for c in p.text)
        if p.asked.arrangement == "row" and p.category == "positions":
            at = [p.text.index(objects()[t.key]["en"]) for t in p.asked.things]
            assert (at[0] < at[1]) == ("right" not in p.text), p
    starter = suite("drawbench", "starter", 158)
    assert {p.category for p in prompts} - {p.category for p in starter} == {"colours"}
    assert len({p.text for p in starter}) == 158  # each once before any comes again
    again = Counter(p.category for p in suite("drawbench", "starter", 237))  # half of them twice
    assert all(
        abs(again[k] - 1.5 * n) <= 1 for k, n in Counter(p.category for p in starter).items()
    )
    assert {p.category for p in suite("drawbench", "starter", 16)} == {p.category for p in starter}


def test_frechet_distance_of_single_numbers_is_the_closed_form():
    """N(m, s²) against N(m', s'²): (m − m')² + (s − s')²."""
    a = torch.randn(2000, 1, generator=torch.Generator().manual_seed(0))
    b = 3 + 2 * a  # the same cloud, moved and stretched: mean and deviation follow exactly
    expected = float((b.mean() - a.mean()) ** 2 + (b.std() - a.std()) ** 2)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-5)
