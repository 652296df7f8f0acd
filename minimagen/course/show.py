"""Figures and widgets. Each figure has alt text; each widget has a static figure beside it."""

from __future__ import annotations

import base64
import io
import textwrap
import warnings
from collections.abc import Callable, Sequence
from html import escape
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from cycler import cycler
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator
from PIL import Image
from torch import Tensor

from ..errors import TextWarning, UserError
from ..text import normalized
from . import slider, widgets

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.figure import Figure

# Okabe and Ito's colours: told apart by every kind of colour vision, on white and on grey
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
WIDE = 9.4  # inches: a figure as wide as the text beside it

try:
    plt.switch_backend(plt.get_backend())
except ImportError:  # MPLBACKEND names a window, and this machine has no display
    plt.switch_backend("agg")
plt.rcParams.update(
    {
        "axes.prop_cycle": cycler(color=COLOURS),
        "axes.spines.top": False,
        "axes.spines.right": False,
        "figure.facecolor": "white",
        "figure.dpi": 80,
        "font.size": 10,
    }
)


def pixels(image: Tensor) -> np.ndarray:
    """(3, H, W) in [−1, 1] → (H, W, 3) in [0, 1]; values outside are clipped."""
    return ((image.detach().cpu().clamp(-1, 1) + 1) / 2).permute(1, 2, 0).numpy()


def png(figure: Figure, colours: int | None = 128, dpi: float | str = "figure") -> bytes:
    """The figure in a few colours: a third of the bytes, and a notebook must stay small. None: in all of them."""
    buffer, small = io.BytesIO(), io.BytesIO()
    figure.savefig(buffer, format="png", bbox_inches="tight", dpi=dpi)
    plt.close(figure)
    drawn = Image.open(buffer).convert("RGB")
    (drawn.quantize(colours) if colours else drawn).save(small, format="png", optimize=True)
    return small.getvalue()


def figure(drawn: Figure, alt: str, sharp: bool = False, exact: bool = False) -> None:
    """Show a figure with its alt text, which screen readers and GitHub use, and the same words beneath it.

    sharp: twice the pixels at the same size, for lines and small print. exact: in all colours, where pictures are
    compared that differ by little.
    """
    from IPython.display import display

    _caption(drawn, alt)
    facts: dict[str, object] = {"alt": alt}
    if sharp:
        shown = png(drawn, colours=32, dpi=2 * drawn.dpi)
        facts["width"] = Image.open(io.BytesIO(shown)).width // 2
    else:
        shown = png(drawn, colours=None) if exact else png(drawn)
    # the bundle itself, for `Image(…, alt=…)` is new in IPython 8, and Colab has 7
    data = {"image/png": base64.b64encode(shown).decode(), "text/plain": f"[figure: {alt}]"}
    display(data, metadata={"image/png": facts}, raw=True)


def page(image: Image.Image, alt: str, wide: int = 940, colours: int = 96) -> None:
    """Show a finished page, a poster say, as wide as the text, with its alt text; `wide`: its pixels."""
    from IPython.display import display

    high = round(image.height * wide / image.width)
    small, buffer = (
        image.convert("RGB").resize((wide, high), Image.Resampling.LANCZOS),
        io.BytesIO(),
    )
    small.quantize(colours).save(buffer, format="png", optimize=True)
    data = {
        "image/png": base64.b64encode(buffer.getvalue()).decode(),
        "text/plain": f"[page: {alt}]",
    }
    display(data, metadata={"image/png": {"alt": alt, "width": round(80 * WIDE)}}, raw=True)


def _caption(drawn: Figure, alt: str) -> None:
    """The alt text beneath the figure, in lines that are as wide; not in Chinese, which the font does not know."""
    if any(sign > "⺀" for sign in alt):
        return
    wide, high = drawn.get_size_inches()
    lowest = drawn.get_tightbbox().y0  # inches: labels may reach below the canvas
    lines = textwrap.fill(
        alt[0].upper() + alt[1:], int(13.5 * wide)
    )  # letters an inch, at 9 points
    drawn.text(0.01, (lowest - 0.09) / high, lines, fontsize=9, color="#444444", va="top")


def strip(
    images: Sequence[Tensor],
    titles: Sequence[str],
    alt: str,
    columns: int = 6,
    size: float = 1.75,
    exact: bool = False,
) -> None:
    """Pictures (3, H, W) in rows, each under its title; `size` is a picture's width in inches.

    exact: in all colours, at three times the bytes, and not in the nearest of few.
    """
    figure(drawn_strip(images, titles, columns, size), alt, exact=exact)


