"""Your world: what can be chosen, what training never shows, what is kept, and what goes on."""

import itertools
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch
from PIL import Image

from minimagen.course import poster as poster_module
from minimagen.course import world, world_training
from minimagen.course.world import NEVER, PLACES, choose, chosen, enlarge, poster
from minimagen.errors import UserError
from minimagen.stage import Stage
from minimagen.training.owner import sole_owner

SIX = ("dragon", "castle", "rocket", "snowman", "pizza", "owl")


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    monkeypatch.setenv("MINIMAGEN_WORK", str(tmp_path))
    monkeypatch.setenv("MINIMAGEN_BUDGET", "laptop")  # quick keeps nothing of a training


def test_what_is_chosen_is_remembered():
    assert chosen().things == world.DEFAULT
    assert choose(*SIX).things == SIX
    assert chosen() == choose("a dragon", "城堡", "Rocket", "snowmen", "比萨", "the owl")
    assert chosen().things == SIX


@pytest.mark.parametrize(
    "names, told",
    [
        (("cat",), "six different things, not 1: add 5"),
        ((*SIX, "cat"), "six different things, not 7: leave out 1"),
        (("cat", "cat", "dog", "pig", "car", "sun"), "'cat' and 'cat' are the same thing"),
        (("dog", "cat", "Puppy", "pig", "car", "sun"), "'dog' and 'Puppy' are the same thing"),
        (("ct", "cat", "dog", "pig", "car", "sun"), "no pictures of 'ct': did you mean cat"),
        (("Dinosor", "cat", "dog", "pig", "car", "sun"), "did you mean dinosaur"),
        (("一只猫", "cat", "dog", "pig", "car", "sun"), "did you mean 猫"),
        (("qqqq", "cat", "dog", "pig", "car", "sun"), "no pictures of 'qqqq': choose from cat, "),
        ((["cat", "dog"],), "by a text, choose"),
    ],
)
def test_a_wrong_choice_gets_a_sentence(names, told):
    with pytest.raises(UserError) as wrong:
        choose(*names)
    assert told in str(wrong.value) and "\n" not in str(wrong.value)
    assert chosen().things == world.DEFAULT  # nothing wrong is remembered


def test_a_remembered_choice_that_was_spoilt_is_the_courses():
    choose(*SIX)
    (world._home() / "chosen.json").write_text('{"things": ["cat"], "places": ["grass"]}')
    assert chosen().things == world.DEFAULT


def test_a_stage_that_does_not_exist_gets_a_sentence():
    with pytest.raises(UserError, match="no stage 'sr65': it is one of base, sr64, sr256"):
        choose().train("sr65")


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
    assert (
        done.finished
        and done.seen == 4 * world_training.RECIPES["base"].batch["quick"]
        and len(done.losses) == 4
    )
    kept = Stage.load(mine.folder / "base")
    assert all(
        a.equal(b) for a, b in zip(kept.parameters(), mine.stage("base").parameters(), strict=True)
    )
    assert "base is ≈ yours" in capsys.readouterr().out
    again = mine.train("base", steps=4)
    assert again.losses == done.losses and [s for s, _ in again.shots] == [s for s, _ in done.shots]
    assert choose(*SIX).is_trained("base") is False  # another world


def test_what_a_stopped_training_tells_in_the_end_is_of_all_its_pieces(monkeypatch, capsys):
    monkeypatch.setattr(world_training, "CHECKPOINT_MINUTES", 0)
    monkeypatch.setattr(world_training, "WATCHED", (0.25, 0.5, 1))
    mine, other = choose(), choose(*SIX)
    texts = [ask.text for ask in mine.sentences()][:2]
    real = world_training.train

    def stopped(*args, **kwargs):
        for row in real(*args, **kwargs):
            yield row
            if row["step"] == 3:
                time.sleep(0.5)
                raise KeyboardInterrupt

    monkeypatch.setattr(world_training, "train", stopped)
    first = mine.train("base", steps=4, watch=texts)
    assert not first.finished and not mine.is_trained("base")
    assert len(first.losses) == 3 and [seen for seen, _ in first.shots] == [32, 64]
    assert "goes on" in capsys.readouterr().out
    monkeypatch.setattr(world_training, "train", real)
    # the steps and the batch that it was begun with
    second = mine.train("base", "gpu", steps=9, watch=texts)
    assert second.finished and mine.is_trained("base")
    assert second.seen == 4 * 32 and len(second.losses) == 4
    # step 3 is done again, its checkpoint would have come after it: the same loss, and no second time
    assert second.losses[:3] == first.losses
    assert [seen for seen, _ in second.shots] == [32, 64, 128]
    assert all(
        (a - b).abs().max() < 1e-3
        for (_, a), (_, b) in zip(first.shots, second.shots, strict=False)
    )
    kept = mine.train("base")
    assert kept.losses == second.losses and kept.seen == second.seen
    assert [seen for seen, _ in kept.shots] == [32, 64, 128]
    assert kept.seconds == pytest.approx(second.seconds, abs=0.1)
    assert {path.name for path in (mine.folder / "base").iterdir()} == {
        "config.json", "model.safetensors", "shots.safetensors", "trained.json"
    }  # fmt: skip
    assert not other.folder.exists()


def test_seconds_are_those_of_all_pieces(monkeypatch):
    monkeypatch.setattr(world_training, "CHECKPOINT_MINUTES", 0)
    mine, real = choose(), world_training.train

    def slow_and_stopped(*args, **kwargs):
        for row in real(*args, **kwargs):
            if row["step"] == 3:  # the checkpoint of step 2 knows of both seconds
                raise KeyboardInterrupt
            time.sleep(1)
            yield row

    monkeypatch.setattr(world_training, "train", slow_and_stopped)
    mine.train("base", steps=3)
    monkeypatch.setattr(world_training, "train", real)
    assert mine.train("base").seconds > 2


