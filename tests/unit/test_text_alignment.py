"""data/build/text_alignment.py, the text encoder's last lesson: which captions it compares, what it may read."""

import importlib.util
import random
import sys
from pathlib import Path

import pytest
import torch

from minimagen.assets import DEFAULT_ENCODER
from minimagen.scenes import Scene, Thing, objects
from minimagen.text import TextEncoder

ROOT = Path(__file__).resolve().parents[2]
spec = importlib.util.spec_from_file_location(
    "text_alignment", ROOT / "data/build/text_alignment.py"
)
alignment = importlib.util.module_from_spec(spec)
sys.modules["text_alignment"] = alignment  # dataclasses and NamedTuples look for their module
spec.loader.exec_module(alignment)


def caption(text, *things, language="en"):
    asked = Scene(tuple(Thing(key) for key in things))
    return alignment.Caption(asked, asked, text, language, random.Random(0))


@pytest.fixture(scope="module")
def lesson():
    return alignment.Lesson(DEFAULT_ENCODER, DEFAULT_ENCODER, seed=3)


@pytest.mark.parametrize(
    "text, things, language",
    [
        ("a cat on the grass", ["cat"], "en"),
        ("Three cats in the snow", ["cat"] * 3, "en"),
        ("a red apple and an owl", ["apple", "owl"], "en"),
        ("雪地里有一只猫", ["cat"], "zh"),
    ],
)
def test_a_name_is_exchanged_and_nothing_else(text, things, language):
    for seed in range(60):
        exchange = alignment.renamed(caption(text, *things, language=language), random.Random(seed))
        (start, end), (a, b) = exchange.known_at, exchange.other_at
        row = [objects()[key] for key in things]
        assert text[start:end] in {r[k] for r in row for k in ("en", "plural", "zh")}
        assert (
            exchange.other[b:] == text[end:]
        )  # what follows is the same; before it, but for an article
        words = exchange.other[:a].split(), text[:start].split()
        assert words[0][:-1] == words[1][:-1] or language == "zh"
        new = exchange.other[a:b]
        held_out = {
            w for r in row for k in ("en", "plural", "zh") for w in r["synonyms"].get(k, [])
        }
        assert exchange.held_out == (new in held_out), exchange
        if words[0] and words[0][-1] in ("a", "an"):
            assert (words[0][-1] == "an") == (new[0].lower() in "aeiou"), exchange.other


def test_a_misspelt_word_is_found():
    known = caption("a penguin on the beach at night", "penguin")
    for seed in range(40):
        exchange = alignment.misspelt(known, random.Random(seed))
        assert exchange.other != known.text and not exchange.held_out
        (start, end), (a, b) = exchange.known_at, exchange.other_at
        assert known.text[:start] == exchange.other[:a] and known.text[end:] == exchange.other[b:]
        assert known.text[start:end] != exchange.other[a:b]


def test_tokens_are_mapped_part_by_part(lesson):
    known, other = "a cat in the snow", "a polar bear in the snow"
    tokens = lesson.tokenizer.encode_batch([other, known])
    index, inside = alignment.token_map(tokens[0], (2, 12), tokens[1], (2, 5))
    words = [tokens[1].tokens[i] for i in index]
    cat = tokens[1].tokens.index("▁cat")
    after = tokens[1].tokens[cat + 1 :]
    assert words[:cat] == tokens[1].tokens[:cat] and words[-len(after) :] == after
    assert len(words) > len(tokens[1].tokens)
    assert {w for w, within in zip(words, inside, strict=True) if within} == {"▁cat"}
    # no word where the other has one: nothing to compare
    assert alignment.token_map(tokens[0], (2, 12), tokens[1], (0, 0)) is None


def test_held_out_words_are_never_read_through_the_base(lesson, monkeypatch):
    """Their pairs are of text alone; further names, misspellings and version 3 are read through the base too."""
    seen = []
    encode = lesson.ids
    monkeypatch.setattr(lesson, "ids", lambda texts: seen.extend(texts) or encode(texts))
    exchanged = []
    draw = lesson.captions.exchanged
    monkeypatch.setattr(
        lesson.captions, "exchanged", lambda n: exchanged.extend(draw(n)) or exchanged[-n:]
    )
    read = []
    monkeypatch.setattr(
        lesson, "effect", lambda new, known: read.append(len(new[0])) or new[0].square().mean()
    )
    losses = lesson.losses(with_effect=True)
    assert set(losses) == {"noun", "others", "kept", *(f"effect of {x}" for x in alignment.EFFECT)}
    others = [e for e in exchanged if not e.held_out]
    assert 0 < len(others) < len(exchanged)
    assert read == [len(others), alignment.REWORDED, alignment.KEPT]
    # what `ids` encoded is the training captions of versions 1 to 3, whose tests exclude held-out words
    assert len(seen) == alignment.KEPT + 2 * alignment.REWORDED


def test_the_encoder_itself_has_no_error_where_words_are_kept(lesson):
    with torch.no_grad():
        losses = lesson.losses(with_effect=True)
    assert losses["kept"] == 0 and losses["effect of kept"] == 0
    assert all(losses[name] > 0 for name in ("noun", "effect of names", "effect of reworded"))


def test_it_learns_and_says_whom_it_fits(lesson, tmp_path, monkeypatch, capsys):
    bias = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    before = {name: weight.clone() for name, weight in lesson.model.state_dict().items()}
    ticks = iter(range(1000))
    monkeypatch.setattr(alignment.time, "monotonic", lambda: next(ticks))
    alignment.train(lesson, 6, 3e-4, with_effect=False)
    after = lesson.model.state_dict()
    assert torch.equal(after[bias], before[bias])
    assert not torch.equal(after["shared.weight"], before["shared.weight"])
    assert "step 1, " in capsys.readouterr().out
    alignment.save(lesson.model, DEFAULT_ENCODER, lesson.teacher.fingerprint, tmp_path)
    found = TextEncoder(tmp_path)
    assert found.fingerprint != lesson.teacher.fingerprint
    assert found.fits(lesson.teacher.fingerprint)
    states, mask = found(["a cat", "一只猫"])
    assert states.isfinite().all() and mask.any(1).all()