def drawn_strip(
    images: Sequence[Tensor], titles: Sequence[str], columns: int, size: float
) -> Figure:
    """The figure of `strip`, not shown yet."""
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    lines = 1 + max(title.count("\n") for title in titles)
    high = size * max(image.shape[-2] / image.shape[-1] for image in images) + 0.12 + 0.18 * lines
    drawn, axes = plt.subplots(rows, columns, figsize=(size * columns, high * rows), squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, image, title in zip(axes.flat, images, titles, strict=False):
        # pixels to be seen one by one, as long as there is room for them: made smaller, edges would fray
        small = image.shape[-1] <= size * drawn.dpi
        axis.imshow(pixels(image), interpolation="nearest" if small else "hanning")
        axis.set_title(title, fontsize=9)
    drawn.tight_layout()
    return drawn


def curves(
    x: Sequence[float] | Tensor,
    lines: dict[str, Sequence[float] | Tensor],
    xlabel: str,
    ylabel: str,
    alt: str,
    guess: float | None = None,
    log: str = "",
) -> None:
    """Lines over one x axis, with a legend; `guess` is a learner's prediction; `log` names the log axes."""
    drawn, axis = plt.subplots(figsize=(WIDE, 3.6))
    for (name, y), style in zip(lines.items(), ("-", "--", "-.", ":") * 2, strict=False):
        axis.plot(np.asarray(x), np.asarray(y), style, label=name)
    if guess is not None:
        axis.axhline(guess, color="#777777", linewidth=1, label="your prediction")
    for name in log:  # "x", "y" or "xy"
        axis.set(**{f"{name}scale": "log"})
    if "x" in log and len(x) <= 10:
        axis.set_xticks(np.asarray(x), [f"{v:g}" for v in np.asarray(x)])
        axis.minorticks_off()
    axis.set_xlabel(xlabel)
    axis.set_ylabel(ylabel)
    axis.legend(frameon=False)
    drawn.tight_layout()
    figure(drawn, alt, sharp=True)


def panels(
    x: Sequence[float] | Tensor,
    parts: dict[str, dict[str, Sequence[float] | Tensor]],
    xlabel: str,
    alt: str,
    log: str | Sequence[str] = "",
    level: bool = False,
) -> None:
    """One panel of lines for each part, side by side at full width; one legend for all, beneath.

    parts: label of the y axis → name of the line → values (len(x),). log names the log axes, as in `curves`: once
    for all panels, or for each. level: all panels have the same y axis.
    """
    drawn, axes = plt.subplots(1, len(parts), figsize=(WIDE, 3.5), squeeze=False, sharey=level)
    logs = [log] * len(parts) if isinstance(log, str) else log
    for axis, (ylabel, lines), names in zip(axes.flat, parts.items(), logs, strict=True):
        for (name, y), style in zip(lines.items(), ("-", "--", "-.", ":") * 2, strict=False):
            marker = "o" if len(x) <= 10 else ""
            axis.plot(np.asarray(x), np.asarray(y), style, label=name, marker=marker, markersize=4)
        for name in names:
            axis.set(**{f"{name}scale": "log"})
        if "x" in names and len(x) <= 10:
            axis.set_xticks(np.asarray(x), [f"{v:g}" for v in np.asarray(x)])
            axis.xaxis.set_minor_locator(NullLocator())
        axis.set(xlabel=xlabel, title=ylabel)
    for axis, names in zip(axes.flat, logs, strict=True):
        if "y" in names:  # 0.02 0.05 0.1, not powers of ten, for the axes here span few of them
            low, high = axis.get_ylim()
            axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,)))
            axis.yaxis.set_major_formatter("{x:g}")
            axis.yaxis.set_minor_formatter(NullFormatter())
    known = dict(
        pair for a in axes.flat for pair in zip(*a.get_legend_handles_labels()[::-1], strict=True)
    )
    legend_beneath(drawn, list(known.values()), list(known))
    figure(drawn, alt, sharp=True)


def legend_beneath(drawn: Figure, handles: Sequence[Artist], labels: Sequence[str]) -> None:
    """One legend for all axes, in a row beneath them and above the caption."""
    drawn.tight_layout(rect=(0, 0.25 / drawn.get_figheight(), 1, 1))
    drawn.legend(
        handles,
        labels,
        frameon=False,
        ncols=len(labels),
        loc="lower center",
        bbox_to_anchor=(0.5, 0),
        # without it the legend would move down when the saved picture grows to hold the caption
        bbox_transform=drawn.transFigure,
    )


