"""The playground: what is pressed becomes a sentence, a sentence six pictures; a file keeps the first of them."""

import base64
import io
import warnings

import matplotlib.pyplot as plt
import pytest
import torch
from IPython import display
from PIL import Image

from minimagen.course import playground as module
from minimagen.course.folder import work
from minimagen.course.playground import Playground, playground
from minimagen.errors import TextWarning, UserError


@pytest.fixture
def made(monkeypatch):
    """A playground in a notebook, what it was asked to draw, and what it put into the file."""
    import IPython

    plt.close(plt.figure())  # it asks IPython for more than it finds below
    shown, asked = [], []
    monkeypatch.setattr(IPython, "get_ipython", object)
    monkeypatch.setattr(display, "display", lambda data, **more: shown.append((data, more)))

    def draw(words, seeds, watch):
        asked.append((words, list(seeds)))
        watch("base, step 1", torch.zeros(len(seeds), 3, 16, 16))
        return torch.stack([torch.full((3, 64, 64), seed / 20 - 1) for seed in seeds])

    one = Playground(draw, "a panda in the forest", 0, 6)
    one.show()
    return one, asked, shown


def test_the_file_keeps_six_pictures_and_no_code(made):
    _, asked, ((data, more),) = made
    assert asked == [("a panda in the forest", [0, 1, 2, 3, 4, 5])]
    assert data["text/plain"] == "[pictures of “a panda in the forest”, one a seed]"
    assert more["metadata"]["image/png"]["alt"] in data["text/plain"]
    still = Image.open(io.BytesIO(base64.b64decode(data["image/png"])))
    assert still.width > 5 * still.height > 500


def test_without_widgets_the_pictures_stand_by_themselves(monkeypatch):
    shown = []
    monkeypatch.setattr(display, "display", lambda data, **more: shown.append(data))
    Playground(lambda words, seeds, watch: torch.zeros(len(seeds), 3, 64, 64), "a cat").show()
    assert list(shown[0]) == ["image/png", "text/plain"]


def test_what_is_pressed_becomes_a_sentence_in_both_languages(made):
    one, *_ = made
    one.chosen["place"].value = "snow"
    assert one.text.value == "a panda in the forest"  # no thing yet: what was typed stays
    one.chosen["thing"].value = "elephant"
    one.chosen["colour"].value = "blue"
    assert one.text.value == "a blue elephant in the snow"
    one.chosen["number"].value = "2"
    assert one.text.value == "two blue elephants in the snow"
    one.languages.value = "zh"
    assert one.text.value == "两头蓝色的大象在雪地里" and one.chosen["place"].value == "snow"
    assert ("红色", "red") in one.chosen["colour"].options
    one.languages.value = "en"
    assert one.text.value == "two blue elephants in the snow"


def test_what_it_does_not_know_is_grey_and_said(made):
    one, *_ = made
    assert "line-through" not in one.told.value
    one.text.value = "a <unicorn> & a cat"
    assert "line-through' title='it does not know this'>unicorn</span>" in one.told.value
    assert "never seen a picture for: unicorn" in one.told.value
    assert "&lt;" in one.told.value and "<unicorn>" not in one.told.value
    one.text.value = "a kitten"
    assert "Will it draw “cat”?" in one.told.value and "line-through" not in one.told.value


def test_pictures_seeds_and_what_was_drawn_before(made):
    one, asked, _ = made
    assert one.view.value.count("<img") == 6 and one.past.value == ""
    one.text.value = '  a  "big" dog '
    one.go.click()
    assert asked[-1] == ('a "big" dog', [0, 1, 2, 3, 4, 5])
    assert "alt='a &quot;big&quot; dog, seed 5'" in one.view.value
    assert one.past.value.count("<img") == 6 and "a panda in the forest" in one.past.value
    one.other.click()
    assert asked[-1][1] == [6, 7, 8, 9, 10, 11] and "seed 11" in one.view.value
    assert "a &quot;big&quot; dog · seeds 0 to 5" in one.past.value
    assert "a panda" in one.past.value and one.past.value.count("<img") == 12
    for _ in range(20):
        one.go.click()
    assert one.past.value.count("<img") == 6 * module.REMEMBERED
    assert not one.go.disabled and one.go.description == "Draw 6"


def test_it_shows_how_a_picture_comes_about(made, monkeypatch):
    one, *_ = made
    monkeypatch.setattr(module, "EVERY", 0)
    seen = []
    one.view.observe(lambda change: seen.append(change["new"]), names="value")
    one.text.value = "a dog"
    one.go.click()
    assert "drawing: base, step 1" in seen[0] and "drawing" not in seen[-1]


def test_a_surprise_is_a_thing_in_a_place(made):
    one, asked, _ = made
    for _ in range(30):
        one.surprise.click()
        words, _ = asked[-1]
        assert one.chosen["thing"].value and words == one.text.value
        assert "line-through" not in one.told.value


def test_nothing_is_drawn_of_nothing(made):
    one, asked, _ = made
    one.text.value = "  "
    one.go.click()
    assert len(asked) == 1 and "Write what" in one.view.value


def test_what_it_reads_in_part_is_said_and_what_it_cannot_read_is_not_drawn(made):
    one, *_ = made

    def partly(words, seeds, watch):
        if words == "ы":
            raise UserError("the text encoder knows nothing in <this>")
        for _ in seeds:
            warnings.warn("never met 'ы'", TextWarning, stacklevel=1)
        return torch.zeros(len(seeds), 3, 64, 64)

    one.draw = partly
    one.text.value = "a cat ы"
    one.go.click()
    assert one.view.value.count("never met") == 1 and one.view.value.count("<img") == 6
    one.text.value = "ы"
    one.go.click()
    assert one.view.value == "<b>the text encoder knows nothing in &lt;this&gt;</b>"


def test_an_error_is_said_and_the_buttons_live_on(made):
    one, *_ = made

    def broken(words, seeds, watch):
        raise RuntimeError("no <memory>")

    one.draw, before = broken, one.words
    one.text.value = "a dog"
    one.go.click()
    assert "no &lt;memory&gt;" in one.view.value and not one.go.disabled
    assert one.words == before != "a dog", "the pictures to be kept are those of before"


def test_kept_pictures_say_what_they_show(made, monkeypatch, tmp_path):
    one, *_ = made
    monkeypatch.setenv("MINIMAGEN_WORK", str(tmp_path))
    one.text.value = "a dog/cat?"
    one.other.click()
    one.keep.click()
    files = sorted((work() / "pictures").glob("*.png"))
    assert len(files) == 6 and str(tmp_path) in one.view.value
    with Image.open(files[0]) as picture:
        info = picture.info
    assert info["Prompt"] == "a dog/cat?" and 6 <= int(info["Seed"]) <= 11
    assert info["Source"] == "AI-generated"


def test_the_cascade_is_asked_for_a_picture_a_seed(monkeypatch):
    calls = []

    class Cascade:
        text_encoder = None

        def generate(self, prompts, seeds, callback):
            calls.append((prompts, seeds))
            callback("base", 0, None, torch.zeros(2, 3, 16, 16))
            return {"base": None, "sr64": torch.zeros(2, 3, 64, 64)}

    monkeypatch.setattr(display, "display", lambda data, **more: None)
    playground(Cascade(), "a cat", seed=3, count=2)
    assert calls == [(["a cat", "a cat"], [3, 4])]
