"""The playground: words to press, six pictures at a time, what it does not know, what was drawn before."""

from __future__ import annotations

import base64
import html
import random
import time
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from PIL import Image
from torch import Tensor

from ..errors import TextWarning, UserError
from ..images import save_png, to_pil
from ..text import normalized
from . import show, widgets
from .folder import work
from .language import say
from .slider import encoded
from .words import LANGUAGES, Choice, chips, pieces, remarks, sentence

if TYPE_CHECKING:
    from ..imagen import Imagen

# draw(words, seeds, watch) gives a picture a seed; meanwhile it calls watch(what it is at, pictures so far)
Draw = Callable[[str, Sequence[int], Callable[[str, Tensor], None]], Tensor]

KINDS = ("thing", "number", "colour", "size", "place", "time", "style")
REMEMBERED = 8  # earlier drawings that are shown
EVERY = 0.4  # seconds between two looks at what is being drawn
# Paper and ink of a piece of the sentence: a kind is told by its colour and, to a screen reader, by its title
INK = "#14171c"
PAPER = {
    "thing": "#bcdcf5", "near": "#e6e9ee", "place": "#c3ead2", "colour": "#fbdf9f", "size": "#fbdf9f",
    "number": "#fbdf9f", "time": "#f0d3e4", "style": "#f0d3e4",
}  # fmt: skip
TITLE = {"near": "never the name of a picture in training", "unknown": "it does not know this"}


def playground(imagen: Imagen, words: str, seed: int = 0, count: int = 6) -> None:
    """Draw `count` pictures of `words`, and let the learner go on: chips, a text, other seeds, a history.

    Saved in a file, the first pictures stand there by themselves.
    """

    def draw(words: str, seeds: Sequence[int], watch: Callable[[str, Tensor], None]) -> Tensor:
        stages = imagen.generate(
            [words] * len(seeds),
            list(seeds),
            callback=lambda stage, step, x_s, x_0: watch(
                say("{stage}, step {step}", stage=stage, step=step + 1), x_0
            ),
        )
        return list(stages.values())[-1]

    Playground(draw, words, seed, count).show()


