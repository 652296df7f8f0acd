"""Figures: what is drawn, and that each carries its alt text."""

import pytest
import torch
from IPython import display

from minimagen.course import show


@pytest.fixture
def shown(monkeypatch):
    """What a notebook would show."""
    seen = []
    monkeypatch.setattr(display, "display", seen.append)
    return seen


def test_bars_stand_in_groups_over_their_labels(shown, monkeypatch):
    drawn = []
    monkeypatch.setattr(show, "png", lambda figure: drawn.append(figure) or b"\x89PNG\r\n\x1a\n")
    show.bars(["a", "b"], {"one": [1, 2], "two": torch.tensor([3, 4])}, "height", "two bars", 2.5)
    (axis,) = drawn[0].axes
    assert [bar.get_height() for bar in axis.patches] == [1, 2, 3, 4]
    assert [label.get_text() for label in axis.get_xticklabels()] == ["a", "b"]
    assert shown[0].alt == "two bars"


def test_a_strip_of_larger_pictures_is_wider(shown, monkeypatch):
    drawn = []
    monkeypatch.setattr(show, "png", lambda figure: drawn.append(figure) or b"\x89PNG\r\n\x1a\n")
    for size in (1.75, 3.5):
        show.strip([torch.zeros(3, 4, 4)] * 2, ["a", "b"], "two pictures", size=size)
    assert drawn[1].get_figwidth() == 2 * drawn[0].get_figwidth()


def test_a_prompt_box_draws_what_is_typed_and_stands_above_a_static_figure(shown, monkeypatch):
    import IPython

    monkeypatch.setattr(IPython, "get_ipython", object)
    wishes = []

    def draw(prompt, seed):
        wishes.append((prompt, seed))
        return {"base": torch.zeros(1, 3, 4, 4), "sr64": torch.zeros(1, 3, 16, 16)}

    show.ask(draw, "a cat", 2)
    words, number, button, view = shown[0].children
    assert wishes == [("a cat", 2)] and shown[1].alt == "a cat"
    words.value, number.value = 'a "big" dog', 5
    button.click()
    assert wishes[-1] == ('a "big" dog', 5)
    assert view.value.startswith('<img alt="a &quot;big&quot; dog" src="data:image/png;base64,')


def test_a_sheet_puts_pictures_in_rows_with_white_between():
    a, b, c = (torch.full((3, 4, 4), v) for v in (-1.0, 0.0, 0.5))
    one = show.sheet([a, b, c], 2)
    assert one.shape == (3, 12, 12)
    assert (one[:, 1:5, 1:5] == a).all() and (one[:, 1:5, 7:11] == b).all()
    assert (one[:, 7:11, 1:5] == c).all()
    assert (one[:, 6:, 6:] == 1).all() and (one[:, 0] == 1).all()


def test_curves_on_log_axes(shown, monkeypatch):
    drawn = []
    monkeypatch.setattr(show, "png", lambda figure: drawn.append(figure) or b"\x89PNG\r\n\x1a\n")
    for log in ("", "y", "xy"):
        show.curves([1, 10], {"one": [1, 100]}, "x", "y", "a line", log=log)
        (axis,) = drawn[-1].axes
        assert axis.get_xscale() == ("log" if "x" in log else "linear")
        assert axis.get_yscale() == ("log" if "y" in log else "linear")
