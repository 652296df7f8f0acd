"""The course's web page, made by `make site`: its links, its search, and how it behaves in a browser, offline.

Two chapters by default; the whole site, page by page, under `slow`. The screenshots in .cache/screenshots are to be
looked at.
"""

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).resolve().parents[2]
HERE = ROOT / "notebooks" / "site"
SHOTS = ROOT / ".cache" / "screenshots"  # ignored by git
COMPLETE = sorted((ROOT / "notebooks" / "solutions").glob("[0-9]*.ipynb"))


def module(name):
    """A module of notebooks/site, which is no package: they find one another by their folder."""
    sys.path.insert(0, str(HERE))
    try:
        spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
        loaded = importlib.util.module_from_spec(spec)
        sys.modules[name] = loaded  # dataclasses look there
        spec.loader.exec_module(loaded)
    finally:
        sys.path.remove(str(HERE))
    return loaded


def built(folder, *chapters):
    """The site, with a talk for chapter 08, and one for a chapter that it has not."""
    slides = folder.parent / "slides"
    slides.mkdir()
    for name in ("08_guidance", "16_next"):
        (slides / f"{name}.html").write_text(f"<title>{name}</title><body>A talk.</body>")
    command = [sys.executable, HERE / "build.py", "--strict", "--out", folder, "--slides", slides]
    done = subprocess.run(
        [*command, *(["--chapters", *chapters] if chapters else [])], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site with two chapters: the first has a slider and guesses, the other formulas and code to write."""
    return built(tmp_path_factory.mktemp("few") / "site", "00", "08")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return built(tmp_path_factory.mktemp("all") / "site")


# --- what is laid ready ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def laid(tmp_path_factory):
    folder = tmp_path_factory.mktemp("source")
    module("gather").Site(ROOT, []).write(folder)
    return folder


def cells(path):
    return json.loads(path.read_text("utf-8"))["cells"]


@pytest.mark.parametrize("path", COMPLETE, ids=lambda path: path.stem)
def test_a_chapter_keeps_its_cells_and_its_code(laid, path):
    made, source = cells(laid / path.name), cells(path)
    assert [c["id"] for c in made] == [c["id"] for c in source]
    marks = re.compile(r"^ *### (BEGIN|END) .*\n?", re.M)
    for new, old in zip(made, source, strict=True):
        if old["cell_type"] == "code":
            assert new["source"] == marks.sub("", "".join(old["source"])).rstrip("\n")
            assert "image/png" not in str([list(o.get("data", {})) for o in new["outputs"]])
        else:
            assert not re.search(r"data:image|\]\[[\w-]+@\w+\]", new["source"])
    asked = sum("[a slider from" in json.dumps(c.get("outputs", [])) for c in source)
    forms = re.findall(
        r"data-told=\\\"You said \{guess\}, and it is ≈ (\S+)\.\\\"",
        (laid / path.name).read_text("utf-8"),
    )
    assert len(forms) == asked, "a guess without its answer"
    told = re.findall(r"You made no guess\. It is ≈ (\S+?)\\n", path.read_text("utf-8"))
    assert sorted(forms) == sorted(told)


def test_what_moves_without_a_kernel_is_left_as_it_is(laid):
    for path in COMPLETE:
        alive = r"<div class='minimagen-\w+' data-"
        count = len(re.findall(alive, path.read_text("utf-8")))
        assert len(re.findall(alive, (laid / path.name).read_text("utf-8"))) == count


def test_each_word_of_the_chapters_is_in_the_glossary(laid):
    page = (laid / "glossary.md").read_text("utf-8")
    seen = 0
    for path in COMPLETE:
        for cell in cells(path):
            text = "".join(cell["source"])
            if "## Words\n" not in text:
                continue
            for row in re.findall(
                r"^\| (.+) \| (.*?) ?\| (.+) \|$", text.split("## Words\n")[1], re.M
            ):
                if not row[0].startswith("---"):
                    (line,) = (x for x in page.splitlines() if x.startswith(f"| {row[0]} |"))
                    assert f"{row[2]} [{path.name[:2]}]({path.name})" in line
                    assert row[1] in line
                    seen += 1
    assert seen > 80


def test_links_to_work_on_a_chapter_come_with_an_address(tmp_path, laid):
    """Before `make badges` none; after it each chapter's own, and files lead to the repository."""
    assert "colab.research" not in "".join(p.read_text("utf-8") for p in laid.glob("*.*"))
    for name in (
        "README.md",
        "notebooks/06_text_encoder.ipynb",
        "notebooks/solutions/06_text_encoder.ipynb",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    for folder in ("data", "notebooks/diagrams"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    run = [
        sys.executable,
        "-c",
        "import badges, pathlib, sys; badges.main(pathlib.Path(sys.argv[1]), 'a/b')",
        tmp_path,
    ]
    subprocess.run(run, cwd=ROOT / "notebooks", check=True)
    source = tmp_path / "source"
    module("gather").Site(tmp_path, []).write(source)
    text = (source / "06_text_encoder.ipynb").read_text("utf-8")
    own = "colab.research.google.com/github/a/b/blob/main/notebooks/06_text_encoder.ipynb"
    assert own in text and "mybinder.org" in text and "kaggle.com" in text
    assert "https://github.com/a/b/blob/main/CONTRIBUTING.md#notebooks" in (
        source / "start.md"
    ).read_text("utf-8")


def test_chapters_in_chinese(laid):
    """The translation's text with the same outputs; what they say is Chinese where the code says it."""
    for path in (ROOT / "notebooks" / "chinese").glob("[0-9]*.json"):
        english, chinese = (laid / f"{path.stem}{x}.ipynb" for x in ("", "_zh"))
        texts = [page.read_text("utf-8") for page in (english, chinese)]
        assert (
            texts[0].count('class=\\"guess\\"') == texts[1].count("你猜的是 {guess}，答案是 ≈ ") > 0
        )
        assert "You made no guess" not in texts[1] and "Your prediction" not in texts[1]
        assert f"[中文]({chinese.name})" in texts[0] and f"[English]({english.name})" in texts[1]
        pictures = [set(re.findall(r"pictures/[\w-]+\.(?:png|svg)", text)) for text in texts]
        assert pictures[0] == pictures[1]


def test_every_section_of_readme_has_a_place(laid):
    pages = "".join(path.read_text("utf-8") for path in laid.glob("*.md"))
    for title in re.findall(r"^## (.+)$", (ROOT / "README.md").read_text("utf-8"), re.M):
        assert re.search(rf"^##? {re.escape(title)}$", pages, re.M), title


def test_chinese_is_found_by_pairs_of_characters():
    split = module("conf").EnglishAndChinese({}).split
    assert split("guidance weight 引导权重 w") == [
        *("guidance", "weight", "w", "引", "导", "权", "重", "引导", "导权", "权重")
    ]  # fmt: skip


# --- links ----------------------------------------------------------------------------------------


class Page(HTMLParser):
    """Addresses and anchors of a page."""

    def __init__(self, path):
        super().__init__()
        self.links, self.loaded, self.ids = [], [], set()
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag, attributes):
        named = dict(attributes)
        if named.get("id"):
            assert named["id"] not in self.ids, f"two of {named['id']}"
            self.ids.add(named["id"])
        if tag == "a" and named.get("href"):
            self.links.append(named["href"])
        if tag == "link" and named.get("rel") not in ("canonical",) and named.get("href"):
            self.loaded.append(named["href"])
        if named.get("src"):
            self.loaded.append(named["src"])


def crawl(site):
    """Every page is reached from the first; every link leads to a file and an anchor that are there."""
    pages = {path: Page(path) for path in site.rglob("*.html")}
    reached, waiting = set(), [site / "index.html"]
    while waiting:
        path = waiting.pop()
        if path in reached:
            continue
        reached.add(path)
        for address in pages[path].links + pages[path].loaded:
            parts = urlsplit(address)
            if parts.scheme or address.startswith("//"):
                assert address in pages[path].links or parts.scheme == "data", (
                    f"{path.name} loads {address}"
                )
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            assert target.is_file(), f"{path.name}: {address}"
            if parts.fragment and target in pages:
                assert unquote(parts.fragment) in pages[target].ids, f"{path.name}: {address}"
            if target in pages and address in pages[path].links:
                waiting.append(target)
    assert reached | {site / "search.html"} == set(pages)
    return pages


def test_no_link_is_dead(site):
    assert {"index.html", "glossary.html", "08_guidance.html"} <= {p.name for p in crawl(site)}


def test_a_chapter_and_its_talk_lead_to_each_other(site):
    """Only where there is a talk; the crawl above looks whether its links are dead."""
    assert [path.name for path in (site / "slides").iterdir()] == ["08_guidance.html"]
    assert "../08_guidance.html" in Page(site / "slides" / "08_guidance.html").links
    assert "slides/08_guidance.html" in Page(site / "08_guidance.html").links
    assert "Slides</a>" not in (site / "00_start_here.html").read_text("utf-8")


def test_around_a_chinese_page_all_is_chinese(site):
    """Its margin, buttons and what comes next; from it to English and back is one click."""
    first, chapter = (
        (site / f"{x}_zh.html").read_text("utf-8") for x in ("index", "00_start_here")
    )
    for text in (first, chapter):
        assert '<html class="no-js" lang="zh-CN"' in text
        assert not re.search(r">\s*(Search|Next|Previous|On this page|Skip to content)\s*<", text)
        assert 'placeholder="搜索"' in text and "Show the set-up" not in text
        margin = text.split('class="sidebar-tree"')[1].split("</aside>")[0]
        assert re.findall(r'href="([^"]+)">', margin).count("#") == 1
        assert "08_guidance.html" in margin and "怎样让它听话？" in margin
        assert 'href="index.html">The course in English' in margin
    assert '<a class="sidebar-brand" href="#">' in first
    assert '<a class="sidebar-brand" href="index_zh.html">' in chapter
    for text, before, after in ((first, 0, 1), (chapter, 1, 1)):
        assert (
            text.count('class="prev-page"') == before and text.count('class="next-page"') == after
        )
    assert 'class="next-page" href="00_start_here_zh.html"' in first
    anchor = re.search(r'href="#([^"]+)">(?:<[^>]+>)?安装<', first)
    assert anchor and unquote(anchor[1]) in Page(site / "index_zh.html").ids
    assert "index_zh.html" in Page(site / "index.html").links
    assert "00_start_here_zh.html" in Page(site / "00_start_here.html").links


# --- in a browser ---------------------------------------------------------------------------------


class Visit:
    """A page of the site, opened from its folder: nothing else may be asked for, nothing may go wrong."""

    def __init__(self, browser, site, name, scheme="light", width=1200):
        self.wrong = []
        view = {"width": width, "height": 900}
        self.context = browser.new_context(
            viewport=view, color_scheme=scheme, reduced_motion="reduce"
        )
        self.page = self.context.new_page()
        self.page.on("console", lambda m: self.wrong.append(m.text) if m.type == "error" else None)
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("request", lambda request: self._inside(request.url, site.as_uri()))
        self.page.goto(f"{site.as_uri()}/{name}", wait_until="load")

    def _inside(self, url, site):
        if not url.startswith((site, "data:", "blob:")):
            self.wrong.append(f"asked for {url}")

    def __enter__(self):
        return self.page

    def __exit__(self, *raised):
        self.context.close()
        assert raised[0] or not self.wrong, self.wrong


def accessible(page):
    """No serious finding of axe, and nothing wider than the window."""
    from axe_playwright_python.sync_playwright import Axe

    # preload would fetch the styles; formulas are pictures of one colour, in thousands of parts
    found = Axe().run(page, {"exclude": [["mjx-container"]]}, {"preload": False})
    serious = [
        (v["id"], [n["target"] for n in v["nodes"]][:3])
        for v in found.response["violations"]
        if v["impact"] in ("serious", "critical")
    ]
    assert not serious
    fits(page)


def fits(page):
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def shot(page, name):
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / f"site-{name}.png")


class TestInABrowser:
    pytestmark = pytest.mark.browser

    def test_a_slider_and_a_guess_work_without_a_kernel(self, site, browser):
        with Visit(browser, site, "00_start_here.html") as page:
            slider = page.get_by_role("slider", name="step", exact=True)
            seen = []
            for key in ("Home", "ArrowRight", "End"):
                slider.press(key)
                seen.append(page.locator(".minimagen-frames img").get_attribute("src"))
            assert len(set(seen)) == 3
            guess = page.locator("form.guess").first
            button = guess.get_by_role("button")
            assert button.is_disabled()
            guess.get_by_role("slider").press("End")
            button.click()
            assert re.fullmatch(r"You said 10, and it is ≈ \d+\.", guess.locator("p").inner_text())
            assert not page.locator("details.hide .highlight").first.is_visible()
            page.locator("details.hide summary").first.click()
            assert page.locator("details.hide .highlight").first.is_visible()

    def test_formulas_are_drawn_from_the_folder(self, site, browser):
        with Visit(browser, site, "08_guidance.html") as page:
            page.locator("mjx-container svg").first.wait_for()
            assert page.locator(".math:not(:has(mjx-container))").count() == 0
            assert page.locator("mjx-merror").count() == 0

    @pytest.mark.parametrize("asked", ["guidance", "引导"])
    def test_search_finds(self, site, browser, asked):
        with Visit(browser, site, f"search.html?q={asked}") as page:
            page.locator("#search-results li a[href*='08_guidance']").first.wait_for()
            assert page.locator("#search-results li a[href*='about']").count() == 0

    @pytest.mark.parametrize(("scheme", "width"), [("light", 1200), ("dark", 390)])
    def test_the_first_page_can_be_read_by_everybody(self, site, browser, scheme, width):
        with Visit(browser, site, "index.html", scheme, width) as page:
            accessible(page)
            assert page.locator(f"figure img.only-{scheme}").first.is_visible()

    def test_a_chapter_fits_a_phone(self, site, browser):
        with Visit(browser, site, "08_guidance.html", width=390) as page:
            page.locator("mjx-container svg").first.wait_for()
            fits(page)

    @pytest.mark.parametrize("width", [1200, 390])
    def test_the_glossary_is_filtered(self, site, browser, width):
        with Visit(browser, site, "glossary.html", width=width) as page:
            page.get_by_label("Find a word").fill("引导权重")
            rows = page.locator("table.glossary tbody tr:visible")
            assert rows.count() == 1
            box = rows.locator("td").last.bounding_box()
            assert 0.6 * min(width, 600) < box["width"] < width, "its meaning can't be read"


@pytest.mark.slow
class TestTheWholeSite:
    pytestmark = pytest.mark.browser

    def test_no_link_is_dead(self, whole):
        pages = {path.stem for path in crawl(whole)}
        assert {path.stem for path in COMPLETE if "." not in path.stem} <= pages
        size = sum(file.stat().st_size for file in whole.rglob("*") if file.is_file())
        assert size < 20 * 2**20

    @pytest.mark.parametrize(("scheme", "width"), [("light", 1400), ("dark", 390)])
    def test_every_page_can_be_read_by_everybody(self, whole, browser, scheme, width):
        for path in sorted(whole.glob("*.html")):
            with Visit(browser, whole, path.name, scheme, width) as page:
                if page.locator(".math").count():
                    page.locator("mjx-container svg").first.wait_for()
                    assert page.locator("mjx-merror").count() == 0, path.name
                accessible(page)
                shot(page, f"{path.stem}-{scheme}-{width}")
                # what arrow keys and pictures live on
                for slider in page.locator(".minimagen-frames input").all():
                    before = slider.get_attribute("aria-valuetext")
                    slider.press("End")
                    assert slider.get_attribute("aria-valuetext") != before
                empty = "[...document.images].filter(e => e.complete && !e.naturalWidth && e.src).map(e => e.src)"
                assert page.evaluate(empty) == []
