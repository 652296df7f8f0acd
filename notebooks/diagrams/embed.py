"""Put diagrams into the text of notebooks, and bring them up to date: make embed, or python embed.py NOTEBOOK …

In a text cell write ![](diagram:unet), the name of a diagram or of a WebP beside this file. This turns it into
an image with the diagram's own alt text, and puts the picture itself at the cell's end:

    ![The U-Net of base: Left, downwards …][unet@1f2e3d4c]

    [unet@1f2e3d4c]: data:image/webp;base64,…

The eight digits are of the file, so that a test can tell whether the picture is the newest; run this again where
it is not. The picture is a WebP of at most 40 kB, because that is what every reader shows: Colab and nbconvert
refuse SVG in text, JupyterLab refuses it as an attachment, and Colab ignores attachments altogether.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import shutil
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from functools import cache
from pathlib import Path

from PIL import Image

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import files  # noqa: E402

LARGEST = 40_000  # bytes of an embedded picture
SCALE = 1.2  # pixels a unit: sharp where a column is 840 pixels wide
COLOURS = 32
CHROMIUMS = ("chromium", "chromium-browser", "google-chrome")

IMAGE = re.compile(r"!\[[^\]]*\](?:\(diagram:(?P<asked>[\w-]+)\)|\[(?P<put>[\w-]+)@[0-9a-f]{8}\])")
DEFINITION = re.compile(
    r"\n*^\[(?P<name>[\w-]+)@(?P<digest>[0-9a-f]{8})\]: (?P<data>data:\S+)$", re.M
)


@cache
def kept(name: str) -> str | bytes:
    """A diagram: an SVG's text, a WebP's bytes. Raises ValueError, with a sentence, where there is none."""
    if files.path_of(name).is_file():
        return files.read(name)
    if (HERE / f"{name}.webp").is_file():
        return (HERE / f"{name}.webp").read_bytes()
    raise ValueError(f"there is no diagram {name!r}: see the names of the files in {HERE}")


@cache
def digest(name: str) -> str:
    """Eight digits of the diagram's bytes."""
    diagram = kept(name)
    data = diagram.encode() if isinstance(diagram, str) else diagram
    return hashlib.sha256(data).hexdigest()[:8]


@cache
def alt(name: str) -> str:
    """What a screen reader says: title and description of an SVG, the description kept in a WebP."""
    diagram = kept(name)
    if isinstance(diagram, str):
        root, at = ET.fromstring(diagram), "{http://www.w3.org/2000/svg}"
        text = f"{root.findtext(f'{at}title')}: {root.findtext(f'{at}desc')}"
    else:
        with Image.open(io.BytesIO(diagram)) as picture:
            text = picture.getexif().get(0x010E, "")  # ImageDescription
    return " ".join(text.replace("[", "(").replace("]", ")").split())


@cache
def webp(name: str) -> bytes:
    """The picture as it is embedded. An SVG is drawn by Chromium, and its colours are counted down."""
    diagram = kept(name)
    if isinstance(diagram, bytes):
        return diagram
    from playwright.sync_api import sync_playwright

    chromium = next(filter(None, map(shutil.which, CHROMIUMS)), None)
    if chromium is None:
        raise ValueError("no Chromium is here to draw an SVG: apt-get install chromium")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 700, "height": 700}, device_scale_factor=SCALE)
        page.set_content(f'<body style="margin:0">{diagram}')
        shot = page.locator("svg").first.screenshot(omit_background=True)
        browser.close()
    drawn, buffer = Image.open(io.BytesIO(shot)).convert("RGBA"), io.BytesIO()
    few = drawn.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).convert("RGB")
    few.putalpha(drawn.getchannel("A").point(lambda a: 255 if a > 127 else 0))  # round corners
    few.save(buffer, "WEBP", lossless=True, quality=100, method=6)
    return buffer.getvalue()


def embedded(source: str, render: Callable[[str], bytes] = webp) -> str:
    """A cell's text with every diagram that it names, up to date."""
    before = {m["name"]: m for m in DEFINITION.finditer(source)}
    body, names = DEFINITION.sub("", source), []

    def put(image: re.Match[str]) -> str:
        name = image["asked"] or image["put"]
        names.append(name)
        return f"![{alt(name)}][{name}@{digest(name)}]"

    body = IMAGE.sub(put, body)
    for name in dict.fromkeys(names):
        old = before.get(name)
        if old and old["digest"] == digest(name):
            data = old["data"]  # as it was: fonts differ from machine to machine
        else:
            picture = render(name)
            if len(picture) > LARGEST:
                raise ValueError(
                    f"{name} has {len(picture):,} bytes: at most {LARGEST:,} go into a text"
                )
            data = "data:image/webp;base64," + base64.b64encode(picture).decode()
        body = f"{body.rstrip()}\n\n[{name}@{digest(name)}]: {data}"
    return body


def stale(source: str) -> list[str]:
    """What is wrong with a cell's diagrams: asked for and not put, gone, old, or without their picture."""
    found = []
    pictures = {(m["name"], m["digest"]) for m in DEFINITION.finditer(source)}
    for image in IMAGE.finditer(source):
        name = image["asked"] or image["put"]
        if image["asked"]:
            found.append(f"{name} was asked for and is not put in yet")
        elif f"[{name}@{digest(name)}]" not in image[0] or (name, digest(name)) not in pictures:
            found.append(f"{name} is not the newest")
    return found


def main(paths: list[str]) -> None:
    for path in map(Path, paths):
        book = json.loads(path.read_text(encoding="utf-8"))
        before = json.dumps(book)
        for cell in book["cells"]:
            if cell["cell_type"] == "markdown" and IMAGE.search(text := "".join(cell["source"])):
                cell["source"] = embedded(text).splitlines(keepends=True)
        if json.dumps(book) != before:
            path.write_text(json.dumps(book, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
            print(f"{path}: diagrams put in, {path.stat().st_size // 1000} kB")


if __name__ == "__main__":
    try:
        main(sys.argv[1:] or [str(p) for p in sorted(HERE.parent.glob("solutions/[0-9]*.ipynb"))])
    except ValueError as error:
        sys.exit(str(error))
