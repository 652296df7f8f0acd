"""Chapter 10: all of it."""

from __future__ import annotations

import torch

from .base import Core


def update_ema(average, weights, decay):
    """Exponential moving average of weights: average ← decay · average + (1 − decay) · weights.

    average, weights: dicts of the same names and shapes, as state_dict() gives them. `average` is changed, tensor
    by tensor (in place, or a new tensor under the same name); `weights` stay as they are. Returns nothing.
    """
    for name, value in weights.items():
        average[name] = decay * average[name] + (1 - decay) * value


def cascade(stages, noises, text, mask):
    """The cascade (Imagen fig. A.4): each stage draws on what the stage below it drew.

    stages: a list of functions, called as stage(noise, text, mask, low_res, low_res_noise) → picture. noises: one
    pair (noise, low_res_noise) a stage. The first stage has nothing below it: it gets None for low_res and for
    low_res_noise, whatever its pair holds. Returns the list of all pictures, the smallest first.
    """
    pictures = []
    for stage, (noise, low_res_noise) in zip(stages, noises):
        if pictures:
            picture = stage(noise, text, mask, pictures[-1], low_res_noise)
        else:
            picture = stage(noise, text, mask, None, None)
        pictures.append(picture)
    return pictures


def _averages(function, average, weights, decay):
    function(average, weights, decay)
    once = {k: v.clone() for k, v in average.items()}
    for value in weights.values():
        value.add_(1.0)  # the average must not hang on the weights
    function(average, weights, decay)
    return once, average


def _unrolled(average, weights, decay):
    """torch's own interpolation, from the other end."""
    for name in average:
        average[name] = torch.lerp(weights[name].double(), average[name].double(), decay)


def _ema_with(formula):
    def wrong(average, weights, decay):
        for name, value in weights.items():
            average[name] = formula(average[name], value, decay)

    return wrong


def _cases_of_ema(d):
    made = []
    for decay in (0.9, float(d.uniform(0.3, 0.99, 1))):
        shapes = {"conv.weight": (d.size(2, 4), 3, 3), "conv.bias": (d.size(2, 4),), "scale": ()}
        a, w = ({k: d.normal(*s) for k, s in shapes.items()} for _ in range(2))
        made.append((a, w, decay))
    return made


class _Stage:
    """A stage by formula, that says so where the first one is given a picture, or another one none."""

    def __init__(self, first, weights):
        self.first, self.weights = first, weights

    def __call__(self, noise, text, mask, low_res, low_res_noise):
        if self.first and not (low_res is None and low_res_noise is None):
            raise ValueError("the first stage got a low_res")
        if not self.first and (low_res is None or low_res_noise is None):
            raise ValueError("a later stage got no low_res")
        told = (text.mean(-1) * mask).sum(1).reshape(-1, 1, 1, 1)
        x = torch.tanh(self.weights[0] * noise + told)
        if low_res is None:
            return x
        if low_res_noise.shape != low_res.shape:
            raise ValueError("low_res_noise has another shape than low_res")
        below = low_res + self.weights[1] * low_res_noise
        return x + below.repeat_interleave(2, 2).repeat_interleave(2, 3)


def _cases_of_cascade(d):
    made = []
    for count in (3, 2):
        B, L, n = d.size(2, 4), d.size(2, 5), d.size(2, 4)
        stages = [_Stage(i == 0, d.uniform(0.4, 0.9, 2)) for i in range(count)]
        sides = [n * 2**i for i in range(count)]
        noises = [
            (d.normal(B, 3, s, s), d.normal(B, 3, max(1, s // 2), max(1, s // 2))) for s in sides
        ]
        made.append((stages, noises, d.normal(B, L, 4), d.mask(B, L)))
    return made


def _unrolled_cascade(stages, noises, text, mask):
    if len(stages) == 1:
        return [stages[0](noises[0][0], text, mask, None, None)]
    below = _unrolled_cascade(stages[:-1], noises[:-1], text, mask)
    return [*below, stages[-1](noises[-1][0], text, mask, below[-1], noises[-1][1])]


def _cascade_with(
    low=lambda pictures, noises, i: pictures[-1], extra=lambda noises, i: noises[i][1], end=list
):
    def wrong(stages, noises, text, mask):
        pictures = []
        for i, stage in enumerate(stages):
            below = low(pictures, noises, i) if i else None
            pictures.append(stage(noises[i][0], text, mask, below, extra(noises, i) if i else None))
        return end(pictures)

    return wrong


CORE = (
    Core(
        10,
        update_ema,
        hints=(
            "Go through the names; each has a tensor in both dicts.",
            "<code>average[name] = decay * average[name] + …</code>: the rest of the weight, 1 − decay, goes to the new "
            "value.",
        ),
        cases=_cases_of_ema,
        oracle=_unrolled,
        observe=_averages,
        changes=(0, 1),  # the observer changes the weights itself
        mistakes={
            "decay and 1 − decay are swapped: the average would forget nearly all of itself":
                _ema_with(lambda a, w, decay: (1 - decay) * a + decay * w),
            "the average is the weights: nothing of the past is left": _ema_with(lambda a, w, decay: w.clone()),
            "`average` has not changed: write the result back into it": lambda a, w, decay: None,
            "1 − decay is missing before the weights: the average grows without end":
                _ema_with(lambda a, w, decay: decay * a + w),
            "this is the plain mean of both: decay says how much stays": _ema_with(lambda a, w, decay: (a + w) / 2),
        },
    ),
    Core(
        10,
        cascade,
        hints=(
            "Keep all pictures in a list. Its last one is what the next stage enlarges.",
            "<code>for stage, (noise, low_res_noise) in zip(stages, noises):</code>. The first call has None, None at its "
            "end, every other one <code>pictures[-1], low_res_noise</code>.",
        ),
        cases=_cases_of_cascade,
        oracle=_unrolled_cascade,
        mistakes={
            "only the last picture comes back: return the list of all": _cascade_with(end=lambda p: p[-1]),
            "the list is turned round: the smallest first": _cascade_with(end=lambda p: p[::-1]),
            "a stage must enlarge the picture below it, not the noise that it began with": _cascade_with(
                low=lambda pictures, noises, i: noises[i - 1][0]),
            "the noise of the low-resolution picture is the second of this stage's pair": _cascade_with(
                extra=lambda noises, i: noises[i - 1][0]),
        },
        errors={
            "first stage got": "the first stage has nothing below it: its low_res and low_res_noise are None",
            "later stage got": "every stage after the first wants the picture below it, and the noise for that",
            "another shape than low_res": "low_res_noise has the shape of the picture below: each stage has its own pair",
        },
    ),
)  # fmt: skip