class Playground:
    """The widgets and what they do; `draw` is what makes the pictures."""

    def __init__(
        self,
        draw: Draw,
        words: str,
        seed: int = 0,
        count: int = 6,
    ) -> None:
        self.draw, self.words, self.seed, self.count = draw, words, seed, count
        self.language = "zh" if _chinese(words) else "en"
        self.pictures: list[Image.Image] = []
        self.history: list[str] = []
        self._looked = 0.0

    def show(self) -> None:
        """The first pictures, in the file for good; above them, in a running notebook, all that can be pressed."""
        seeds = self._seeds()
        pictures = self.draw(self.words, seeds, lambda at, so_far: None)
        self._remember(pictures)
        titles = [f"seed {seed}" for seed in seeds]  # in the picture: its font has no Chinese
        still = show.drawn_strip(list(pictures), titles, columns=6, size=1.6)
        alt = say("pictures of “{words}”, one a seed", words=self.words)
        if not widgets.can_show():
            show.figure(still, alt)
            return
        self._build()
        widgets.show(self.box, f"[{alt}]", base64.b64encode(show.png(still, colours=96)).decode())

    def _seeds(self) -> range:
        return range(self.seed, self.seed + self.count)

    def _remember(self, pictures: Tensor) -> None:
        self.pictures = to_pil(pictures)
        row = "".join(_tag(picture.resize((64, 64)), "", 48) for picture in self.pictures)
        told = say(
            "{words} · seeds {first} to {last}",
            words=self.words,
            first=self.seed,
            last=self._seeds()[-1],
        )
        self.history.insert(
            0, f"<div style='margin:.5em 0'><div>{html.escape(told)}</div>{row}</div>"
        )
        del self.history[REMEMBERED:]

    # What can be pressed

    def _build(self) -> None:
        from ipywidgets import HTML, Box, Button, HBox, Layout, Text, ToggleButtons, VBox

        def toggles(name: str, options: Sequence[Any]) -> ToggleButtons:
            style = {"button_width": "auto", "description_width": "4.5em"}
            return ToggleButtons(description=name, options=options, style=style)

        self.languages = toggles("", [(name, key) for key, name in LANGUAGES.items()])
        self.languages.value = self.language
        self.chosen = {kind: toggles(say(kind), self._options(kind)) for kind in KINDS}
        wide = Layout(width="auto", flex="1 1 14em")
        self.text = Text(self.words, placeholder=say("what shall it draw?"), layout=wide)
        self.told, self.view, self.past = HTML(), HTML(), HTML()
        self.go = Button(description=say("Draw {count}", count=self.count), button_style="primary")
        self.other = Button(description=say("Other seeds"))
        self.surprise = Button(description=say("Surprise me"))
        self.keep = Button(description=say("Keep these"))
        self.box = VBox(
            [
                self.languages,
                # a hundred things: as many as fit, the rest by scrolling
                Box([self.chosen["thing"]], layout=Layout(max_height="9.5em", overflow="auto")),
                *(self.chosen[kind] for kind in KINDS[1:]),
                HBox([self.text, self.go, self.other], layout=Layout(flex_flow="row wrap")),
                self.told,
                self.view,
                HBox([self.surprise, self.keep]),
                self.past,
            ]
        )
        self._tell()
        self._view(self.pictures)
        self.languages.observe(self._speak, names="value")
        for row in self.chosen.values():
            row.observe(self._compose, names="value")
        self.text.observe(self._tell, names="value")
        self.go.on_click(lambda _: self._press(self.seed))
        self.other.on_click(lambda _: self._press(self.seed + self.count))
        self.surprise.on_click(self._surprise)
        self.keep.on_click(self._keep)

    def _options(self, kind: str) -> list[tuple[str, str | None]]:
        words = chips(kind, self.language)
        return list(words) if kind == "number" else [(say("any"), None), *words]

    def _speak(self, change: dict[str, Any]) -> None:
        """The same choice in the other language."""
        before = {kind: row.value for kind, row in self.chosen.items()}
        self.language = change["new"]
        for kind, row in self.chosen.items():
            row.unobserve(self._compose, names="value")
            row.options = self._options(kind)
            row.value = before[kind]
            row.observe(self._compose, names="value")
        self._compose()

    def _compose(self, *_: object) -> None:
        """A sentence of what is pressed, once a thing is among it."""
        chosen = {kind: row.value for kind, row in self.chosen.items()}
        if chosen["thing"] is not None:
            self.text.value = sentence(
                Choice(**{**chosen, "number": int(chosen["number"])}), self.language
            )

    def _surprise(self, *_: object) -> None:
        for kind, row in self.chosen.items():
            row.unobserve(self._compose, names="value")
            said = kind in ("thing", "place") or random.random() < 0.3
            row.value = random.choice(self._options(kind))[1] if said else row.options[0][1]
            row.observe(self._compose, names="value")
        if self.chosen["thing"].value is None:
            self.chosen["thing"].value = random.choice(chips("thing", self.language))[1]
        self._compose()
        self._press(self.seed)

    # What it says and draws

    def _tell(self, *_: object) -> None:
        """The words as it reads them: what it does not know is grey."""
        text = self.text.value
        said = "".join(f"<div>{html.escape(line)}</div>" for line in remarks(text, self.language))
        cut = "".join(_piece(p.text, p.kind) for p in pieces(text))
        self.told.value = f"<div style='line-height:1.9'>{cut}</div>{said}"

    def _press(self, seed: int) -> None:
        buttons = (self.go, self.other, self.surprise, self.keep)
        label, self.go.description = self.go.description, say("drawing …")
        for button in buttons:
            button.disabled = True
        try:
            self._draw(seed)
        except UserError as error:
            self.view.value = f"<b>{html.escape(str(error))}</b>"
        except (Exception, KeyboardInterrupt) as error:  # a button has nowhere to raise to
            self.view.value = f"<b>{html.escape(say('It stopped: {error}', error=repr(error)))}</b>"
        finally:
            self.go.description = label
            for button in buttons:
                button.disabled = False

    def _draw(self, seed: int) -> None:
        if not (words := normalized(self.text.value)):
            raise UserError(say("Write what it shall draw, or press a thing."))
        shown = self.words, self.seed
        self.words, self.seed = words, seed
        try:
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                pictures = self.draw(words, self._seeds(), self._watch)
        except BaseException:
            self.words, self.seed = shown  # of the pictures that are there, for those who keep them
            raise
        read_in_part = [str(w.message) for w in told if issubclass(w.category, TextWarning)]
        self.past.value = _folded(self.history)
        self._remember(pictures)
        self._view(self.pictures, html.escape("; ".join(dict.fromkeys(read_in_part))))

    def _watch(self, at: str, so_far: Tensor) -> None:
        if time.monotonic() - self._looked > EVERY:
            self._looked = time.monotonic()
            self._view(to_pil(so_far), say("drawing: {at}", at=at))

    def _view(self, pictures: Sequence[Image.Image], at: str = "") -> None:
        figures = "".join(
            f"<figure style='margin:0;flex:1 1 30%;min-width:8em;max-width:16em'>"
            f"{_tag(picture, f'{self.words}, seed {seed}')}"
            f"<figcaption>{say('seed {seed}', seed=seed)}</figcaption></figure>"
            for seed, picture in zip(self._seeds(), pictures, strict=True)
        )
        self.view.value = f"<div style='display:flex;flex-wrap:wrap;gap:.6em'>{figures}</div>{at}"

    def _keep(self, *_: object) -> None:
        folder = work() / "pictures"
        folder.mkdir(exist_ok=True)
        name = "".join(sign if sign.isalnum() else "-" for sign in self.words)[:60]
        for seed, picture in zip(self._seeds(), self.pictures, strict=True):
            save_png(picture, folder / f"{name}-{seed}.png", self.words, seed, "data/cascade")
        self._view(self.pictures, html.escape(say("kept in {folder}", folder=folder)))


def _chinese(text: str) -> bool:
    return any("\u3400" <= sign <= "\u9fff" for sign in text)


def _piece(text: str, kind: str) -> str:
    if kind in ("", "other"):
        return html.escape(text)
    style = (
        f"color:{INK};background:{PAPER.get(kind, '#d5d8dd')};border-radius:.6em;padding:.1em .4em"
    )
    if kind == "unknown":
        style = style.replace(INK, "#4d535c") + ";text-decoration:line-through"
    return f"<span style='{style}' title='{say(TITLE.get(kind, kind))}'>{html.escape(text)}</span>"


def _tag(picture: Image.Image, alt: str, width: int | None = None) -> str:
    size = f"width:{width}px" if width else "width:100%"
    sharp = "" if width or picture.width > 128 else ";image-rendering:pixelated"
    style = f"{size}{sharp};border-radius:6px;margin:1px"
    return f"<img alt='{html.escape(alt, quote=True)}' style='{style}' src='{encoded(picture)}'>"


def _folded(history: Sequence[str]) -> str:
    return f"<details open><summary>{say('drawn before')}</summary>{''.join(history)}</details>"
