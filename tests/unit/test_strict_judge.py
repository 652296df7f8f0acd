"""The strict judge may say that it knows no such object, and what it learns that from is real pictures, spoiled."""

import importlib.util
import json
import random
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from minimagen.assets import DATA
from minimagen.evaluation import alignment
from minimagen.evaluation import judge as module
from minimagen.evaluation.alignment import evaluate, joint_accuracy
from minimagen.evaluation.judge import UNKNOWN, Judge
from minimagen.images import to_tensor
from minimagen.scenes import Scenes
from minimagen.scenes.artwork import draw

FILE = DATA / "build" / "spoil.py"
spec = importlib.util.spec_from_file_location("spoil", FILE)
assert spec is not None and spec.loader is not None
spoil = importlib.util.module_from_spec(spec)
spec.loader.exec_module(spoil)


def strict_like(name: str, doubt: float) -> Judge:
    """A strict judge that reads as a shipped one does, and doubts as told."""
    plain = Judge.load(name)
    strict = Judge(plain.objects, looks=plain.looks, doubt=doubt)
    for key, own in strict.state_dict().items():
        if key.startswith("key_value_of_detail"):
            own.zero_()
        elif not key.startswith("detail"):
            other = plain.state_dict()[key]
            own.copy_(other) if own.shape == other.shape else own[: len(other)].copy_(other)
    return strict.eval()


def batch(count: int = 24, vocabulary: str = "whole"):
    scenes = Scenes(64, "all", vocabulary, seed=7)
    return torch.stack([scenes[i].image for i in range(count)])


def test_doubt_alone_decides_between_the_plain_judges_reading_and_unknown():
    images = batch()
    sure, never = strict_like("whole", -1e6), strict_like("whole", 1e6)
    assert sure.read(images) == Judge.load("whole").read(images)
    assert all(t.key == UNKNOWN for scene in never.read(images) for t in scene.things)
    assert sum(p.numel() for p in sure.parameters()) <= 1_000_000


def test_doubt_weighs_the_same_in_one_look_and_in_five():
    """All looks at one colour are the same: their sum is five times one of them, and so is the doubt."""
    judge, grey = strict_like("whole", 0.0), torch.zeros(1, 3, 64, 64)
    with torch.no_grad():
        keys = judge(grey)["key"].log_softmax(-1)[0, 0]
    missing = float(keys[:-1].max() - keys[-1])
    for looks in (1, 5):
        judge.looks = looks
        for share, unknown in ((0.95, False), (1.05, True)):
            judge.doubt = missing * share
            first = judge.read(grey)[0].things[0]
            assert (first.key == UNKNOWN) == unknown, (looks, share)


def test_a_saved_strict_judge_reads_as_before(tmp_path, monkeypatch):
    judge = strict_like("whole", 0.25)
    judge.save(tmp_path / "judge" / "strict")
    monkeypatch.setattr(module, "JUDGES", tmp_path / "judge")
    again = Judge.load("strict")
    assert again.doubt == 0.25 and again.read(batch()) == judge.half().float().read(batch())


def test_evaluate_reports_both_judges(tmp_path, monkeypatch):
    (tmp_path / "judge").mkdir()
    (tmp_path / "judge" / "starter").symlink_to(DATA / "judge" / "starter")
    for each in (alignment, module):
        monkeypatch.setattr(each, "JUDGES", tmp_path / "judge")
    monkeypatch.setattr(alignment, "joint_accuracy", partial(joint_accuracy, count=100))
    scenes = Scenes(64, "seen", languages=("en",), seed=1)

    def perfect(prompts, first):
        return torch.stack([scenes[first + i].image for i in range(len(prompts))])

    assert "alignment_strict" not in evaluate(perfect, "seen", samples=20)
    for doubt, expected in ((-1e6, 0.9), (1e6, 0.0)):
        strict_like("starter", doubt).save(tmp_path / "judge" / "strict")
        report = evaluate(perfect, "seen", samples=20)
        assert report["alignment"] >= 0.9
        assert report["alignment_strict"] == pytest.approx(expected, abs=0.1)
        low, high = report["interval_strict"]
        assert low <= report["alignment_strict"] <= high
        assert report["strict_joint_accuracy"] == pytest.approx(expected, abs=0.1)
        json.dumps(report)


