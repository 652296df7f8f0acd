"""Figures and widgets. Each figure has alt text; each widget has a static figure beside it."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's colours: told apart by every kind of colour vision, on white and on grey
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
plt.rcParams.update(
    {
        "axes.prop_cycle": plt.cycler(color=COLOURS),
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


def png(figure: Figure) -> bytes:
    """The figure in 256 colours: a third of the bytes, and a notebook must stay small."""
    buffer, small = io.BytesIO(), io.BytesIO()
    figure.savefig(buffer, format="png", bbox_inches="tight")
    plt.close(figure)
    Image.open(buffer).convert("RGB").quantize(256).save(small, format="png", optimize=True)
    return small.getvalue()


def figure(drawn: Figure, alt: str) -> None:
    """Show a figure with its alt text, which screen readers and GitHub use."""
    from IPython import display

    display.display(display.Image(png(drawn), alt=alt))


def strip(images: Sequence[Tensor], titles: Sequence[str], alt: str, columns: int = 6) -> None:
    """Pictures (3, H, W) in rows, each under its title."""
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    drawn, axes = plt.subplots(rows, columns, figsize=(1.75 * columns, 2.05 * rows), squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, image, title in zip(axes.flat, images, titles, strict=False):
        axis.imshow(pixels(image), interpolation="nearest")
        axis.set_title(title, fontsize=9)
    drawn.tight_layout()
    figure(drawn, alt)


def curves(
    x: Sequence[float] | Tensor,
    lines: dict[str, Sequence[float] | Tensor],
    xlabel: str,
    ylabel: str,
    alt: str,
    guess: float | None = None,
) -> None:
    """Lines over one x axis, each with its name at its end; `guess` is a learner's prediction."""
    drawn, axis = plt.subplots(figsize=(6.2, 3.2))
    for (name, y), style in zip(lines.items(), ("-", "--", "-.", ":") * 2, strict=False):
        axis.plot(np.asarray(x), np.asarray(y), style, label=name)
    if guess is not None:
        axis.axhline(guess, color="#777777", linewidth=1, label="your prediction")
    axis.set_xlabel(xlabel)
    axis.set_ylabel(ylabel)
    axis.legend(frameon=False)
    figure(drawn, alt)


def frames(images: Sequence[Tensor], labels: Sequence[str], alt: str, name: str = "step") -> None:
    """A slider through pictures that were made beforehand; beneath it a static row of some of them."""
    few = np.linspace(0, len(images) - 1, min(6, len(images))).round().astype(int)
    try:
        from IPython import get_ipython
        from IPython.display import display
        from ipywidgets import HTML, IntSlider, VBox
    except ImportError:
        strip([images[i] for i in few], [labels[i] for i in few], alt)
        return
    if get_ipython() is not None:
        import base64

        coded = []
        for image in images:
            buffer = io.BytesIO()
            plt.imsave(buffer, np.kron(pixels(image), np.ones((4, 4, 1))))
            coded.append(base64.b64encode(buffer.getvalue()).decode())

        def shown(i: int) -> str:
            return f'<img alt="{alt}" src="data:image/png;base64,{coded[i]}"><br>{labels[i]}'

        slider, view = IntSlider(0, 0, len(images) - 1, description=name), HTML()
        slider.observe(lambda change: setattr(view, "value", shown(change["new"])), "value")
        display(VBox([slider, view]))
        view.value = shown(0)  # after display, whose text form would carry the whole picture
    strip([images[i] for i in few], [labels[i] for i in few], alt)
