"""Lays the site's pages ready: README, chapters, glossary, the teacher's pages, with links that hold there."""

from __future__ import annotations

import json
import posixpath
import re
import runpy
from dataclasses import dataclass
from html import escape
from pathlib import Path

import decks
import zh
from cells import code_cell, markdown_cell, say_in_chinese
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

# What the first page says beside README's own words.
SAID = {
    "en": {
        "start": "Start with chapter 00",
        "set up": "[Set up](start.md)",
        "glossary": "Glossary",
        "chapters": "The chapters",
        "minutes": "minutes",
        "parts": "How its parts fit together",
        "draws": "What it draws",
        "other": "[中文](index_zh.md)",
    },
    "zh": {
        "start": "从第 00 章开始",
        "set up": "[安装](#两条命令)",  # a section of the same page
        "glossary": "词汇表",
        "chapters": "各章（第 00 章有中文版）",
        "minutes": "分钟",
        "parts": "各部分怎样合在一起",
        "draws": "它画的图",
        "other": "[English](index.md)",
    },
}
# a line of README's table of chapters
ROW = re.compile(r"^\| \[(\w+)\]\(.*?\) \| (.+?) \| (\d+) \|.*\n", re.M)


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

    def __init__(self, root: Path, numbers: list[str], slides: Path | None = None) -> None:
        self.root, self.slides = root, slides or root / "slides"
        self.readme = (root / "README.md").read_text("utf-8")
        self.repo = self._repo()
        told = {name: (question, minutes) for name, question, minutes in ROW.findall(self.readme)}
        books = sorted((root / "notebooks" / "solutions").glob("[0-9]*.ipynb"))
        self.chapters = [
            Chapter(path, *told.get(path.stem, (path.stem[3:].replace("_", " "), "")))
            for path in books
            if not numbers or path.stem[:2] in numbers
        ]
        translations = root / "notebooks" / "chinese"
        self.chinese = [c for c in self.chapters if (translations / f"{c.page}.json").exists()]
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
        for chapter in self.chinese:
            pages[f"notebooks/{chapter.page}.zh.ipynb"] = f"{chapter.page}_zh.ipynb"
        if (self.root / "README.zh.md").exists():
            pages["README.zh.md"] = "index_zh.md"
        known = {chapter.number for chapter in self.chapters}
        for path in sorted((self.root / "notebooks" / "teaching").glob("*.md")):
            if path.stem[:2].isdigit() and path.stem[:2] not in known:
                continue
            pages[f"notebooks/teaching/{path.name}"] = f"teaching_{path.name}"
        for path in sorted(
            (self.root / "notebooks").glob("*.md"), reverse=True
        ):  # TEACHING.md first
            pages[f"notebooks/{path.name}"] = path.name.lower()
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
        names = [chapter.page for chapter in self.chapters]
        self.talks = decks.add(self.slides, source / "extra" / "slides", names)
        for chapter in self.chapters:
            book = json.loads(chapter.path.read_text("utf-8"))
            self._put(f"{chapter.page}.ipynb", self.notebook(book, chapter, "en"))
        for chapter in self.chinese:
            book = self.translated(chapter)
            self._put(f"{chapter.page}_zh.ipynb", self.notebook(book, chapter, "zh"))
        parts = sections(self.readme)
        self._put("index.md", self.first_page(parts, "en") + self.margin())
        if "README.zh.md" in self.pages:
            self._put("index_zh.md", self.chinese_page())
        self._put(zh.MARGIN, json.dumps(self.chinese_margin(), ensure_ascii=False))
        for page, text in self.sections(parts).items():
            self._put(f"{page}.md", text)
        self._put("glossary.md", self.glossary())
        for path, page in self.pages.items():
            if page.endswith(".md") and not page.startswith("index"):
                text = (self.root / path).read_text("utf-8")
                own = self._teachers() if page == "teaching.md" else ""
                self._put(page, self.moved(text, posixpath.dirname(path)) + own)
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

    def notebook(self, book: dict, chapter: Chapter, language: str) -> str:
        """A complete edition as the site shows it: the same cells, with links and pictures of the site."""
        folder = "notebooks" if language == "zh" else "notebooks/solutions"
        if language == "zh":
            book["metadata"]["mystnb"] = zh.SET_UP
        for number, cell in enumerate(book["cells"]):
            cell["source"] = "".join(cell["source"])
            if cell["cell_type"] == "markdown":
                text = markdown_cell(cell["source"], self.pictures)
                if number == 0:  # its line of links, which the site has in its margin, makes way
                    title, _, rest = text.partition("\n")
                    rest = re.sub(r"^\[.*\.ipynb\).*\n", "", rest.lstrip(), count=1)
                    head = f"{title}\n\n{{.work}}\n{self._work(chapter, language)}\n\n"
                    cell["source"] = head + self.moved(rest, folder)
                else:
                    cell["source"] = self.moved(text, folder)
            else:
                code_cell(cell, self.pictures, book["cells"][number + 1 :], language)
        return json.dumps(book, indent=1, ensure_ascii=False)

    def translated(self, chapter: Chapter) -> dict:
        """A complete edition with its translation's text; its outputs, too, where they say what the code says."""
        course = self.root / "minimagen" / "course"
        path = self.root / "notebooks" / "chinese" / f"{chapter.page}.json"
        told = json.loads(path.read_text("utf-8"))
        phrases = json.loads((course / "phrases.zh.json").read_text("utf-8"))
        # what stands before the first brace: "Your prediction: " and the like
        always = {en.partition("{")[0]: zh.partition("{")[0] for en, zh in phrases.items()}
        chinese = runpy.run_path(
            str(course / "chinese.py")
        )  # by its path: the package imports torch
        book = chinese["translated"](json.loads(chapter.path.read_text("utf-8")), told)
        for cell in book["cells"]:
            own = told.get(cell["id"])
            words = {**(own if isinstance(own, dict) else {}), **always}
            for output in cell.get("outputs", []):
                say_in_chinese(output, words)
        return book

    def _work(self, chapter: Chapter, language: str) -> str:
        """How to work on a chapter: online, once `make badges` has written the links, else here."""
        learners = f"{chapter.page}.zh.ipynb" if language == "zh" else f"{chapter.page}.ipynb"
        path, online = self.root / "notebooks" / learners, ""
        if path.exists():
            head = json.loads(path.read_text("utf-8"))["cells"][0]["source"]
            online = next((line for line in head if line.startswith(ONLINE)), "").strip()
        work = "动手做" if language == "zh" else "Work on this chapter"
        if online:
            way = online.replace("Open in", f"{work}:", 1)
        elif language == "zh":
            way = f"{work}：`make lab`，然后打开 `{learners}`"
        else:
            way = f"{work}: [`make lab`](start.md), then open `{learners}`"
        if language == "zh":
            way += f" · [English]({chapter.page}.ipynb)"
        elif chapter in self.chinese:
            way += f" · [中文]({chapter.page}_zh.ipynb)"
        if chapter.page in self.talks:
            slides = "幻灯片（英文）" if language == "zh" else "Slides"
            way += f' · <a href="slides/{chapter.page}.html">{slides}</a>'
        return way

    # --- pages --------------------------------------------------------------------------------

    def first_page(self, parts: dict[str, str], language: str) -> str:
        """README's first lines and its picture, the chapters as cards, and what the system draws."""
        said, blocks = SAID[language], re.split(r"\n{2,}", parts[""].strip())
        skipped = re.compile(
            rf"{re.escape(ONLINE)}|\[\S+\]\(README\S*\)$"
        )  # links of README itself
        own = [block for block in blocks[1:] if not skipped.match(block)]
        hero = next(i for i, block in enumerate(own) if block.startswith("!["))
        first = self.chapters[0].page + ("_zh" if language == "zh" and self.chinese else "")
        doors = [
            f"[{said['start']}]({first}.ipynb)",
            said["set up"],
            f"[{said['glossary']}](glossary.md)",
        ]
        if "README.zh.md" in self.pages:
            doors.append(said["other"])
        questions = {name: question for name, question, _ in ROW.findall("".join(parts.values()))}
        return "\n\n".join(
            [
                "---\nhide-toc: true\n---",
                blocks[0],
                *(f"{{.lead}}\n{self.moved(block, '')}" for block in own[:hero]),
                "{.doors}\n" + " ".join(doors),
                self.moved(own[hero], ""),
                f"## {said['chapters']}",
                self._cards(questions, language),
                f"## {said['parts']}",
                self.pictures.figure(self.pictures.diagram("map"), ""),
                f"## {said['draws']}",
                self.moved("\n\n".join(own[hero + 1 :]), ""),
                "",
            ]
        )

    def margin(self) -> str:
        """What stands in the margin of every page."""
        teachers = [
            page[:-3] for path, page in self.pages.items() if re.match(r"notebooks/\w+\.md", path)
        ]
        chinese = [Path(p).stem for p in self.pages.values() if Path(p).stem.endswith("_zh")]
        return "\n\n".join(
            [
                self._toc("The course", [chapter.page for chapter in self.chapters]),
                self._toc("Look things up", ["glossary", *SECTIONS, "model_card"]),
                self._toc("For teachers", teachers) if teachers else "",
                self._toc(
                    "中文",
                    [f"中文首页 <{x}>" if x == "index_zh" else x for x in sorted(chinese)[::-1]],
                )
                if chinese
                else "",
            ]
        )

    def chinese_margin(self) -> list[tuple[str, list[tuple[str, str]]]]:
        """The same for Chinese pages: captions, each with its pages and their titles."""
        readme = self.root / "README.zh.md"
        told = (
            dict(x[:2] for x in ROW.findall(readme.read_text("utf-8"))) if readme.exists() else {}
        )
        first = [("index_zh", "首页")] if told else []
        chinese, english = [], []
        for chapter in self.chapters:
            title = f"{chapter.number} · {told.get(chapter.page, chapter.question)}"
            if chapter in self.chinese:
                chinese.append((f"{chapter.page}_zh", title))
            else:
                english.append((chapter.page, title))
        return [
            ("课程", first + chinese),
            ("其余各章（英文）", english),
            ("查找", [("glossary", "词汇表")]),
            ("English", [("index", "The course in English")]),
        ]

    def _teachers(self) -> str:
        """The pages of the teacher's guide, one a chapter, below it."""
        pages = [Path(p).stem for p in self.pages.values() if p.startswith("teaching_")]
        return "\n\n" + self._toc("", pages) + "\n" if pages else ""

    def chinese_page(self) -> str:
        """The Chinese README in one page: its first lines and cards as on the English one, then its sections."""
        text = (self.root / "README.zh.md").read_text("utf-8")
        # Chinese has no spaces: a line's end is none either
        parts = sections(
            re.sub(r"(?<=[\u3001-\u9fff\uff01-\uff5e])\n(?=[\u3001-\u9fff\uff01-\uff5e])", "", text)
        )
        body = "".join(f"## {title}\n{text}" for title, text in parts.items() if title)
        return self.first_page(parts, "zh") + self.moved(body, "")

    def _cards(self, questions: dict[str, str], language: str) -> str:
        cards = []
        for chapter in self.chapters:
            image, page, time = self.pictures.thumbnail(chapter.path), chapter.page, ""
            if language == "zh" and chapter in self.chinese:
                page += "_zh"
            if chapter.minutes:
                time = f"<small>{chapter.minutes} {SAID[language]['minutes']}</small>"
            question = escape(questions.get(chapter.page, chapter.question))
            cards.append(
                f'<li><a href="{page}.html">{image}<b>{chapter.number}</b><span>{question}</span>{time}</a></li>'
            )
        return '<ol class="cards">\n' + "\n".join(cards) + "\n</ol>"

    def _toc(self, caption: str, pages: list[str]) -> str:
        named = f":caption: {caption}\n" if caption else ""
        return f"```{{toctree}}\n:hidden:\n{named}\n" + "\n".join(pages) + "\n```"

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
