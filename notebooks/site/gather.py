"""Lays the site's pages ready: README, chapters, glossary, the teacher's pages, with links that hold there."""

from __future__ import annotations

import json
import posixpath
import re
from dataclasses import dataclass
from html import escape
from pathlib import Path

from cells import code_cell, markdown_cell
from pictures import Pictures

ONLINE = "Open in ["  # the line that `make badges` writes
HOST = "https://github.com/"
LINK = re.compile(r"(?<![!\\])\[((?:[^\[\]`]|`[^`]*`)+)\]\(([^()\s]+)\)")
PICTURE = re.compile(r"!\[([^\]]*)\]\(([^()\s]+)\)")
WORDS = re.compile(r"^## Words\n+\|.*\n\|.*\n((?:\|.*\n?)+)", re.M)

# README's sections, by the page on which they stand; what is not named here stands on the last one.
SECTIONS = {
    "start": ("Set up and start", ["Two commands", "The notebooks"]),
    "draw": ("Draw and edit", ["Draw from the command line"]),
    "train": ("Train and evaluate", ["Train and evaluate"]),
    "results": ("Results and limits", ["Text-image alignment", "What it can't do"]),
    "about": ("About", []),
}


@dataclass
class Chapter:
    """One complete edition: its file, and what README's table says of it."""

    path: Path
    question: str
    minutes: str = ""

    @property
    def page(self) -> str:
        return self.path.stem

    @property
    def number(self) -> str:
        return self.page[:2]


def sections(text: str) -> dict[str, str]:
    """What stands before the first `##` under "", and each section under its title."""
    parts = re.split(r"^## (.+)\n", text, flags=re.M)
    return {"": parts[0], **dict(zip(parts[1::2], parts[2::2], strict=True))}


