"""What is saved of a notebook: no widgets, printed text in one piece, and figures in fewer bytes."""

import base64
import importlib.util
import io
from pathlib import Path

import numpy as np
from PIL import Image

FILE = Path(__file__).resolve().parents[2] / "notebooks" / "tidy.py"
spec = importlib.util.spec_from_file_location("tidy", FILE)
assert spec is not None and spec.loader is not None
tidy = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tidy)


def test_figures_keep_their_pixels_and_widgets_go():
    pixels = np.random.default_rng(0).integers(0, 4, (64, 64, 3), dtype=np.uint8) * 60
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    png = base64.b64encode(buffer.getvalue()).decode()
    data = {"image/png": [png[:100], png[100:]], tidy.WIDGET: {}, "text/plain": "[figure: x]"}
    cell = {"cell_type": "code", "outputs": [{"output_type": "display_data", "data": data}]}
    book = tidy.tidy({"metadata": {"widgets": {}}, "cells": [cell]})
    kept = book["cells"][0]["outputs"][0]["data"]
    assert set(kept) == {"image/png", "text/plain"} and "widgets" not in book["metadata"]
    assert len(kept["image/png"]) < 0.7 * len(png)
    opened = Image.open(io.BytesIO(base64.b64decode(kept["image/png"]))).convert("RGB")
    assert np.array_equal(np.asarray(opened), pixels)


def test_text_that_was_printed_in_pieces_is_joined():
    """A kernel flushes where it likes: "It is ≈ 0.958" and its end of line came as two outputs."""

    def said(name, text):
        return {"output_type": "stream", "name": name, "text": text}

    picture = {"output_type": "display_data", "data": {"text/plain": "[figure: x]"}}
    widget = {"output_type": "display_data", "data": {tidy.WIDGET: {}, "text/plain": "[a slider]"}}
    outputs = [said("stdout", ["It is ≈ 0.958"]), said("stdout", ["\n", "one\n"]), picture]
    outputs += [said("stdout", "two\n"), said("stderr", "three\n"), widget]
    kept = tidy.joined(outputs)
    assert kept[0] == said("stdout", ["It is ≈ 0.958\n", "one\n"])
    assert kept[1:] == [picture, said("stdout", "two\n"), said("stderr", "three\n"), widget]
    assert tidy.WIDGET not in widget["data"]


def test_a_notebook_that_is_too_large_has_fewer_colours(monkeypatch):
    """And what is small and coloured stays so: a green tree on the beach came out blue once."""
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 128, (96, 96, 1), dtype=np.uint8).repeat(3, 2)
    grey[40:46, 40:46] = (30, 160, 40)
    buffer = io.BytesIO()
    Image.fromarray(grey).save(buffer, "PNG")
    png = base64.b64encode(buffer.getvalue()).decode()

    def book():
        outputs = [{"output_type": "display_data", "data": {"image/png": png}}]
        return {"metadata": {}, "cells": [{"cell_type": "code", "outputs": outputs}]}

    def pixels(made):
        data = base64.b64decode(tidy.figures(made)[0]["image/png"])
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))

    assert np.array_equal(pixels(tidy.tidy(book())), grey)  # small enough as it is
    size = len(tidy.written(tidy.tidy(book())).encode())
    monkeypatch.setattr(tidy, "LARGEST", int(0.8 * size))
    made = tidy.tidy(book())
    assert len(tidy.written(made).encode()) <= 0.8 * size
    assert 24 <= len(np.unique(pixels(made).reshape(-1, 3), axis=0)) <= 64
    assert pixels(made)[43, 43].astype(int) @ (-1, 2, -1) > 120  # still green