def layers(count: int):
    """Scenes as layers, what is in them, and their pictures as they are drawn."""
    scenes, behind, layer, whole, images = Scenes(64, "all", "whole", seed=3), [], [], [], []
    for i in range(count):
        scene, *_, rng = scenes.describe(i)
        state = rng.getstate()
        b, x, which = spoil.parts(scene, rng)
        rng.setstate(state)
        images.append(to_tensor(draw(scene, rng, 64)))
        behind.append(torch.from_numpy(b).permute(2, 0, 1) / 255)
        layer.append(torch.from_numpy(x).permute(2, 0, 1) / 255)
        whole.append(sum(which) == len(scene.things))
    return torch.stack(behind), torch.stack(layer), torch.tensor(whole), torch.stack(images)


def test_the_layers_of_a_scene_make_its_picture():
    behind, layer, whole, images = layers(40)
    assert whole.any() and not whole.all()
    apart = (spoil.over(behind, layer) * 2 - 1 - images).abs().amax(dim=(1, 2, 3))
    assert (apart[whole] < 3 / 127.5).all()  # rounded one by one
    assert (apart < 3 / 127.5).float().mean() > 0.8  # or what stood in front now stands behind


def test_the_score_of_nothing_is_nought_and_grows_with_what_is_lost():
    behind, layer, _, _ = layers(16)
    clean, inside = spoil.over(behind, layer), layer[:, 3:]
    scores = torch.stack([
        spoil.score(clean, spoil.over(behind, spoil.blur(layer, s)), inside)
        for s in (0.01, 0.7, 1.5, 4.0)
    ])  # fmt: skip
    assert scores[0].max() < 0.01 and (scores.diff(dim=0) > 0).all()
    assert scores[1].median() < spoil.GONE < scores[3].min()


@pytest.mark.parametrize("kind", sorted({k.__name__ for k in spoil.KINDS}))
def test_every_kind_of_harm_changes_pictures_and_keeps_them_valid(kind):
    torch.manual_seed(0)
    behind, layer, whole, _ = layers(16)
    box = spoil._box(layer)
    other = spoil._others(layer, box, torch.arange(16))
    harmed = spoil.valid(getattr(spoil, kind)(spoil.Layer(layer, other, box, whole)))
    assert harmed.shape == layer.shape and harmed.isfinite().all()
    assert (harmed[:, :3] <= harmed[:, 3:] + 1e-6).all() and harmed.amin() >= 0
    assert (harmed - layer).abs().mean() > 1e-3


def test_the_first_share_of_a_batch_is_real_and_most_of_the_rest_is_not():
    torch.manual_seed(0)
    random.seed(0)
    behind, layer, whole, _ = layers(60)
    images, score = spoil.spoil(behind, layer, torch.arange(60), whole, share=0.7)
    assert images.shape == (60, 3, 64, 64) and images.isfinite().all()
    assert (score[:18] == 0).all() and (score[18:] > spoil.GONE).float().mean() > 0.4
    assert (score[18:] < spoil.MILD).any()  # harm that no one would mind


@pytest.mark.skipif(not (DATA / "judge" / "strict").is_dir(), reason="it is not shipped yet")
@pytest.mark.parametrize(
    "count, least", [(300, 0.965), pytest.param(1000, 0.98, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("size", (64, 256))
def test_the_shipped_strict_judge_is_right_on_real_pictures(size, count, least):
    assert joint_accuracy(Judge.load("strict"), "whole", size, count) >= least


@pytest.mark.skipif(not (DATA / "judge" / "strict").is_dir(), reason="it is not shipped yet")
def test_the_shipped_strict_judge_refuses_what_is_spoiled():
    torch.manual_seed(1)
    random.seed(1)
    judge, (behind, layer, whole, _) = Judge.load("strict"), layers(200)
    images, score = spoil.spoil(behind, layer, torch.arange(200), whole, share=1.0)
    refused = [any(t.key == UNKNOWN for t in scene.things) for scene in judge.read(images)]
    gone = torch.tensor(refused)[score > 0.7]
    assert gone.float().mean() > 0.8
    folder: Path = DATA / "judge" / "strict"
    assert sum(v.numel() for v in load_file(folder / "model.safetensors").values()) < 1_010_000
