"""Figures: what is drawn, and that each carries its alt text."""

import base64
import io

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from IPython import display
from PIL import Image

from minimagen.course import show, wordmap
from minimagen.course.check import predict


@pytest.fixture
def shown(monkeypatch):
    """What a notebook would show: bundles of data, each with its metadata."""
    seen = []

    def keep(data, metadata=None, raw=False):
        assert raw and data["text/plain"].startswith("["), "a sentence where nothing can be drawn"
        seen.append((data, metadata))

    monkeypatch.setattr(display, "display", keep)
    return seen


@pytest.fixture
def drawn(monkeypatch):
    """The matplotlib figures that are shown."""
    figures = []
    monkeypatch.setattr(show.plt, "close", figures.append)
    return figures


def test_bars_stand_in_groups_over_their_labels(shown, drawn):
    show.bars(["a", "b"], {"one": [1, 2], "two": torch.tensor([3, 4])}, "height", "two bars", 2.5)
    (axis,) = drawn[0].axes
    assert [bar.get_height() for bar in axis.patches] == [1, 2, 3, 4]
    assert [label.get_text() for label in axis.get_xticklabels()] == ["a", "b"]
    ((data, metadata),) = shown
    assert data["text/plain"] == "[figure: two bars]"
    assert metadata["image/png"]["alt"] == "two bars"


def test_the_alt_text_stands_beneath_a_figure_too(shown, drawn):
    words = "a line that rises " * 12
    show.curves([1, 2], {"one": [1, 2]}, "x", "y", words.strip())
    (caption,) = drawn[0].texts
    assert caption.get_text().replace("\n", " ") == "A" + words.strip()[1:]
    eye = drawn[0].canvas.get_renderer()
    box = caption.get_window_extent(eye)
    assert box.width < drawn[0].bbox.width and box.y1 < drawn[0].axes[0].get_tightbbox(eye).y0
    show.strip([torch.zeros(3, 4, 4)], ["a"], "一只猫")  # the font would show empty boxes
    assert not drawn[1].texts


def test_a_page_is_as_wide_as_the_text_and_keeps_its_shape(shown):
    sheet = Image.new("RGB", (1464, 1038), "white")
    sheet.paste("red", (0, 0, 732, 1038))
    show.page(sheet, "a poster")
    ((data, metadata),) = shown
    assert data["text/plain"] == "[page: a poster]"
    assert metadata["image/png"] == {"alt": "a poster", "width": 752}
    seen = Image.open(io.BytesIO(base64.b64decode(data["image/png"])))
    assert seen.size == (940, 666) and seen.mode == "P"
    assert seen.convert("RGB").getpixel((10, 10)) == (255, 0, 0)
    assert seen.convert("RGB").getpixel((930, 10)) == (255, 255, 255)


def test_the_words_stand_below_labels_that_reach_out_of_the_figure(shown, drawn):
    figure, axis = plt.subplots(
        figsize=(9.4, 3)
    )  # no tight layout: the x label hangs over the edge
    axis.set(xlabel="distance", ylabel="pictures")
    axis.tick_params(labelsize=20)
    show.figure(figure, "bars of two heaps")
    (caption,) = figure.texts
    eye = figure.canvas.get_renderer()
    apart = axis.get_tightbbox(eye).y0 - caption.get_window_extent(eye).y1
    assert apart >= 0.08 * figure.dpi


def test_labels_of_bars_lie_flat_as_long_as_their_lines_are_short(shown, drawn):
    for label in ("fourth stage\nto 1024", "fourth stage to 1024"):
        show.bars([label] * 5, {"one": [1] * 5}, "height", "five bars")
    flat, upright = (f.axes[0].get_xticklabels()[0].get_rotation() for f in drawn)
    assert (flat, upright) == (0, 90)


