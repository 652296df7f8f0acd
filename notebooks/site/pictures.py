"""The site's pictures, as files beside its pages: diagrams in a light and a dark form, figures, thumbnails."""

from __future__ import annotations

import base64
import gzip
import io
import json
import re
from html import escape, unescape
from pathlib import Path

from covers import SIDE, cover, word_map
from PIL import Image

DARK = "@media(prefers-color-scheme:dark)"  # the site has a switch of its own: one file for each
DIAGRAM = re.compile(r"!\[[^\]]*\]\[([\w-]+)@\w+\]")
COMMON = ("here-", "map")  # diagrams that say where a chapter stands, not what it is about
WIDE = 560  # CSS pixels: what is wider scrolls on a phone
FRAME = re.compile(r'<rect [^>]*class="paper"/>')


def svg(path: Path) -> str:
    kept = path.read_bytes()
    return (gzip.decompress(kept) if path.suffix == ".svgz" else kept).decode()


class Pictures:
    """Writes pictures into `folder`, which stands beside the pages as `pictures/`."""

    def __init__(self, folder: Path, root: Path) -> None:
        self.folder, self.root = folder, root
        self.written: set[str] = set()
        folder.mkdir(parents=True, exist_ok=True)

    def save(self, name: str, data: bytes) -> str:
        """The address of a picture, as the pages name it."""
        path = self.folder / name
        if not path.exists() or path.read_bytes() != data:
            path.write_bytes(data)
        self.written.add(name)
        return f"pictures/{name}"

    def tidy(self) -> None:
        for old in self.folder.iterdir():
            if old.name not in self.written:
                old.unlink()

    def tag(self, path: Path, alt: str, lazy: bool = True, framed: bool = True) -> str:
        """One <img>, or two of which the theme shows one, for a file of the clone; framed: with its own paper."""
        text = f'alt="{escape(unescape(alt))}"' + (' loading="lazy"' if lazy else "")
        if path.suffix not in (".svg", ".svgz"):
            with Image.open(path) as image:
                size = 'width="{}" height="{}"'.format(*image.size)
            return f'<img src="{self.save(path.name, path.read_bytes())}" {size} {text}>'
        drawn = svg(path)
        size = " ".join(re.findall(r'\b(?:width|height)="\d+"', drawn[: drawn.index(">")]))
        name = path.stem if framed else f"{path.stem}-card"
        drawn = drawn if framed else FRAME.sub("", drawn, count=1)
        return "".join(
            f'<img class="only-{theme}" {size} {text} '
            f'src="{self.save(f"{name}-{theme}.svg", drawn.replace(DARK, media).encode())}">'
            for theme, media in (("light", "@media not all"), ("dark", "@media all"))
        )

    def figure(self, path: Path, alt: str) -> str:
        """A block of HTML with the picture in it; a diagram says its own description as alt text."""
        if path.suffix in (".svg", ".svgz"):
            described = re.search(r"<desc[^>]*>(.*?)</desc>", svg(path))
            words, kind = described[1] if described else alt, "diagram wide"
        else:
            words, kind = alt, "picture"
        tag = self.tag(path, words, lazy=path.name != "hero.webp")
        return f'<figure class="{kind}">{tag}</figure>'

    def thumbnail(self, notebook: Path) -> str:
        """Pictures that the chapter drew; or its first diagram that no other chapter has."""
        if drawn := cover(notebook):
            size = f'width="{3 * SIDE}" height="{SIDE}"'
            return f'<img src="{self.save(f"cover-{notebook.stem}.webp", drawn)}" {size} alt="">'
        if drawn := word_map(notebook):
            return (
                f'<img src="{self.save(f"cover-{notebook.stem}.svg", drawn)}" class="whole" alt="">'
            )
        cells = json.loads(notebook.read_text("utf-8"))["cells"]
        named = DIAGRAM.findall("".join("".join(cell["source"]) for cell in cells))
        chosen = next((name for name in named if not name.startswith(COMMON)), "map")
        return self.tag(self.diagram(chosen), "", framed=False)

    def logo(self) -> None:
        """The cat of the hero picture, for the margin and the browser's tab."""
        with Image.open(self.diagram("hero")) as image:
            wide, high = image.size
            left, top, side = 0.03 * wide, 0.15 * high, 0.36 * wide
            cat = image.convert("RGB").crop((left, top, left + side, top + side)).resize((128, 128))
        buffer = io.BytesIO()
        cat.quantize(64).save(buffer, "png", optimize=True)
        self.save("logo.png", buffer.getvalue())

    def diagram(self, name: str) -> Path:
        """Where it is kept: compressed, but for the hero picture and what a page links to."""
        folder = self.root / "notebooks" / "diagrams"
        kept = [folder / f"{name}.{kind}" for kind in ("svg", "svgz", "webp")]
        return next((path for path in kept if path.exists()), kept[0])

    def output(self, name: str, data: str, metadata: dict) -> str:
        """A figure that a cell has drawn, at the size it has in the notebook."""
        raw = base64.b64decode(data)
        with Image.open(io.BytesIO(raw)) as image:
            wide, high = image.size
        width = int(metadata.get("width", wide))
        size = f'width="{width}" height="{round(high * width / wide)}"'
        alt = escape(metadata.get("alt", ""))
        kind = "output wide" if width > WIDE else "output"
        image = f'<img src="{self.save(f"{name}.png", raw)}" {size} alt="{alt}" loading="lazy">'
        return f'<figure class="{kind}">{image}</figure>'
