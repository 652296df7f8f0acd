"""Draw every object of objects.tsv in four art styles and pack them into one atlas per style.

    python data/build/sprites.py --packages DIR --out data/scenes

Without --packages, only the words are written anew (objects.json), which needs no network.

The artwork comes from four npm packages at fixed versions. A tarball that is not in DIR is fetched
with `npm pack`; its checksum is verified either way. Every sprite is 128x128 RGBA: the artwork's
bounding box is centred and its longer side fills 124 pixels, so that the scene code alone decides
how large an object is. An atlas has 16 columns and is filled row by row in the order of the table.
"""

import argparse
import csv
import hashlib
import io
import json
import subprocess
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

TABLE = Path(__file__).with_name("objects.tsv")
CELL, FILL, COLUMNS = 128, 124, 16
PROBE = 512  # vector art is first drawn this large, only to find its bounding box
FAINT = 8  # alpha below this is haze around the artwork: it must not decide the bounding box
SIZES = {"starter": 40, "whole": 100}  # objects in each vocabulary
STANDS = {"ground", "sky", "water", "float"}
COLUMNS_OF_TABLE = (
    "key codepoint en article plural zh measure "
    "synonyms_en synonyms_article synonyms_plural synonyms_zh "
    "also_en also_article also_plural also_zh described_en described_zh "
    "stands starter whole".split()
)

Row = dict[str, str]
Draw = Callable[[str], Image.Image]


@dataclass(frozen=True)
class Source:
    """One art style and the package that its artwork is taken from."""

    style: str
    package: str
    version: str
    sha256: str
    lossless: bool = True

    @property
    def tarball(self) -> str:
        return f"{self.package.lstrip('@').replace('/', '-')}-{self.version}.tgz"


SOURCES = (
    Source(
        "3d",
        "@lobehub/fluent-emoji-3d",
        "1.1.0",
        "c1bb7eee7de090205a232518a9ab4adb3df458bfbe8a1f78232991194c8b2e58",
        lossless=False,  # soft shading costs nearly three times as much when stored exactly
    ),
    Source(
        "flat",
        "@iconify-json/fluent-emoji-flat",
        "1.2.6",
        "7d064769dee690815f823bc5bcc511d957198caf9f5edd8dd9c1aa48a6aeb175",
    ),
    Source(
        "glossy",
        "@iconify-json/noto",
        "1.2.9",
        "3e918d88fc945c0bb3d468dbace6f88caef67f01c9f0e7bcae0915a042e8f1ad",
    ),
    Source(
        "cartoon",
        "@iconify-json/twemoji",
        "1.2.5",
        "19046dff7d8707ce96212ec86468b36ac5f8e60409629dd13f809265c6d0ebb7",
    ),
)


def fetch(source: Source, folder: Path) -> Path:
    """Return the package's tarball, fetching it into `folder` if it is not there."""
    path = folder / source.tarball
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        spec = f"{source.package}@{source.version}"
        subprocess.run(
            ["npm", "pack", spec, "--silent"], cwd=folder, check=True, stdout=subprocess.DEVNULL
        )
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != source.sha256:
        raise SystemExit(f"{path}: sha256 is {digest}, expected {source.sha256}")
    return path


def plain(codepoint: str) -> str:
    """Drop the variation selector: some sets write it and others do not."""
    return codepoint.replace("-fe0f", "")


def bitmaps(tarball: Path, wanted: set[str]) -> tuple[set[str], Draw]:
    """Open a package of one WebP per code point."""
    files: dict[str, bytes] = {}
    with tarfile.open(tarball) as tar:
        for member in tar:
            path = Path(member.name)
            if path.suffix == ".webp" and plain(path.stem) in wanted:
                files[plain(path.stem)] = tar.extractfile(member).read()
    return set(files), lambda code: fit(Image.open(io.BytesIO(files[code])).convert("RGBA"))


def vectors(tarball: Path, wanted: set[str]) -> tuple[set[str], Draw]:
    """Open a package that keeps all its SVG bodies in one JSON file."""
    with tarfile.open(tarball) as tar:
        chars = json.load(tar.extractfile("package/chars.json"))
        icons = json.load(tar.extractfile("package/icons.json"))
    names = {plain(code): name for code, name in chars.items() if plain(code) in wanted}

    def draw(code: str) -> Image.Image:
        name = names[code]
        # An alias only points to another icon here; none of them is turned or flipped.
        icon = icons["icons"].get(name) or icons["icons"][icons["aliases"][name]["parent"]]
        width, height = (icon.get(side, icons[side]) for side in ("width", "height"))
        # The inner element clips: some icons hide strokes outside their own frame.
        inner = f'<svg width="{width}" height="{height}" viewBox="0 0 {width} {height}">'
        body = f"{inner}{icon['body']}</svg>"
        unit = max(width, height) / PROBE
        probe = render(body, (0, 0, unit * PROBE), PROBE)
        left, top, right, bottom = (unit * edge for edge in bounds(probe))
        side = max(right - left, bottom - top) * CELL / FILL
        # Drawn at its final size rather than shrunk: crisper, and less than half the bytes.
        frame = ((left + right - side) / 2, (top + bottom - side) / 2, side)
        return render(body, frame, CELL)

    return set(names), draw