def test_pixels_stay_sharp_where_there_is_room_and_are_averaged_where_not(shown):
    """A chequered picture of single pixels: black and white when large; grey all over when made small."""
    board = torch.ones(3, 256, 256)
    board[:, ::2, ::2] = board[:, 1::2, 1::2] = -1

    def tones(
        picture, size
    ):  # how many pixels of the drawing, without its edge, are neither dark nor light
        show.strip([picture], [""], "a board", columns=1, size=size)
        png = base64.b64decode(shown[-1][0]["image/png"])
        grey = np.asarray(Image.open(io.BytesIO(png)).convert("L")).astype(float)
        middle = grey[40:90, 40:90]
        return ((middle > 60) & (middle < 195)).mean()

    assert tones(board, 1.5) > 0.95
    assert tones(board[:, :16, :16], 1.5) < 0.05


def test_pictures_that_differ_by_little_are_shown_in_all_their_colours(shown):
    dice = torch.Generator().manual_seed(0)
    one = torch.rand(3, 64, 64, generator=dice) * 2 - 1
    for exact in (False, True):
        show.strip([one], ["one"], "a picture", size=3.0, exact=exact)
    few, all_of_them = (
        len(
            Image.open(io.BytesIO(base64.b64decode(data["image/png"])))
            .convert("RGB")
            .getcolors(10**6)
        )
        for data, _ in shown
    )
    assert few <= 128 and all_of_them > 4000  # 64 · 64 colours, and those of the letters


def test_a_strip_of_larger_pictures_is_wider(shown, monkeypatch):
    drawn = []
    monkeypatch.setattr(show, "png", lambda figure: drawn.append(figure) or b"\x89PNG\r\n\x1a\n")
    for size in (1.75, 3.5):
        show.strip([torch.zeros(3, 4, 4)] * 2, ["a", "b"], "two pictures", size=size)
    assert drawn[1].get_figwidth() == 2 * drawn[0].get_figwidth()


@pytest.fixture
def widgets(monkeypatch):
    """A notebook, and the widgets that it shows, by what `display` is told of them."""
    import IPython
    from ipywidgets import Widget

    monkeypatch.setattr(IPython, "get_ipython", object)
    made = []
    begin = Widget.__init__
    monkeypatch.setattr(
        Widget, "__init__", lambda self, **kwargs: made.append(self) or begin(self, **kwargs)
    )
    return lambda data: next(
        w
        for w in made
        if w.model_id == data["application/vnd.jupyter.widget-view+json"]["model_id"]
    )


def test_a_prompt_box_draws_what_is_typed_and_stands_above_a_static_figure(shown, widgets):
    wishes = []

    def draw(prompt, seed):
        wishes.append((prompt, seed))
        return {"base": torch.zeros(1, 3, 4, 4), "sr64": torch.zeros(1, 3, 16, 16)}

    show.ask(draw, "a cat", 2)
    (box, _), (_, metadata) = shown
    words, number, button, view = widgets(box).children
    assert wishes == [("a cat", 2)] and metadata["image/png"]["alt"] == "a cat"
    assert "VBox" not in box["text/plain"]
    words.value, number.value = 'a "big" dog', 5
    button.click()
    assert wishes[-1] == ('a "big" dog', 5)
    assert view.value.startswith('<img alt="a &quot;big&quot; dog" style="width: 512px;')


def test_a_prediction_is_its_sliders_value_and_a_file_keeps_a_sentence(shown, widgets, capsys):
    guess = predict("how many", low=0, high=20)
    ((data, _),) = shown
    assert data["text/plain"] == "[a slider from 0 to 20: run this cell to move it]"
    slider = widgets(data)
    assert (slider.min, slider.max, slider.step) == (0, 20, 1) and guess.value == 10
    slider.value = 7
    guess.reveal(3)
    assert capsys.readouterr().out.endswith("you said ≈ 7, and it is ≈ 3\n")


def test_frames_are_a_slider_above_a_strip(shown, monkeypatch):
    drawn = []
    monkeypatch.setattr(show, "png", lambda figure: drawn.append(figure) or b"")
    images = [torch.full((3, 4, 4), i / 5 - 1) for i in range(10)]
    show.frames(images, [f"t = {i}" for i in range(10)], "it fades", name="time")
    (live, _), (_, metadata) = shown
    assert "name&quot;: &quot;time&quot;" in live["text/html"]
    assert metadata["image/png"]["alt"] == "it fades"
    titles = [axis.get_title() for axis in drawn[0].axes]
    assert titles == ["t = 0", "t = 2", "t = 4", "t = 5", "t = 7", "t = 9"]