class Site:
    """The pages of the clone at `root`, with all chapters or with those whose numbers are given."""

    def __init__(self, root: Path, numbers: list[str]) -> None:
        self.root = root
        self.readme = (root / "README.md").read_text("utf-8")
        self.repo = self._repo()
        rows = re.findall(r"^\| \[(\w+)\]\(.*?\) \| (.+?) \| (\d+) \|", self.readme, flags=re.M)
        told = {name: (question, minutes) for name, question, minutes in rows}
        books = sorted((root / "notebooks" / "solutions").glob("[0-9]*.ipynb"))
        self.chapters = [
            Chapter(path, *told.get(path.stem, (path.stem[3:].replace("_", " "), "")))
            for path in books
            if "." not in path.stem and (not numbers or path.stem[:2] in numbers)
        ]
        # other languages: README.zh.md, notebooks/solutions/00_start_here.zh.ipynb
        self.chinese = [path for path in books if path.stem.endswith(".zh")] if not numbers else []
        self.pages = self._pages()

    def _repo(self) -> str:
        """owner/name, once `make badges` has written it into README; else nothing."""
        line = next((x for x in self.readme.splitlines() if x.startswith(ONLINE)), "")
        found = re.search(r"/github/([\w.-]+/[\w.-]+?)/blob/", line)
        return found[1] if found else ""

    def _pages(self) -> dict[str, str]:
        """Files of the clone that have a page → the page's source, as Sphinx names it."""
        pages = {"README.md": "index.md", "data/cascade/README.md": "model_card.md"}
        for chapter in self.chapters:
            for folder in ("notebooks/", "notebooks/solutions/"):
                pages[f"{folder}{chapter.page}.ipynb"] = f"{chapter.page}.ipynb"
        for path in self.chinese:
            pages[f"notebooks/solutions/{path.name}"] = path.name.replace(".zh.", "_zh.")
        if (self.root / "README.zh.md").exists():
            pages["README.zh.md"] = "index_zh.md"
        for path in sorted((self.root / "notebooks" / "teaching").glob("*.md")):
            pages[f"notebooks/teaching/{path.name}"] = f"teaching_{path.name}"
        if (self.root / "notebooks" / "TEACHING.md").exists():
            pages["notebooks/TEACHING.md"] = "teaching.md"
        return pages

    # --- text ---------------------------------------------------------------------------------

    def moved(self, text: str, folder: str) -> str:
        """Markdown of a file in `folder` of the clone, as it stands on the site: links and pictures."""

        def link(found: re.Match[str]) -> str:
            words, target = found.groups()
            if target.startswith("#") or re.match(r"[a-z]+:", target):
                return found[0]
            name, _, place = target.partition("#")
            path = posixpath.normpath(posixpath.join(folder, name))
            if path in self.pages:
                page = self.pages[path]
                return f"[{words}]({page}{'#' + place if place and page.endswith('.md') else ''})"
            if self.repo:
                return (
                    f"[{words}]({HOST}{self.repo}/blob/main/{path}{'#' + place if place else ''})"
                )
            # no dead link: a file is named, other words stand by themselves
            return f"`{words}`" if re.fullmatch(r"[\w/-]*[./][\w./-]*", words) else words

        def picture(found: re.Match[str]) -> str:
            alt, target = found.groups()
            if re.match(r"[a-z]+:", target):
                return found[0]
            path = self.root / posixpath.normpath(posixpath.join(folder, target))
            return self.pictures.figure(path, alt)

        # code in a text is no link: fences stay as they are
        parts = re.split(r"(^```.*?^```)", text, flags=re.M | re.S)
        parts[::2] = [LINK.sub(link, PICTURE.sub(picture, part)) for part in parts[::2]]
        return "".join(parts)

    def write(self, source: Path) -> None:
        """Lay all pages ready in `source`; what has not changed is not touched, and Sphinx keeps it."""
        self.source, self.kept = source, set()
        self.pictures = Pictures(source / "extra" / "pictures", self.root)
        self.pictures.logo()
        for chapter in self.chapters:
            self._put(f"{chapter.page}.ipynb", self.notebook(chapter.path, chapter.page))
        for path in self.chinese:
            self._put(path.name.replace(".zh.", "_zh."), self.notebook(path, path.stem))
        parts = sections(self.readme)
        parts[""] = re.sub(rf"^{re.escape(ONLINE)}.*\n", "", parts[""], flags=re.M)
        self._put("index.md", self.first_page(parts))
        for page, text in self.sections(parts).items():
            self._put(f"{page}.md", text)
        self._put("glossary.md", self.glossary())
        for path, page in self.pages.items():
            if page.endswith(".md") and page != "index.md":
                text = (self.root / path).read_text("utf-8")
                self._put(page, self.moved(text, posixpath.dirname(path)))
        for old in source.glob("*.*"):
            if old.name not in self.kept and old.is_file():
                old.unlink()
        self.pictures.tidy()

    def _put(self, name: str, text: str) -> None:
        path = self.source / name
        self.kept.add(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text("utf-8") != text:
            path.write_text(text, "utf-8")

    # --- chapters -----------------------------------------------------------------------------

    def notebook(self, path: Path, page: str) -> str:
        """A complete edition as the site shows it: the same cells, with links and pictures of the site."""
        book = json.loads(path.read_text("utf-8"))
        folder = path.parent.relative_to(self.root).as_posix()
        for number, cell in enumerate(book["cells"]):
            cell["source"] = "".join(cell["source"])
            if cell["cell_type"] == "markdown":
                text = markdown_cell(cell["source"], self.pictures)
                if number == 0:
                    text = self._head(text, path)
                cell["source"] = self.moved(text, folder)
            else:
                code_cell(cell, f"{page}-{number:02}", self.pictures, book["cells"][number:])
        return json.dumps(book, indent=1, ensure_ascii=False)

    def _head(self, text: str, path: Path) -> str:
        """The line of links under the title, which the site has in its margins, becomes the way to work on it."""
        title, _, rest = text.partition("\n")
        rest = re.sub(r"^\[.*\]\(\.\./\d\d_\w+\.ipynb\)\n", "", rest.lstrip(), count=1)
        learners = path.parent.parent / path.name
        online = ""
        if learners.exists():
            head = json.loads(learners.read_text("utf-8"))["cells"][0]["source"]
            online = next((line for line in head if line.startswith(ONLINE)), "").strip()
        if online:
            way = online.replace("Open in", "Work on this chapter in", 1)
        else:
            way = f"Work on this chapter: [`make lab`](start.md), then open `{path.name}`"
        return f"{title}\n\n{{.work}}\n{way}\n\n{rest}"

    # --- pages --------------------------------------------------------------------------------

    def first_page(self, parts: dict[str, str]) -> str:
        """README's first lines and its picture, the chapters as cards, and where everything is."""
        title, *rest = [x for x in re.split(r"\n{2,}", parts[""].strip()) if x]
        lead, hero, *more = rest
        first = self.chapters[0].page
        course = self._toc("The course", [chapter.page for chapter in self.chapters])
        reference = self._toc("Look things up", ["glossary", *SECTIONS, "model_card"])
        teaching = [page for page in self.pages.values() if page.startswith("teaching")]
        teachers = self._toc("For teachers", sorted(Path(page).stem for page in teaching))
        chinese = [Path(p).stem for p in self.pages.values() if p.endswith(("_zh.md", "_zh.ipynb"))]
        switch = " · [中文](index_zh.md)" if "index_zh.md" in self.pages.values() else ""
        return "\n\n".join(
            [
                "---\nhide-toc: true\n---",
                title,
                f"{{.lead}}\n{self.moved(lead, '')}",
                f"{{.doors}}\n[Start with chapter 00]({first}.ipynb) · [Set up](start.md) · "
                f"[Glossary](glossary.md){switch}",
                self.moved(hero, ""),
                "## The chapters",
                self._cards(),
                "## How its parts fit together",
                self.pictures.figure(
                    self.root / "notebooks/diagrams/map.svg", "The cascade, and the chapters that build its parts"
                ),
                "## What it draws",
                self.moved("\n\n".join(more), ""),
                course,
                reference,
                teachers if teaching else "",
                self._toc("中文", chinese) if chinese else "",
            ]
        )  # fmt: skip

    def _cards(self) -> str:
        cards = []
        for chapter in self.chapters:
            image = self.pictures.thumbnail(chapter.path)
            minutes = f"<small>{chapter.minutes} minutes</small>" if chapter.minutes else ""
            cards.append(
                f'<li><a href="{chapter.page}.html">{image}<b>{chapter.number}</b>'
                f"<span>{escape(chapter.question)}</span>{minutes}</a></li>"
            )
        return '<ol class="cards">\n' + "\n".join(cards) + "\n</ol>"

    def _toc(self, caption: str, pages: list[str]) -> str:
        return f"```{{toctree}}\n:hidden:\n:caption: {caption}\n\n" + "\n".join(pages) + "\n```"

    def sections(self, parts: dict[str, str]) -> dict[str, str]:
        """README's sections, page by page."""
        named = {title for _, titles in SECTIONS.values() for title in titles}
        pages = {}
        for page, (title, own) in SECTIONS.items():
            chosen = own or [x for x in parts if x and x not in named]
            body = "\n\n".join(
                (f"## {name}\n" if name != title else "") + parts[name].strip("\n")
                for name in chosen
                if name in parts
            )
            pages[page] = f"# {title}\n\n{self.moved(body, '')}\n"
        return pages

    def glossary(self) -> str:
        """Every chapter's table "Words", in one; a word of two chapters has both explanations."""
        known: dict[str, tuple[list[str], list[str]]] = {}
        for chapter in self.chapters:
            for cell in json.loads(chapter.path.read_text("utf-8"))["cells"]:
                found = WORDS.search("".join(cell["source"]) + "\n")
                for row in (
                    found[1].splitlines() if found and cell["cell_type"] == "markdown" else []
                ):
                    word, chinese, meaning = (x.strip() for x in row.strip("|").split("|"))
                    said = f"{meaning} [{chapter.number}]({chapter.page}.ipynb)"
                    names, meanings = known.setdefault(word, ([], []))
                    meanings.append(said)
                    if chinese not in names:
                        names.append(chinese)
        rows = [
            f"| {word} | {'；'.join(names)} | {'; '.join(meanings)} |"
            for word, (names, meanings) in sorted(known.items(), key=lambda x: _letters(x[0]))
        ]
        head = "| word | 中文 | what it means here, and the chapter |\n| --- | --- | --- |"
        text = f"The {len(rows)} words that the chapters explain, in English and Chinese."
        return "\n".join(
            [
                "---\nhide-toc: true\n---\n# Glossary · 词汇表\n",
                text,
                "\n{.glossary}",
                head,
                *rows,
                "",
            ]
        )


def _letters(word: str) -> tuple[bool, str]:
    """Latin words by their letters, signs after them."""
    return (not word[0].isascii(), word.casefold())
