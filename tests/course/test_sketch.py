"""A sketch is text: each letter a pixel of its colour; what is painted comes back as such a text."""

import json
from html import unescape

import pytest
import torch

from minimagen.course import sketch, widgets


def test_letters_are_pixels():
    made = sketch.picture(sketch.CAT)
    assert made.shape == (3, 16, 16) and made.abs().max() <= 1
    sky = torch.tensor([120, 185, 250]) / 127.5 - 1
    torch.testing.assert_close(made[:, 0, 0], sky)
    grass = torch.tensor([90, 175, 70]) / 127.5 - 1
    torch.testing.assert_close(made[:, 15, 15], grass)
    assert len(made.flatten(1).unique(dim=1).T) == len(set(sketch.CAT) - {"\n"})


@pytest.mark.parametrize(
    "text, told",
    [
        ("s" * 16, "16 lines of 16 letters"),
        ("\n".join(["s" * 15] * 16), "16 lines of 16 letters"),
        (sketch.CAT.replace("k", "z"), "no colour has the letter 'z'"),
    ],
)
def test_what_is_no_sketch_is_said(text, told):
    with pytest.raises(ValueError, match=told):
        sketch.picture(text)


def test_the_canvas_holds_the_sketch_and_writes_into_the_box_of_its_cell():
    made = sketch.html(sketch.CAT, "a cat")
    held = json.loads(unescape(made.split("data-sketch='")[1].split("'></div>")[0]))
    assert held["text"] == sketch.CAT and held["colours"]["g"][0] == "grass"
    assert ".widget-textarea textarea" in made and "new Event(event, {bubbles: true})" in made


def test_what_is_typed_or_painted_is_the_picture(monkeypatch):
    monkeypatch.setattr(widgets, "can_show", lambda: False)
    monkeypatch.setattr(sketch, "strip", lambda *_, **__: None)
    canvas = sketch.Canvas(sketch.CAT, "a cat")
    assert canvas.picture().equal(sketch.picture(sketch.CAT))
    canvas.box = type("Box", (), {"value": "\n".join(["r" * 16] * 16)})()
    assert canvas.picture().flatten(1).std(dim=1).max() == 0
