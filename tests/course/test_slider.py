"""The slider's HTML holds the pictures themselves; tests/test_browser.py moves it."""

import base64
import io
import json
import re
from html import unescape

import numpy as np
import pytest
from PIL import Image

from minimagen.course import slider


def decoded(address):
    kind, _, code = address.partition(",")
    assert kind == "data:image/webp;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(code))).convert("RGB"), float)


def noise(side):
    return Image.fromarray(
        np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    )


def told(html):
    return json.loads(unescape(re.search("data-frames='([^']*)'", html)[1]))


def test_pictures_and_words_come_through_unchanged():
    images, alt = [noise(16), Image.new("RGB", (16, 16), "red")], 'one\'s "alt" </script> & 猫'
    data = told(slider.html(images, ["a", "<b>"], alt, "step"))
    assert data["labels"] == ["a", "<b>"] and data["alt"] == alt and data["name"] == "step"
    for image, address in zip(images, data["pictures"], strict=True):
        assert (decoded(address) == np.asarray(image)).all()


@pytest.mark.parametrize("side, width", [(16, 400), (18, 396), (64, 384), (256, 256), (500, 500)])
def test_small_pictures_are_enlarged_by_a_whole_number(side, width):
    assert told(slider.html([Image.new("RGB", (side, side))], ["a"], "", ""))["width"] == width


def test_a_slider_stays_small():
    """Twenty pictures of noise, which nothing compresses, and one of 256 × 256."""
    assert len(slider.html([noise(64)] * 20, ["a"] * 20, "", "")) < 100_000
    grey = Image.fromarray(np.add.outer(np.arange(256), np.arange(256)).astype(float) / 2).convert(
        "RGB"
    )
    code = slider.encoded(grey)
    assert len(code) < 6_000
    assert np.abs(decoded(code) - np.asarray(grey)).mean() < 2


def test_noise_in_few_colours_is_still_that_noise():
    image = noise(64)
    assert np.abs(decoded(slider.encoded(image)) - np.asarray(image)).mean() < 25