def test_a_sheet_puts_pictures_in_rows_with_white_between():
    a, b, c = (torch.full((3, 4, 4), v) for v in (-1.0, 0.0, 0.5))
    one = show.sheet([a, b, c], 2)
    assert one.shape == (3, 12, 12)
    assert (one[:, 1:5, 1:5] == a).all() and (one[:, 1:5, 7:11] == b).all()
    assert (one[:, 7:11, 1:5] == c).all()
    assert (one[:, 6:, 6:] == 1).all() and (one[:, 0] == 1).all()


def test_curves_on_log_axes(shown, drawn):
    for log in ("", "y", "xy"):
        show.curves([1, 10], {"one": [1, 100]}, "x", "y", "a line", log=log)
        (axis,) = drawn[-1].axes
        assert axis.get_xscale() == ("log" if "x" in log else "linear")
        assert axis.get_yscale() == ("log" if "y" in log else "linear")


def test_panels_share_a_legend_and_are_sharp(shown, monkeypatch):
    made = []
    monkeypatch.setattr(show.plt, "close", made.append)
    parts = {
        "left": {"a": [1, 2, 3], "b": [3, 2, 1]},
        "right": {"a": [1, 1, 1], "floor": [0.5] * 3},
    }
    show.panels([2, 4, 8], parts, "steps", "two panels", log="x")
    (drawn,) = made
    assert [axis.get_title() for axis in drawn.axes] == ["left", "right"]
    assert [text.get_text() for text in drawn.legends[0].get_texts()] == ["a", "b", "floor"]
    assert [t.get_text() for t in drawn.axes[0].get_xticklabels(which="both")] == ["2", "4", "8"]


def test_panels_may_differ_in_their_log_axes_and_share_the_y_axis(shown, monkeypatch):
    made = []
    monkeypatch.setattr(show.plt, "close", made.append)
    parts = {"a": {"one": [0.02, 0.2, 0.5]}, "b": {"one": [1.0, 2.0, 3.0]}}
    show.panels([2, 4, 8], parts, "steps", "two panels", log=("xy", "x"))
    show.panels([2, 4, 8], parts, "steps", "two panels", log="xy", level=True)
    (first, second), level = made[0].axes, made[1].axes
    assert (first.get_yscale(), second.get_yscale()) == ("log", "linear")
    made[0].canvas.draw()
    assert {"0.02", "0.05", "0.1"} <= {label.get_text() for label in first.get_yticklabels()}
    assert level[0].get_ylim() == level[1].get_ylim() and first.get_ylim() != second.get_ylim()


def test_the_caption_stands_beneath_the_legend_of_panels(shown):
    def bands(alt):  # of ink, from top to bottom, in what is saved
        show.panels([1, 2], {"a": {"one": [1, 2], "two": [2, 1]}}, "steps", alt)
        saved = Image.open(io.BytesIO(base64.b64decode(shown[-1][0]["image/png"])))
        ink = (torch.tensor(list(saved.convert("L").tobytes())).view(saved.height, -1) < 200).any(1)
        return int((ink[1:] > ink[:-1]).sum())

    assert bands("two lines that cross") == bands("一") + 1  # no caption beneath the second


def test_labels_of_a_map_of_words_never_overlap():
    points = torch.zeros(8, 2)  # all in one place, but for one that stretches the axes
    points[-1] = 1.0
    labels = ["cat", "dog", "a long name", "sun", "猫", "狗", "一个很长的名字", "太阳"]
    dots = 100 + 300 * points
    at = wordmap._beside(dots, labels)
    for i in range(8):
        for j in range(i):
            assert (at[i] - at[j]).abs()[1] >= wordmap.LINE or (at[i] - at[j]).abs()[0] > 25
        assert ((at[i] - dots).abs() > torch.tensor([12.0, 13.0])).any(dim=1).all()  # on no dot
    svg = wordmap.drawn(points, (labels[:4], labels[4:]))
    assert "猫" in svg and svg.count("<text") == 8 and svg.count("<circle") == 8
