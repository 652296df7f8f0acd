"""What is saved of a notebook: no widgets, and figures in fewer bytes, pixel for pixel."""

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
    cell = {"cell_type": "code", "outputs": [{"data": data}]}
    book = tidy.tidy({"metadata": {"widgets": {}}, "cells": [cell]})
    kept = book["cells"][0]["outputs"][0]["data"]
    assert set(kept) == {"image/png", "text/plain"} and "widgets" not in book["metadata"]
    assert len(kept["image/png"]) < 0.7 * len(png)
    opened = Image.open(io.BytesIO(base64.b64decode(kept["image/png"]))).convert("RGB")
    assert np.array_equal(np.asarray(opened), pixels)
