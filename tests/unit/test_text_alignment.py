"""data/build/text_alignment.py, the text encoder's last lesson: which captions it compares, what it may read."""

import importlib.util
import random
import sys
from pathlib import Path

import pytest
import torch
from transformers import T5Config, T5EncoderModel

from minimagen.assets import CASCADE, DEFAULT_ENCODER
from minimagen.config import VOCABULARIES
from minimagen.evaluation.suites import SUITES, suite
from minimagen.scenes import Scene, Thing, objects
from minimagen.stage import Stage
from minimagen.text import TextEncoder
from minimagen.unet import Attention

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


def lesson_of(seed=3):
    base = Stage.load(CASCADE / "base").requires_grad_(False)
    encoder = TextEncoder(cache_size=0)
    return alignment.Lesson(encoder, DEFAULT_ENCODER, base, seed, images=8)


@pytest.fixture(scope="module")
def lesson():
    return lesson_of()


@pytest.mark.parametrize(
    "text, things, language",
    [
        ("a cat on the grass", ["cat"], "en"),
        ("three cats in the snow", ["cat"] * 3, "en"),
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
        ours, theirs = ([w for w in some if w not in ("a", "an")] for some in words)
        assert ours == theirs
        new = exchange.other[a:b]
        held_out = {
            w for r in row for k in ("en", "plural", "zh") for w in r["synonyms"].get(k, [])
        }
        assert exchange.held_out == (new in held_out), exchange
        if words[0] and words[0][-1] in ("a", "an"):
            names = alignment.other_names(row[0]["key"], "en") + alignment.synonyms(
                row[0]["key"], "en"
            )
            names += alignment.other_names(row[-1]["key"], "en") + alignment.synonyms(
                row[-1]["key"], "en"
            )
            assert (words[0][-1], new) in {(article, name) for article, name, _ in names}


def test_a_name_that_stands_there_twice_is_left():
    assert (
        alignment.renamed(caption("云中，一朵云", "cloud", language="zh"), random.Random(0)) is None
    )


def test_a_misspelt_word_is_found():
    known = caption("a penguin on the beach at night", "penguin")
    for seed in range(40):
        exchange = alignment.misspelt(known, random.Random(seed))
        assert exchange.other != known.text and not exchange.held_out
        (start, end), (a, b) = exchange.known_at, exchange.other_at
        assert known.text[:start] == exchange.other[:a] and known.text[end:] == exchange.other[b:]
        assert " " not in known.text[start:end] != exchange.other[a:b]
    assert alignment.misspelt(caption("a cat", "cat"), random.Random(0)) is None


def test_tokens_around_the_word_are_mapped_to_themselves(lesson):
    """But for articles: "an owl" for "a cat". A rare word may begin with a token of its own for the space."""
    mapped, dropped = 0, 0
    for e in lesson.captions.exchanged(600):
        other, known = lesson.tokenizer.encode_batch([e.other, e.caption.text])
        found = alignment.token_map(other, e.other_at, known, e.known_at)
        if found is None:
            dropped += 1
            continue
        mapped += 1
        for i, (k, within) in enumerate(zip(*found, strict=True)):
            start, end = known.offsets[k]
            if within:
                assert (start < e.known_at[1] and end > e.known_at[0]) or known.tokens[k] == "▁"
            elif {other.tokens[i], known.tokens[k]} - {"▁a", "▁an", "▁some"}:
                assert other.ids[i] == known.ids[k] or "一" in known.tokens[k], e
    assert mapped > 550 > 20 > dropped


def test_a_word_of_three_tokens_stands_for_one(lesson):
    other, known = lesson.tokenizer.encode_batch(["a polar bear in the snow", "a cat in the snow"])
    index, inside = alignment.token_map(other, (2, 12), known, (2, 5))
    assert [known.tokens[i] for i in index] == [*["▁a"], *["▁cat"] * 3, *known.tokens[2:]]
    assert inside == [False, True, True, True, False, False, False, False]
    # no word where the other has one: nothing to compare
    assert alignment.token_map(other, (2, 12), known, (0, 0)) is None


def test_what_a_layer_adds_is_what_attended_says(lesson):
    unet = Stage.load(CASCADE / "base").unet
    text, mask = TextEncoder(cache_size=0)(["a cat in the snow", "a dog"])
    for layer in (m for m in unet.modules() if isinstance(m, Attention)):
        x = torch.randn(2, layer.to_q.in_features, 4, 4, generator=torch.Generator().manual_seed(1))
        pixels = layer.norm(x).permute(0, 2, 3, 1).flatten(1, 2)
        with torch.no_grad():
            added = alignment.attended(layer, pixels[:, 3:5], pixels, text, mask)
            found = layer(x, text, mask).flatten(2)[..., 3:5] / layer.scale - x.flatten(2)[..., 3:5]
        assert torch.allclose(added.transpose(1, 2), found, atol=1e-4)


def test_no_sentence_of_a_suite_and_no_held_out_word_is_read_through_the_base(lesson, monkeypatch):
    """Held-out words are in pairs of texts alone; what the base reads has none that its own captions have not."""
    asked = {p.text for v in VOCABULARIES for name in SUITES for p in suite(name, v)}
    words = {w for r in objects().values() for w in r["synonyms"]["en"]}
    exchanged, read = [], []
    draw = lesson.captions.exchanged
    monkeypatch.setattr(
        lesson.captions, "exchanged", lambda n: exchanged.extend(draw(n)) or exchanged[-n:]
    )
    monkeypatch.setattr(
        lesson, "reading", lambda new, known: read.append(len(new[0])) or new[0].square().mean()
    )
    losses = lesson.losses(with_reading=True)
    parts = {f"reading of {part}" for part in alignment.READING_WEIGHTS}
    assert set(losses) == {*alignment.EMBEDDING_WEIGHTS, *parts}
    others = [e for e in exchanged if not e.held_out]
    assert 0 < len(others) < len(exchanged)
    assert len(others) - 5 <= read[0] <= len(others)
    assert read[1:] == [alignment.REWORDED, alignment.KEPT]
    for e in draw(3000):
        assert {e.caption.text, e.other}.isdisjoint(asked)
        new = e.other[slice(*e.other_at)]
        assert e.held_out or new not in words, e
    assert lesson.captions.allowed("a cat") and not lesson.captions.allowed("A frog in space!")


def test_the_encoder_itself_has_no_error_where_words_are_kept(lesson):
    with torch.no_grad():
        losses = lesson.losses(with_reading=True)
    assert losses["kept"] == 0 and losses["reading of kept"] == 0
    assert all(losses[name] > 0 for name in ("noun", "reading of names", "reading of reworded"))


def test_it_learns_and_says_whom_it_fits(tmp_path, monkeypatch, capsys):
    lesson = lesson_of()
    bias = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    before = {name: weight.clone() for name, weight in lesson.model.state_dict().items()}
    ticks = iter(range(1000))
    monkeypatch.setattr(alignment.time, "monotonic", lambda: next(ticks))
    lesson.captions.rng.seed(1)
    alignment.train(lesson, 9, 3e-4, with_reading=False)
    after = lesson.model.state_dict()
    assert torch.equal(after[bias], before[bias])
    assert not torch.equal(after["shared.weight"], before["shared.weight"])
    assert "step 1, " in capsys.readouterr().out
    errors = []
    for weights in (before, after):
        same = lesson_of()
        same.model.load_state_dict(weights)
        same.captions.rng.seed(1)  # captions that it has learned from
        with torch.no_grad():
            errors.append(same.losses(with_reading=False)["noun"].item())
    assert errors[1] < errors[0]
    alignment.save(lesson.model, DEFAULT_ENCODER, "that of its teacher", tmp_path)
    found = TextEncoder(tmp_path)
    assert found.fits("that of its teacher")
    states, mask = found(["a cat", "一只猫"])
    assert states.isfinite().all() and mask.any(1).all()


def test_another_teacher_than_the_bases_is_refused(tmp_path, monkeypatch, capsys):
    T5EncoderModel(T5Config(vocab_size=9000, d_model=32, num_layers=1)).save_pretrained(tmp_path)
    TextEncoder(cache_size=0).tokenizer.save_pretrained(tmp_path)
    told = ["x", "--teacher", str(tmp_path), "--out", str(tmp_path / "out"), "--minutes", "1"]
    monkeypatch.setattr(sys, "argv", told)
    with pytest.raises(SystemExit):
        alignment.main()
    assert "give the one that it was trained with" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
