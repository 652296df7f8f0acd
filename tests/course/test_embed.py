"""Diagrams in a notebook's text are the newest, small, and say what they show; the poster names its words."""

from __future__ import annotations

import base64
import importlib.util
import io
import json
import sys
from pathlib import Path

import pytest
from PIL import Image

from minimagen.images import save_png

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("**/[0-9]*.ipynb"))


def module(name):
    path = ROOT / "notebooks" / "diagrams" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    made = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


embed, hero = module("embed"), module("hero")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_every_diagram_in_a_notebook_is_the_newest(path):
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "markdown":
            text = "".join(cell["source"])
            assert embed.stale(text) == [], f"{path}: run make diagrams"
            for found in embed.DEFINITION.finditer(text):
                data = base64.b64decode(found["data"].partition(",")[2])
                assert len(data) <= embed.LARGEST and Image.open(io.BytesIO(data)).format == "WEBP"


def small(name):
    return f"picture of {name}".encode()


def test_what_is_asked_for_is_put_in_and_kept_up_to_date(monkeypatch):
    text = "# Title\n\n![](diagram:unet)\n\nSome words.\n\n![](diagram:resblock)\n"
    assert len(embed.stale(text)) == 2
    once = embed.embedded(text, small)
    assert embed.stale(once) == []
    assert embed.alt("unet") in once and len(embed.alt("unet")) > 60
    assert once.count("data:image/webp;base64,") == 2 and once.startswith("# Title")
    assert once.index("Some words.") < once.index("]: data:")
    assert embed.embedded(once, lambda _: pytest.fail("drawn twice")) == once

    monkeypatch.setattr(embed, "digest", lambda name: "0" * 8)
    assert embed.stale(once) == ["unet is not the newest", "resblock is not the newest"]
    again = embed.embedded(once, lambda name: b"new " + small(name))
    assert embed.stale(again) == [] and again.count("data:") == 2 and again != once
    gone = embed.embedded(again.replace(f"![{embed.alt('unet')}][unet@00000000]", ""), small)
    assert "unet@" not in gone and gone.count("data:") == 1


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="no diagram 'unett'"):
        embed.embedded("![](diagram:unett)", small)
    with pytest.raises(ValueError, match="at most 40,000"):
        embed.embedded("![](diagram:unet)", lambda _: bytes(40_001))


def test_a_poster_shows_pictures_under_the_words_that_drew_them(tmp_path):
    for k in range(7):
        picture = Image.new("RGB", (256, 256), (30 * k, 80, 120))
        save_png(picture, tmp_path / f"p-{k}.png", f"thing number {k}", k, "ours")
    drawn = hero.read([tmp_path], {"thing number 2": "thing two"})
    assert [one.prompt for one in drawn] == [f"thing number {k}" for k in range(7)]
    assert drawn[2].also == "thing two"
    sheet = hero.poster(drawn, "title", "a line")
    middle = hero.EDGE + hero.TILE, hero.HEAD + hero.TILE
    assert sheet.getpixel(middle) == (0, 80, 120)  # the first one is large
    last = hero.EDGE + 4 * (hero.TILE + hero.GAP) + 9, hero.HEAD + 2 * hero.TILE
    assert sheet.getpixel(last) == (180, 80, 120)
    hero.save(sheet, tmp_path / "hero.webp", drawn, 700, 40_000)
    with Image.open(tmp_path / "hero.webp") as kept:
        said = kept.getexif()[0x010E]
        assert kept.width == 700 and "AI-generated" in said and "thing number 6" in said
    assert (tmp_path / "hero.webp").stat().st_size <= 40_000


def test_a_picture_without_its_words_is_refused(tmp_path):
    Image.new("RGB", (64, 64)).save(tmp_path / "photo.png")
    with pytest.raises(ValueError, match="no single picture of minimagen draw"):
        hero.read([tmp_path / "photo.png"], {})
    with pytest.raises(ValueError, match="no pictures"):
        hero.read([tmp_path], {})