BACKGROUND = """
from minimagen.course import world_training
from minimagen.course.world import chosen
world_training.CHECKPOINT_MINUTES = 0
chosen().train("base", steps=24)
"""


def test_two_notebooks_and_a_process_that_was_killed(tmp_path, monkeypatch):
    """The second one gets a sentence; once the first is killed, it goes on to the same losses, none left out."""
    mine = choose()
    log = mine.folder / "base" / world_training.LOG
    with subprocess.Popen([sys.executable, "-c", BACKGROUND], env=os.environ) as other:
        try:
            end = time.monotonic() + 120
            while not (log.is_file() and log.read_text().count("\n") >= 3):
                assert other.poll() is None and time.monotonic() < end
                time.sleep(0.05)
            with pytest.raises(UserError, match="your base is being trained by another notebook"):
                mine.train("base", steps=24)
            with pytest.raises(UserError, match="your base is being trained by another notebook"):
                mine.train("base", again=True)
        finally:
            other.send_signal(signal.SIGKILL if os.name != "nt" else signal.SIGTERM)
    before = [row["loss"] for row in world_training.read_log(log)]
    result = mine.train("base")
    assert result.finished and len(result.losses) == 24 and result.seen == 24 * 32
    begun = len(before) - 1  # the checkpoint of the last line may not have been written
    assert result.losses[:begun] == before[:begun]


def test_a_run_killed_before_its_last_words_is_ended_by_the_next(monkeypatch):
    mine = choose()

    def killed(*args):
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(world_training, "write_json", killed)
        with pytest.raises(SystemExit):
            mine.train("base", steps=3)
    assert not mine.is_trained("base")
    result = mine.train("base")
    assert mine.is_trained("base") and len(result.losses) == 3 and result.seconds > 0


@pytest.mark.parametrize("wrong", ["layers", "file"])
def test_a_run_that_can_not_go_on_says_how_to_begin_anew(monkeypatch, wrong):
    mine = choose()

    def stopped(*args, **kwargs):
        yield from itertools.islice(real(*args, **kwargs), 1)
        raise KeyboardInterrupt

    real = world_training.train
    with monkeypatch.context() as patch:
        patch.setattr(world_training, "train", stopped)
        mine.train("base", steps=2)
    stage = mine.new_stage("base")
    if wrong == "layers":
        config = replace(stage.config.unet, embedding=64)
        stage = Stage(replace(stage.config, unet=config))
    else:
        (mine.folder / "base" / "state.safetensors").write_bytes(b"spoilt")
    with pytest.raises(UserError, match=r'train\("base", again=True\) begins anew') as told:
        mine.train("base", stage=stage)
    assert "\n" not in str(told.value)
    assert mine.train("base", steps=2, again=True).finished


def test_likeness_and_enlarging():
    mine = choose()
    shipped = mine.likeness("sr64", count=4)
    assert 0.2 < shipped["likeness"] < 1 and shipped["error"] < shipped["bilinear"]
    small, captions = mine.batch(range(2), 16)
    sr64 = mine.stage("sr64")
    large = enlarge(sr64, small, captions)
    assert large.shape == (2, 3, 64, 64)
    # without words: none are heard, and a guidance of 0 is not the same as none
    deaf = enlarge(sr64, small, None)
    assert not deaf.equal(large)
    sr64.config = replace(sr64.config, guidance=1.0)
    told = enlarge(sr64, small, captions)
    sr64.config = replace(sr64.config, guidance=0.0)
    assert not enlarge(sr64, small, captions).allclose(told, atol=1e-3)
    assert enlarge(sr64, small, captions).allclose(deaf, atol=1e-4)  # all of it unconditional


@pytest.mark.parametrize("chinese", [True, False])
def test_a_poster(tmp_path, monkeypatch, chinese):
    if not chinese:  # a machine without a font for it: the sentence stands there in English
        monkeypatch.setattr(poster_module, "_chinese", lambda: None)
    asks = choose(*SIX).sentences()
    own = torch.linspace(-1, 1, 10).reshape(10, 1, 1, 1).expand(10, 3, 8, 8)
    sheet = poster(own, -own, asks, tmp_path / "poster.png")
    image = Image.open(tmp_path / "poster.png")
    assert image.size == sheet.size and image.text["Source"] == "AI-generated"
    assert image.text["Prompt"] == " | ".join(ask.text for ask in asks)
    # the ten in their order, five a row; the shipped ones in one row beneath, in the same order
    large = [(56 + i % 5 * 274 + 128, 168 + i // 5 * 308 + 128) for i in range(10)]
    small = [
        (round(56 + i * (1352 - 122) / 9) + 61, 168 + 2 * 308 + 18 + 40 + 61) for i in range(10)
    ]
    levels = [round(i * 255 / 9) for i in range(10)]
    assert [image.getpixel(at)[0] for at in large] == pytest.approx(levels, abs=1)
    assert [image.getpixel(at)[0] for at in small] == pytest.approx(levels[::-1], abs=1)
    texts = [poster_module._sentence(ask) for ask in asks]
    assert texts[0][0] == "a dragon on the grass"
    if not chinese:
        assert texts[4][0] == "a pizza on the beach"
    assert all(font.getlength(text) <= 270 for text, font in texts)


def test_a_long_sentence_of_a_poster_is_written_smaller():
    ask = choose("fire truck", *SIX[1:]).sentences()[0]
    long = replace(ask, text="a bunch of cherries on the beach at night")
    text, font = poster_module._sentence(long)
    assert text == long.text and font.size < 19 and font.getlength(text) <= 270


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
