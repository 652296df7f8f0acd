"""The diagrams are what their program draws from the shipped configs, and their layout holds."""

from __future__ import annotations

import base64
import importlib.util
import io
import itertools
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

FOLDER = Path(__file__).resolve().parents[2] / "notebooks" / "diagrams"
spec = importlib.util.spec_from_file_location("draw", FOLDER / "draw.py")
assert spec is not None and spec.loader is not None
draw = importlib.util.module_from_spec(spec)
spec.loader.exec_module(draw)
import cascade  # noqa: E402 – draw.py has put their folder on the path
import facts  # noqa: E402
import files  # noqa: E402
import kit  # noqa: E402
import networks  # noqa: E402

PICTURE = re.compile(r"data:image/\w+;base64,([A-Za-z0-9+/=]+)")
LARGEST = 40_000  # bytes of a file: a notebook must stay small


def pictures(svg: str) -> list[np.ndarray]:
    """The pictures embedded in a figure, decoded: encoders differ from version to version."""
    found = (Image.open(io.BytesIO(base64.b64decode(code))) for code in PICTURE.findall(svg))
    return [np.asarray(picture.convert("RGB"), dtype=float) for picture in found]


@pytest.mark.parametrize("name", draw.FIGURES)
def test_a_file_is_what_the_program_draws(name):
    canvas = draw.FIGURES[name]()
    drawn, kept = canvas.svg(), files.read(name)
    assert PICTURE.sub("", kept) == PICTURE.sub("", drawn), f"{name}: run make diagrams"
    for a, b in zip(pictures(kept), pictures(drawn), strict=True):
        assert a.shape == b.shape and abs(a - b).mean() < 4, f"{name}: run make diagrams"
    assert len(kept.encode()) <= LARGEST
    assert canvas.problems() == []


@pytest.mark.parametrize("name", draw.FIGURES)
def test_a_file_can_be_read_by_everybody(name):
    """A title and a description for a screen reader, no type under 12 pixels, light and dark."""
    text = files.read(name)
    root, at = ET.fromstring(text), "{http://www.w3.org/2000/svg}"
    assert root.attrib["role"] == "img" and root.attrib["aria-labelledby"] == "t d"
    assert len(root.findtext(f"{at}title") or "") > 10
    assert len(root.findtext(f"{at}desc") or "") > 60
    assert all(float(line.attrib["font-size"]) >= 12 for line in root.iter(f"{at}text"))
    assert "prefers-color-scheme:dark" in text
    assert "http" not in text.replace("http://www.w3.org/2000/svg", ""), "nothing is fetched"


def test_no_file_is_left_over():
    assert set(FOLDER.glob("*.svg*")) == {files.path_of(name) for name in draw.FIGURES}


def test_a_new_cascade_is_a_new_drawing(monkeypatch):
    before, stage = cascade.the_map().svg(), facts.stage
    assert f"{stage('base').parameters / 1e6:.2f} M" in before

    def other(name):
        one = stage(name)
        return replace(one, config=replace(one.config, steps=77), parameters=8_640_000)

    monkeypatch.setattr(facts, "stage", other)
    after = cascade.the_map().svg()
    assert "77 steps" in after and "8.64 M" in after and "77 steps" not in before


def test_a_u_of_another_shape_is_drawn_too(monkeypatch):
    stage = facts.stage

    def deeper(name):
        one = stage(name)
        unet = replace(
            one.config.unet,
            channels=(64, 128, 160, 192),
            blocks=(1, 2, 3, 3),
            attention=("", "self", "cross", "self"),
        )
        return replace(one, config=replace(one.config, unet=unet), side=64)

    monkeypatch.setattr(facts, "stage", deeper)
    canvas = networks.u("base", True)
    assert canvas.problems() == [] and canvas.svg().count("DBlock</tspan>") == 4
    assert "192 channels" in canvas.svg() and "8 × 8" in canvas.svg()


@pytest.mark.parametrize(
    ("break_it", "says"),
    [
        (lambda c: c.text(690, 50, "too far to the right"), "off the paper"),
        (lambda c: [c.text(100, 50, "one"), c.text(104, 52, "two")], "on each other"),
        (lambda c: c.box(200, 20, 60, 30, lines="much too long for it"), "over the edge"),
        (lambda c: [c.text(100, 50, "struck"), c.line([(20, 46), (200, 46)])], "struck"),
        (lambda c: setattr(c, "focus", "nothing"), "no part"),
    ],
)
def test_the_check_of_the_layout_finds(break_it, says):
    canvas = kit.Canvas(100, "a title", "what it shows")
    canvas.text(300, 80, "all is well")
    assert canvas.problems() == []
    break_it(canvas)
    assert len(canvas.problems()) == 1 and says in canvas.problems()[0]


def test_small_type_is_refused():
    with pytest.raises(ValueError, match="12"):
        kit.Canvas(100, "a title", "what it shows").text(300, 80, "tiny", 11)


def linear(colour: str) -> np.ndarray:
    """Of #rrggbb, the light of each channel."""
    parts = np.array([int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)])
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)


XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
VISION = {  # Machado et al. 2009, the strongest form
    "normal": np.eye(3),
    "protan": np.array(
        [[0.1523, 1.0526, -0.2049], [0.1145, 0.7863, 0.0992], [-0.0039, -0.0481, 1.0520]]
    ),
    "deutan": np.array(
        [[0.3673, 0.8606, -0.2280], [0.2801, 0.6725, 0.0474], [-0.0118, 0.0429, 0.9689]]
    ),
    "tritan": np.array(
        [[1.2555, -0.0767, -0.1788], [-0.0784, 0.9308, 0.1476], [0.0047, 0.6914, 0.3039]]
    ),
}


def contrast(a: str, b: str) -> float:
    """Of two colours, as WCAG 2 has it."""
    low, high = sorted(float(XYZ[1] @ linear(colour)) for colour in (a, b))
    return (high + 0.05) / (low + 0.05)


def lab(light: np.ndarray) -> np.ndarray:
    v = XYZ @ light.clip(0, 1) / np.array([0.9505, 1.0, 1.089])
    f = np.where(v > 0.008856, np.cbrt(v), 7.787 * v + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("mode", [0, 1])
def test_every_colour_can_be_read_on_its_paper(mode):
    for role, colours in kit.ROLES.items():
        assert contrast(colours[mode], kit.PAPER[mode]) >= 4.5, role


@pytest.mark.parametrize("mode", [0, 1])
@pytest.mark.parametrize("vision", VISION)
def test_roles_are_told_apart_by_every_kind_of_colour_vision(vision, mode):
    """A difference of 10 in CIE Lab is one at a glance."""
    roles = [role for role in kit.ROLES if role not in ("ink", "soft")]
    seen = {role: lab(VISION[vision] @ linear(kit.ROLES[role][mode])) for role in roles}
    for a, b in itertools.combinations(roles, 2):
        assert np.linalg.norm(seen[a] - seen[b]) >= 12, (a, b)
