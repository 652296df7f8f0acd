"""A talk for each chapter: what it must hold, how much text a slide may, and how it behaves in a browser."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from minimagen.course import show

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
from notebooks.slides import chapter, choose, deck, page, pictures  # noqa: E402

CHAPTERS = sorted(deck.SOURCES.glob("[0-9]*.ipynb"))


def named(path: Path) -> str:
    return path.stem[:2]


@pytest.fixture
def quick(monkeypatch):
    """Figures are not made larger: what stands around them is looked at."""
    monkeypatch.setattr(pictures, "prepared", lambda image, alt: ("data:image/webp;base64,", 2.0))


@pytest.mark.parametrize("path", CHAPTERS, ids=named)
def test_a_talk_has_all_its_parts_and_little_text(path, quick):
    source = chapter.read(path)
    slides = choose.slides(source)
    assert 10 <= len(slides) <= choose.MOST == 25
    for slide in slides:
        text = slide.html()
        assert page.words(text) <= page.MOST == 40, text
        notes = re.search(r'<aside class="notes">(.+)</aside>', text, re.S)
        assert notes and page.words(notes[1]) >= 1, f"no notes: {text[:200]}"
        for image in re.findall(r"<img[^>]*>", text):
            assert re.search(r'alt="[^"]{5,}"', image), "a picture without alt text"
    kinds = [slide.kind for slide in slides]
    assert kinds[0] == "title" and kinds[-1] == "quiz" and "lines" in kinds
    assert kinds.count("quiz") >= len(source.quiz) >= 3
    assert any("<img" in slide.body for slide in slides[1:])
    asked = [k for k, kind in enumerate(kinds) if kind == "ask"]
    assert asked or not any(part.truth for part in source.parts), "nothing to ask the class"
    for k in asked:
        truth = slides[k].notes[-1].removeprefix("It is ").removesuffix(".")
        assert truth.startswith("≈ ") and truth not in slides[k].body
        assert choose.claim(truth) in slides[k + 1].body
    functions = [part for part in source.parts if part.kind == "function"]
    assert kinds.count("write") == len(functions) <= kinds.count("program")


def test_the_program_of_a_talk_is_the_chapters(quick):
    source = chapter.read(next(p for p in CHAPTERS if p.name.startswith("01")))
    function = next(part for part in source.parts if "def markov_step" in part.text)
    head, body = chapter.signature(function.text)
    assert head.startswith('def markov_step(x, beta, eps):\n    """One step of noise')
    assert body == (
        "def markov_step(x, beta, eps):\n    return (1 - beta) ** 0.5 * x + beta**0.5 * eps"
    )


def test_words_are_counted_without_formulas_programs_and_notes():
    text = "<p>two <b>words</b></p><pre>x = 1</pre><svg><text>no</text></svg> ≈ 3"
    assert page.words(text + '<aside class="notes">many more words</aside>') == 3
    assert page.words("<li>one</li><li>two</li>") == 2
    assert page.words(page.line(r"the mean $\mu_a$, and `q_sample`")) == 4


def test_a_formula_says_its_tex_and_grows_with_the_text():
    made = page.formula(r"\bar\alpha_t")
    assert 'aria-label="\\bar\\alpha_t"' in made and re.search(r"width:[\d.]+em", made)
    assert "<use" not in made and "href" not in made


def test_a_long_program_is_cut_between_statements():
    lines = [
        "def f(x):",
        *(f"    x = x + {k}" for k in range(9)),
        "    for _ in x:",
        *["        x += 1"] * 9,
    ]
    one, two = choose.halves("\n".join(lines))
    assert f"{one}\n{two}" == "\n".join(lines)
    assert not two.startswith("        ")
    assert choose.halves("def f():\n    return 1") == ["def f():\n    return 1"]


def test_a_claims_number_stands_out():
    assert choose.claim("it is small ≈ 4.04e-05") == "it is small <b>≈ 4.04 × 10⁻⁵</b>"
    assert choose.claim("a < b") == "a &lt; b"


@pytest.mark.parametrize("sharp", [False, True])
def test_the_words_beneath_a_figure_are_cut_off(sharp):
    """They are the alt text, which the slide's caption replaces."""
    heights = []
    for alt in (
        "",
        "how a loss falls, in words that are so many that they take more than one line " * 2,
    ):
        drawn, axis = plt.subplots(figsize=(9.4, 3.6))
        axis.plot([0, 1], [0, 1])
        axis.set_xlabel("time")
        drawn.tight_layout()
        if alt:
            show._caption(drawn, alt)
        image = Image.open(io.BytesIO(show.png(drawn, dpi=160 if sharp else 80)))
        image = pictures.without_caption(image.convert("RGB"), alt, 2 if sharp else 1)
        heights.append(pictures.trimmed(image).height)
    assert abs(heights[0] - heights[1]) <= 2