def render(body: str, frame: tuple[float, float, float], pixels: int) -> Image.Image:
    """Draw the square (left, top, side) of an SVG body."""
    import resvg_py  # here: who only changes a word has no need of it

    left, top, side = frame
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{left:.4f} {top:.4f} {side:.4f} {side:.4f}">{body}</svg>'
    )
    png = resvg_py.svg_to_bytes(svg_string=svg, width=pixels, height=pixels)
    return Image.open(io.BytesIO(bytes(png))).convert("RGBA")


def bounds(image: Image.Image) -> tuple[int, int, int, int]:
    """Return the bounding box of what can be seen."""
    box = image.getchannel("A").point(lambda a: 255 * (a >= FAINT)).getbbox()
    if box is None:
        raise ValueError("the picture is empty")
    return box


def fit(image: Image.Image) -> Image.Image:
    """Shrink a bitmap so that its artwork is centred in a cell, the longer side FILL pixels."""
    image = image.crop(bounds(image))
    scale = FILL / max(image.size)
    size = tuple(max(1, round(side * scale)) for side in image.size)
    # Pillow premultiplies before it filters, so no dark fringe appears at the edges.
    image = image.resize(size, Image.Resampling.LANCZOS)
    cell = Image.new("RGBA", (CELL, CELL))
    cell.paste(image, ((CELL - size[0]) // 2, (CELL - size[1]) // 2))
    return cell


def clear(image: Image.Image) -> Image.Image:
    """Zero the colours of invisible pixels, so that they cost nothing and leak nowhere."""
    visible = image.getchannel("A").point(lambda a: 255 * (a > 0))
    return Image.composite(image, Image.new("RGBA", image.size), visible)


def atlas(cells: list[Image.Image]) -> Image.Image:
    """Lay the cells out row by row."""
    rows = -(-len(cells) // COLUMNS)
    sheet = Image.new("RGBA", (COLUMNS * CELL, rows * CELL))
    for i, cell in enumerate(cells):
        sheet.paste(cell, (i % COLUMNS * CELL, i // COLUMNS * CELL))
    return sheet


def read_table(path: Path = TABLE) -> list[Row]:
    """Read and check the table of objects."""
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        rows = list(reader)
    if reader.fieldnames != COLUMNS_OF_TABLE:
        raise SystemExit(f"{path}: the columns must be {COLUMNS_OF_TABLE}")
    if errors := check_table(rows):
        raise SystemExit("\n".join(f"{path}: {error}" for error in errors))
    return rows


def check_table(rows: list[Row]) -> list[str]:
    """Say everything that is wrong with the table."""
    errors: list[str] = []
    names: dict[str, str] = {}
    for field in ("key", "codepoint", "en", "plural", "zh"):
        owners: dict[str, str] = {}
        for row in rows:
            if (value := (row[field] or "").lower()) in owners:
                errors.append(f"{row['key']}: {field} {value!r} is also {owners[value]}'s")
            owners[value] = row["key"]
        if field in ("en", "plural", "zh"):
            names |= owners
    synonyms: dict[str, str] = {}
    for row in rows:
        key, starter = row["key"], row["starter"] == "1"
        for field in COLUMNS_OF_TABLE:
            value = row[field]
            may_be_empty = field.startswith(("synonyms", "also", "described"))
            if value is None or (not value and not may_be_empty):
                errors.append(f"{key}: {field} is empty")
            elif value != value.strip():
                errors.append(f"{key}: {field} has spaces around it")
        for kind in ("synonyms", "also"):
            # an empty plural: it is only said of one
            words, articles, plurals = (
                row[f"{kind}_{part}"].split("|") for part in ("en", "article", "plural")
            )
            if not len(words) == len(articles) == len(plurals):
                errors.append(f"{key}: every English word of {kind} needs an article and a plural")
            if not {row["article"], *articles} <= {"a", "an", "some", ""}:
                errors.append(f"{key}: an article is a, an or some")
        if row["stands"] not in STANDS:
            errors.append(f"{key}: stands must be one of {sorted(STANDS)}")
        if any(row[vocabulary] not in ("0", "1") for vocabulary in SIZES):
            errors.append(f"{key}: starter and whole must be 0 or 1")
        for language in ("en", "zh"):
            words = split(row[f"synonyms_{language}"])
            if starter and len(words) < 2:
                errors.append(f"{key}: a starter object needs two {language} synonyms")
            for word in words:
                if (owner := names.get(word.lower())) is not None:
                    errors.append(f"{key}: synonym {word!r} is the name of {owner}")
                if (owner := synonyms.get(word.lower())) is not None:
                    errors.append(f"{key}: synonym {word!r} is also {owner}'s")
                synonyms[word.lower()] = key
    errors += check_training_words(rows, set(synonyms), names)
    for vocabulary, size in SIZES.items():
        if (count := sum(row[vocabulary] == "1" for row in rows)) != size:
            errors.append(f"{count} {vocabulary} objects instead of {size}")
    return errors


def check_training_words(rows: list[Row], synonyms: set[str], names: dict[str, str]) -> list[str]:
    """Say which of the words for training only (also_…, described_…) are held out or another's name."""
    errors: list[str] = []
    owners: dict[str, str] = {}
    held_out = synonyms | {p.lower() for row in rows for p in split(row["synonyms_plural"])}
    for row in rows:
        for kind in ("also", "described"):
            for word in split(row[f"{kind}_en"]) + split(row[f"{kind}_zh"]):
                text = word.lower()
                if text in names or text in owners:
                    errors.append(f"{row['key']}: {word!r} is used already")
                owners[text] = row["key"]
                for other in held_out:
                    # one Chinese character stands in many words: it is held out as a word only
                    inside = f" {other} " in f" {text} " if other.isascii() else other in text
                    if inside and (len(other) > 1 or other == text):
                        errors.append(f"{row['key']}: {word!r} holds {other!r}, which is held out")
    return errors


def split(words: str | None) -> list[str]:
    return words.split("|") if words else []


def describe(row: Row) -> dict[str, object]:
    """Turn a row of the table into an entry of objects.json."""
    fields = {name: row[name] for name in ("key", "en", "article", "plural", "zh", "measure")}
    # article and plural are of the English ones, in their order
    kinds = ("en", "article", "plural", "zh")
    synonyms = {kind: split(row[f"synonyms_{kind}"]) for kind in kinds}
    # words that only training captions use, from their second version on
    also = {
        kind: (row[f"also_{kind}"] or "").split("|") if row["also_en"] else [] for kind in kinds
    }
    also["zh"] = split(row["also_zh"])
    described = {language: split(row[f"described_{language}"]) for language in ("en", "zh")}
    flags = {vocabulary: row[vocabulary] == "1" for vocabulary in SIZES}
    last = {"stands": row["stands"], **flags, "codepoint": row["codepoint"]}
    return {**fields, "synonyms": synonyms, "also": also, "described": described, **last}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--packages", type=Path, help="folder of npm tarballs")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for atlases and objects.json"
    )
    args = parser.parse_args()
    rows = read_table()
    args.out.mkdir(parents=True, exist_ok=True)
    if args.packages is not None:
        pack(rows, args.packages, args.out)
    lines = ",\n".join(json.dumps(describe(row), ensure_ascii=False) for row in rows)
    (args.out / "objects.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")


def pack(rows: list[Row], packages: Path, out: Path) -> None:
    """Draw every object in every style, and write one atlas a style."""
    codes = [plain(row["codepoint"]) for row in rows]
    sets: dict[str, Draw] = {}
    missing: list[str] = []
    for source in SOURCES:
        open_package = bitmaps if source.style == "3d" else vectors
        found, sets[source.style] = open_package(fetch(source, packages), set(codes))
        missing += [
            f"{row['key']}: {row['codepoint']} is not in {source.package}"
            for row, code in zip(rows, codes, strict=True)
            if code not in found
        ]
    if missing:
        raise SystemExit("\n".join(missing))
    for source in SOURCES:
        sheet = atlas([clear(sets[source.style](code)) for code in codes])
        path = out / f"{source.style}.webp"
        if source.lossless:
            sheet.save(path, lossless=True, quality=75, method=6, exact=True)
        else:
            sheet.save(path, quality=92, alpha_quality=100, method=6, exact=False)
        print(f"{path}: {len(rows)} sprites, {path.stat().st_size / 2**20:.2f} MiB")


if __name__ == "__main__":
    main()
