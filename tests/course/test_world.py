"""Your world: what can be chosen, what training never shows, what is kept, and what goes on."""

import pytest
import torch
from PIL import Image

from minimagen.course import world
from minimagen.course.world import NEVER, PLACES, choose, chosen, enlarge, poster
from minimagen.errors import UserError
from minimagen.stage import Stage
from minimagen.training.owner import sole_owner

SIX = ("dragon", "castle", "rocket", "snowman", "pizza", "owl")


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    monkeypatch.setenv("MINIMAGEN_WORK", str(tmp_path))


def test_what_is_chosen_is_remembered():
    assert chosen().things == world.DEFAULT
    assert choose(*SIX).things == SIX
    assert chosen() == choose("a dragon", "城堡", "Rocket", "snowmen", "比萨", "the owl")
    assert chosen().things == SIX


@pytest.mark.parametrize(
    "names, sentence",
    [
        (("cat",), "six different things, not 1"),
        (("cat", "cat", "dog", "pig", "car", "sun"), "six different things, not 5"),
        (("ct", "cat", "dog", "pig", "car", "sun"), "did you mean cat"),
        (("qqqq", "cat", "dog", "pig", "car", "sun"), "no pictures of 'qqqq': choose from"),
    ],
)
def test_a_wrong_choice_gets_a_sentence(names, sentence):
    with pytest.raises(UserError, match=sentence):
        choose(*names)


def test_training_never_shows_the_two_pairs_that_sentences_ask_for():
    mine = choose(*SIX)
    scenes = [mine.scene(i)[0] for i in range(400)]
    shown = {(SIX.index(s.things[0].key), PLACES.index(s.place)) for s in scenes}
    assert len(shown) == 22 and not shown & set(NEVER)
    asks = mine.sentences()
    assert len({a.text for a in asks}) == 10
    pairs = [(SIX.index(a.asked.things[0].key), PLACES.index(a.asked.place)) for a in asks]
    assert {p for p, a in zip(pairs, asks, strict=True) if a.category == "new"} == set(NEVER)
    assert {p[0] for p in pairs} == set(range(6)) and {p[1] for p in pairs} == set(range(4))


def test_a_picture_depends_on_its_number_alone():
    mine = choose()
    together, captions = mine.batch([3, 4], 64)
    alone, caption = mine.batch([4], 64)
    assert together[1].equal(alone[0]) and captions[1] == caption[0]
    small, _ = mine.batch([4], 16)
    assert (torch.nn.functional.avg_pool2d(alone, 4) - small).abs().max() < 0.02


def test_the_judge_reads_real_pictures_and_refuses_others():
    mine = choose()
    asks = mine.sentences()
    real, _ = mine.batch(range(4), 64)
    assert not any(mine.judge(torch.zeros(4, 3, 64, 64), asks[:4]))
    told = [mine.scene(i)[0] for i in range(4)]
    assert [s.place for s in mine.reads(real)] == [t.place for t in told]
    assert [s.things[0].key for s in mine.reads(real)] == [t.things[0].key for t in told]


def test_a_stage_is_trained_kept_and_not_trained_again(capsys):
    mine = choose()
    assert not mine.is_trained("base")
    mine.train("base", "quick")
    assert not mine.is_trained("base")  # nothing is kept
    mine.stage("base")
    assert "base is ≈ shipped" in capsys.readouterr().out
    texts = [a.text for a in mine.sentences()][:2]
    done = mine.train("base", steps=4, watch=texts)
    assert done.finished and done.seen == 4 * world.RECIPES["base"].batch and len(done.losses) == 4
    kept = Stage.load(mine.folder / "base")
    assert all(
        a.equal(b) for a, b in zip(kept.parameters(), mine.stage("base").parameters(), strict=True)
    )
    assert "base is ≈ yours" in capsys.readouterr().out
    again = mine.train("base", steps=4)
    assert again.losses == done.losses and [s for s, _ in again.shots] == [s for s, _ in done.shots]
    assert choose(*SIX).is_trained("base") is False  # another world


def test_a_training_that_was_stopped_goes_on(monkeypatch, capsys):
    mine = choose()
    real = world.train

    def stopped(*args, **kwargs):
        for row in real(*args, **kwargs):
            yield row
            if row["step"] == 2:
                raise KeyboardInterrupt

    monkeypatch.setattr(world, "TrainConfig", lambda **k: _every_step(**k))
    monkeypatch.setattr(world, "train", stopped)
    first = mine.train("base", steps=4)
    assert not first.finished and not mine.is_trained("base")
    assert "goes on" in capsys.readouterr().out
    monkeypatch.setattr(world, "train", real)
    second = mine.train("base", steps=4)
    # the step whose row was the last may be done again: its checkpoint comes after it
    assert second.finished and len(second.losses) in (2, 3) and mine.is_trained("base")


def _every_step(**settings):
    from minimagen.config import TrainConfig

    return TrainConfig(**{**settings, "checkpoint_minutes": 0})


def test_likeness_and_enlarging():
    mine = choose()
    shipped = mine.likeness("sr64", count=4)
    assert 0.2 < shipped["likeness"] < 1 and shipped["error"] < shipped["bilinear"]
    small, captions = mine.batch(range(2), 16)
    large = enlarge(mine.stage("sr64"), small, captions)
    assert large.shape == (2, 3, 64, 64)


def test_a_poster(tmp_path):
    asks = choose().sentences()
    own, shipped = torch.full((10, 3, 8, 8), -1.0), torch.ones(10, 3, 8, 8)
    poster(own, shipped, asks, tmp_path / "poster.png")
    image = Image.open(tmp_path / "poster.png")
    assert image.text["Source"] == "AI-generated" and asks[9].text in image.text["Prompt"]
    rows = [image.getpixel((2, y * 12 + 2)) for y in range(4)]
    assert rows == [(0, 0, 0), (255, 255, 255)] * 2


@pytest.mark.parametrize("again", [False, True])
def test_a_run_that_is_going_on_is_left_alone(again):
    """Neither a second training nor `again` removes a folder that another run writes."""
    mine = choose()
    state = mine.folder / "base" / "state.safetensors"
    state.parent.mkdir(parents=True)
    state.write_bytes(b"of the other run")
    with sole_owner(state.parent), pytest.raises(UserError):
        mine.train("base", steps=4, again=again)
    assert state.read_bytes() == b"of the other run"