def test_enlarged_pixels_stay_crisp():
    small = Image.fromarray(
        np.kron([[0, 1], [1, 0]], np.ones((5, 5))).astype(np.uint8) * 255
    ).convert("RGB")
    large = np.asarray(pictures.enlarged(small, 4))
    assert large.shape == (40, 40, 3)
    assert ((large == 0) | (large == 255)).mean() > 0.9
    soft = np.asarray(small.resize((40, 40), Image.Resampling.BICUBIC))
    assert ((soft == 0) | (soft == 255)).mean() < 0.85


def test_a_long_row_of_pictures_becomes_two():
    row = Image.new("RGB", (430, 60), "white")
    for k in range(4):
        row.paste((0, 90, 160), (k * 110, 0, k * 110 + 100, 60))
    assert pictures.folded(row).size == (210, 125)
    solid = Image.new("RGB", (430, 60), "black")
    assert pictures.folded(solid).size == solid.size


OUTSIDE = """() => {
  const slide = Reveal.getCurrentSlide(), all = slide.getBoundingClientRect(), found = [];
  for (const one of slide.querySelectorAll("*")) {
    const at = one.getBoundingClientRect();
    if (one.closest("aside") || !at.width) continue;
    const out = Math.max(all.left - at.left, at.right - all.right, all.top - at.top, at.bottom - all.bottom);
    const inner = Math.max(one.scrollHeight - one.clientHeight, one.scrollWidth - one.clientWidth);
    if (out > 1 || (one.matches(".stage, pre, ol") && inner > 1))
      found.push(one.outerHTML.slice(0, 120));
  }
  return found;
}"""


def looked_through(browser, path: Path, folder: Path) -> None:
    """Go through a deck with the keys, with the network cut; nothing may be outside a slide of 1280 × 720."""
    file = folder / f"{path.stem}.html"
    file.write_text(deck.deck(path), encoding="utf-8")
    context = browser.new_context(viewport={"width": 1280, "height": 720}, offline=True)
    view = context.new_page()
    told: list[str] = []
    view.on("console", lambda message: told.append(message.text))
    view.on("pageerror", lambda error: told.append(str(error)))
    view.on(
        "request",
        lambda asked: told.append(asked.url) if asked.url[:5] not in ("file:", "data:") else None,
    )
    view.goto(file.as_uri())
    view.wait_for_function("Reveal.isReady()")
    count = view.evaluate("Reveal.getTotalSlides()")
    seen = set()
    for _ in range(2 * count):  # fragments take a key, too
        seen.add(view.evaluate("Reveal.getIndices().h"))
        assert view.evaluate(OUTSIDE) == [], f"{path.stem}, slide {max(seen) + 1}"
        view.keyboard.press("ArrowRight")
    assert seen == set(range(count))
    view.keyboard.press("Home")
    assert view.evaluate("Reveal.isFirstSlide()")
    assert not told, told
    context.close()


@pytest.mark.browser
def test_a_deck_in_a_browser(browser, tmp_path):
    path = next(p for p in CHAPTERS if p.name.startswith("08"))
    looked_through(browser, path, tmp_path)
    file = tmp_path / f"{path.stem}.html"
    assert file.stat().st_size < 3e6

    context = browser.new_context(viewport={"width": 1280, "height": 720}, offline=True)
    view = context.new_page()
    view.goto(f"{file.as_uri()}#/1")
    view.wait_for_function("Reveal.isReady()")
    with view.expect_popup() as opened:
        view.keyboard.press("s")
    speaker = opened.value
    speaker.wait_for_function(
        "document.querySelector('.speaker-controls-notes .value').innerText.length > 20"
    )
    assert "everything that was asked for" in speaker.inner_text(".speaker-controls-notes .value")
    speaker.close()
    view.keyboard.press("Escape")
    assert view.evaluate("Reveal.isOverview()")
    view.keyboard.press("p")
    view.wait_for_selector(".pdf-page")
    pages = view.pdf(prefer_css_page_size=True, print_background=True)
    sheets = len(re.findall(rb"/Type\s*/Page\b", pages))
    assert sheets == view.evaluate("document.querySelectorAll('.pdf-page').length") >= 10
    context.close()


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.parametrize("path", CHAPTERS, ids=named)
def test_every_deck_in_a_browser(browser, tmp_path, path):
    looked_through(browser, path, tmp_path)