def bars(
    labels: Sequence[str],
    groups: dict[str, Sequence[float] | Tensor],
    ylabel: str,
    alt: str,
    line: float | None = None,
    spans: Sequence[tuple[float, float]] | None = None,
) -> None:
    """Groups of bars side by side over the same labels; `line` is what an even share would be.

    spans: how low and how high each bar may be, drawn as a thin line; for a single group.
    """
    drawn, axis = plt.subplots(figsize=(WIDE, 3.2))
    x, width = np.arange(len(labels)), 0.8 / len(groups)
    for i, (name, y) in enumerate(groups.items()):
        axis.bar(x + (i - (len(groups) - 1) / 2) * width, np.asarray(y), width, label=name)
    if spans is not None:
        axis.vlines(x, *zip(*spans, strict=True), color="#333333", linewidth=1.5)
    if line is not None:
        axis.axhline(line, color="#777777", linewidth=1, linestyle="--", label="an even share")
    long = max(len(line) for label in labels for line in label.split("\n")) * len(labels) > 80
    axis.set_xticks(x, labels, rotation=90 if long else 0)
    axis.set_ylabel(ylabel)
    if len(groups) > 1 or line is not None:  # above the bars, not on them
        axis.legend(frameon=False, ncols=3, loc="lower right", bbox_to_anchor=(1, 1))
    drawn.tight_layout()
    figure(drawn, alt, sharp=True)


def sheet(images: Sequence[Tensor], columns: int) -> Tensor:
    """Pictures (3, H, W) side by side in rows, a white line between them: one picture."""
    framed = [F.pad(image.detach().cpu(), (1, 1, 1, 1), value=1.0) for image in images]
    framed += [torch.ones_like(framed[0])] * (-len(framed) % columns)
    rows = [torch.cat(framed[i : i + columns], 2) for i in range(0, len(framed), columns)]
    return torch.cat(rows, 1)  # (3, rows (H + 2), columns (W + 2))


def frames(
    images: Sequence[Tensor],
    labels: Sequence[str],
    alt: str,
    name: str = "step",
    columns: int = 6,
    size: float = 1.75,
    stills: int = 6,
) -> None:
    """A slider through pictures that were made beforehand; beneath it a strip of at most `stills` of them."""
    from IPython.display import display

    live = slider.html([picture(image) for image in images], labels, alt, name)
    display({"text/html": live, "text/plain": f"[slider: {alt}]"}, raw=True)
    few = np.linspace(0, len(images) - 1, min(stills, len(images))).round().astype(int)
    strip([images[i] for i in few], [labels[i] for i in few], alt, columns, size)


def picture(image: Tensor) -> Image.Image:
    """(3, H, W) in [−1, 1] → a picture of H × W pixels."""
    return Image.fromarray((pixels(image) * 255).round().astype(np.uint8))


def ask(draw: Callable[[str, int], dict[str, Tensor]], prompt: str, seed: int = 0) -> None:
    """A box for a prompt, one for a seed, a button; beneath it the stages' pictures of what stands there now.

    draw(prompt, seed) gives each stage's pictures, as Imagen.generate does.
    """
    if widgets.can_show():
        from ipywidgets import HTML, Button, IntText, Text, VBox

        words, number = Text(prompt, description="prompt"), IntText(seed, description="seed")
        button, view = Button(description="draw"), HTML()

        def press(_: object) -> None:
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                try:
                    if not (text := normalized(words.value)):
                        raise UserError("the prompt is empty: say what to draw")
                    largest = list(draw(text, number.value).values())[-1][0]
                except UserError as error:
                    view.value = f"<p>{escape(str(error))}</p>"
                    return
            read_in_part = [w for w in told if issubclass(w.category, TextWarning)]
            view.value = _tag(largest, text)
            view.value += "".join(f"<p>{escape(str(w.message))}</p>" for w in read_in_part)

        button.on_click(press)
        widgets.show(VBox([words, number, button, view]), "[run this cell: then you can type here]")
    made = draw(prompt, seed)
    strip([p[0] for p in made.values()], list(made), prompt, size=2.4)


def _tag(image: Tensor, alt: str) -> str:
    """The picture as HTML, 512 pixels wide where it is smaller."""
    width = image.shape[-1] * max(1, 512 // image.shape[-1])
    style = f"width: {width}px; max-width: 100%; image-rendering: pixelated"
    source = slider.encoded(picture(image))
    return f'<img alt="{escape(alt)}" style="{style}" src="{source}">'
