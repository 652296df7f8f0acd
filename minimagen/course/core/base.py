"""What a core function of the system is, and how a learner's own is judged.

A check draws fresh inputs of fresh shapes each time, so that a constant, a printed number or a function that
fits one shape only can't pass.
"""

from __future__ import annotations

import copy
import inspect
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..student import dice, seed_of

Case = tuple[Any, ...]


class Draw:
    """Fresh inputs. Shapes and values have separate streams: the same shapes can get other values."""

    def __init__(self, shapes: int, values: int) -> None:
        self.shapes = random.Random(shapes)
        self.values = torch.Generator().manual_seed(values)

    def size(self, low: int, high: int) -> int:
        return self.shapes.randint(low, high)

    def sizes(self, low: int, high: int, count: int) -> list[int]:
        """`count` sizes that all differ: a function that mixes up two axes can't get away with it."""
        return self.shapes.sample(range(low, high + 1), count)

    def choice(self, options: Sequence[Any]) -> Any:
        return options[self.size(0, len(options) - 1)]

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.values)

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(shape, generator=self.values)

    def picture(self, *shape: int) -> Tensor:
        return self.uniform(-1, 1, *shape)

    def integers(self, low: int, high: int, *shape: int) -> Tensor:
        return torch.randint(low, high + 1, shape, generator=self.values)

    def mask(self, B: int, L: int) -> Tensor:
        """(B, L), True where there is a token: at least one each, one caption short and one as long as L."""
        ends = self.integers(1, L, B)
        ends[0], ends[-1] = max(1, L // 2), L
        return torch.arange(L) < ends[:, None]

    def layer(self, module: nn.Module) -> nn.Module:
        """The same module with weights from this stream."""
        for parameter in module.parameters():
            parameter.data = 0.5 * self.normal(*parameter.shape)
        return module.requires_grad_(False)


@dataclass(frozen=True)
class Core:
    """A core function of the system: what the learner writes, how it is judged, and what stands in for it.

    reference: the course's own; its name, signature, docstring and source are the function's.
    hints: the second is half the answer.
    cases: fresh inputs, several; the shapes of the first are those that a learner has seen.
    oracle: the right answer by another way, where there is one.
    also: other answers that are right, where the docstring can be read in another way, too.
    is_loss: a network is trained with its result, so that gradients must flow through it.
    mistakes: what to tell the learner → a function that makes that mistake, or several that make it in other ways.
    errors: a pattern in the message of an exception → what to tell the learner.
    observe: what is compared, for a function whose result isn't all that counts.
    check: in place of all of these, a function that returns None or the sentence.
    changes: positions of the arguments that it is meant to change.
    uses: other core functions that it may call; in a check these are the course's own.
    """

    chapter: int
    reference: Callable[..., Any]
    hints: tuple[str, str]
    mistakes: dict[str, Callable[..., Any] | tuple[Callable[..., Any], ...]]
    cases: Callable[[Draw], list[Case]] = field(default=lambda draw: [])
    oracle: Callable[..., Any] | None = None
    also: tuple[Callable[..., Any], ...] = ()
    is_loss: bool = False
    errors: dict[str, str] = field(default_factory=dict)
    observe: Callable[..., Any] = field(default=lambda function, *args: function(*args))
    check: Callable[[Callable[..., Any]], str | None] | None = None
    changes: tuple[int, ...] = ()
    uses: tuple[str, ...] = ()
    in_file: bool = True  # does it go into my_imagen.py?

    @property
    def name(self) -> str:
        return self.reference.__name__

    def verdict(self, function: Callable[..., Any]) -> str | None:
        """None where it is right, else one sentence that names the likely mistake.

        The notebook's own random numbers are left as they were. Under MINIMAGEN_STUDENT the inputs are
        that student's.
        """
        state = random.getstate()
        try:
            with torch.random.fork_rng(devices=[]):
                seed = seed_of(self.name)
                torch.manual_seed(seed)
                random.seed(seed)
                return self._verdict(function)
        except (Exception, SystemExit) as error:
            return self._stopped(function, error)
        finally:
            random.setstate(state)

    def _verdict(self, function: Callable[..., Any]) -> str | None:
        if self.check is not None:
            return self.check(function)
        shapes, values, cases = self._fresh_cases()
        right = self.oracle or self.reference
        given: list[Any] = []
        for case in cases:
            own = copy.deepcopy(case)
            given.append(self.observe(function, *own))
            for i, (before, after) in enumerate(zip(case, own, strict=True)):
                if i not in self.changes and not same(plain(before), plain(after)):
                    return "it changes its input in place: make a new tensor, and leave what came in as it was"
        for answer in (*self.also, right):
            wanted = [self.observe(answer, *copy.deepcopy(case)) for case in cases]
            fits = [same(g, w) for g, w in zip(given, wanted, strict=True)]
            if all(fits):
                return self._unfit_for_use(function, cases, given)
        for g in given:
            if sentence := unusable(g, wanted[0]):
                return sentence
        if sentence := self._likely_mistake(cases, given, wanted):
            return sentence
        if any(not bool(torch.isfinite(z).all()) for g in given for z in tensors(g)):
            return "some of its numbers are nan or infinite"
        if self._is_random(function, cases[0]) and not self._is_random(right, cases[0]):
            return "it draws random numbers of its own: what is random comes in as an argument"
        if self._is_constant(function, given, wanted, shapes, values):
            return "it gives the same numbers whatever goes in: compute them from the arguments"
        for g, w in zip(given, wanted, strict=True):
            if (a := shapes_of(g)) != (b := shapes_of(w)):
                return f"the shape is {a}, it should be {b}"
        if any(fits):
            return f"it is right for some inputs and wrong for others{self._where(cases[fits.index(False)])}"
        for g, w in zip(given, wanted, strict=True):
            if isinstance(w, dict) and (off := [k for k in w if not same(g[k], w[k])]):
                return f"{off[0]!r} is another number than its sentence says"
        return "compare it with the docstring, term by term"

    def _likely_mistake(self, cases: list[Case], given: list[Any], wanted: list[Any]) -> str | None:
        """The sentence of the mistake that gives the same; one that gives a part of it comes second."""
        made = {
            sentence: [[self._try(wrong, case) for case in cases] for wrong in self.ways(sentence)]
            for sentence in self.mistakes
        }
        for explains in (explains_all, explains_a_part):
            for sentence, results in made.items():
                if any(explains(m, given, wanted) for m in results):
                    return sentence
        return None

    def _unfit_for_use(
        self, function: Callable[..., Any], cases: list[Case], given: list[Any]
    ) -> str | None:
        """What stops the notebook later, though the numbers are right."""
        for case, g in zip(cases, given, strict=True):
            if sentence := of_another_kind(g, self._try(self.reference, case)):
                return sentence
        if not self.is_loss:
            return None
        case = tuple(
            z.requires_grad_(True) if isinstance(z, Tensor) and z.is_floating_point() else z
            for z in copy.deepcopy(cases[0])
        )
        with torch.enable_grad():
            loss = function(*case)
        if not loss.requires_grad:
            return "the number is right, and nothing could learn from it: detach or no_grad cuts its gradient"
        return None

    def _is_random(self, function: Callable[..., Any], case: Case) -> bool:
        return not same(plain(self._try(function, case)), plain(self._try(function, case)))

    def _is_constant(
        self,
        function: Callable[..., Any],
        given: list[Any],
        wanted: list[Any],
        shapes: int,
        values: int,
    ) -> bool:
        """Does it give the same where the right answers differ? Other values first, then other shapes."""
        right = self.oracle or self.reference
        for draw in (Draw(shapes, values + 1), Draw(shapes + 1, values + 1)):
            others = self.cases(draw)
            if not all(same(self._try(right, c), w) for c, w in zip(others, wanted, strict=False)):
                made = [self._try(function, c) for c in others]
                return all(same(g, m) for g, m in zip(given, made, strict=False))
        return False

    def _where(self, case: Case) -> str:
        """Of which numbers and words an input is, in a few words."""
        names = list(inspect.signature(self.reference).parameters)
        if len(names) != len(case):
            return ""
        told = [
            f"{name} = {value!r}"
            for name, value in zip(names, case, strict=True)
            if isinstance(value, int | float | str)
        ]
        shapes = [
            f"{name} of the shape {tuple(value.shape)}"
            for name, value in zip(names, case, strict=True)
            if isinstance(value, Tensor)
        ]
        return f", as for {', '.join(told or shapes)}" if told or shapes else ""

    def ways(self, sentence: str) -> tuple[Callable[..., Any], ...]:
        """The functions that make the mistake of this sentence."""
        wrong = self.mistakes[sentence]
        return wrong if isinstance(wrong, tuple) else (wrong,)

    def _fresh_cases(self) -> tuple[int, int, list[Case]]:
        """Cases, and the seeds that they are of. Their shapes differ, where they can: one shape alone fits none."""
        entropy = dice(self.name)
        for _ in range(20):
            shapes, values = entropy.getrandbits(48), entropy.getrandbits(48)
            cases = self.cases(Draw(shapes, values))
            if (
                len(
                    {tuple(tuple(z.shape) for z in case if isinstance(z, Tensor)) for case in cases}
                )
                > 1
            ):
                break
        return shapes, values, cases

    def _try(self, function: Callable[..., Any], case: Case) -> Any:
        try:
            return self.observe(function, *copy.deepcopy(case))
        except Exception:
            return None

    def _stopped(self, function: Callable[..., Any], error: BaseException) -> str:
        words = " ".join(str(error).split())[:160]
        for pattern, sentence in self.errors.items():
            if re.search(pattern, words):
                return sentence
        return f"it stops with {type(error).__name__}: {words}{_line(error, function)}"


def _line(error: BaseException, function: Callable[..., Any]) -> str:
    """In which line of the learner's function an exception was raised."""
    trace, found, code = error.__traceback__, None, getattr(function, "__code__", None)
    while trace is not None and code is not None:
        if trace.tb_frame.f_code is code:
            found = trace.tb_lineno - code.co_firstlineno + 1
        trace = trace.tb_next
    return "" if found is None else f" (in its line {found})"


def plain(value: Any) -> Any:
    """What can be compared of an argument: tensors and numbers; a network or a function counts as nothing."""
    if isinstance(value, Tensor | np.ndarray | int | float | bool | str) or value is None:
        return value
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return None


def same(a: Any, b: Any) -> bool:
    """Equal up to rounding: tensors and numbers, and lists, tuples and dicts of them."""
    if a is None or b is None or isinstance(a, str) or isinstance(b, str):
        return type(a) is type(b) and a == b
    if isinstance(a, dict) or isinstance(b, dict):
        both = isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys()
        return both and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple) or isinstance(b, list | tuple):
        both = isinstance(a, list | tuple) and isinstance(b, list | tuple) and len(a) == len(b)
        return both and all(same(x, y) for x, y in zip(a, b, strict=True))
    if not all(isinstance(z, Tensor | np.ndarray | np.number | int | float) for z in (a, b)):
        return False
    a, b = torch.as_tensor(a).detach(), torch.as_tensor(b).detach()
    if a.is_complex() or b.is_complex():
        return (
            a.is_complex() and b.is_complex() and same(torch.view_as_real(a), torch.view_as_real(b))
        )
    a, b = a.double(), b.double()
    return a.shape == b.shape and torch.allclose(a, b, rtol=1e-4, atol=1e-5, equal_nan=True)


def explains_all(made: list[Any], given: list[Any], wanted: list[Any]) -> bool:
    """Are the wrong results `given` those that a mistake has `made`?"""
    return all(same(m, g) for m, g in zip(made, given, strict=True))


def explains_a_part(made: list[Any], given: list[Any], wanted: list[Any]) -> bool:
    """Is one of several wrong results, an entry of a dict or of a tuple, what a mistake has made of it?"""
    results = [entries(z) for z in (*made, *given, *wanted)]
    if not all(results) or len({tuple(z) for z in results}) > 1:
        return False
    n = len(given)
    made, given, wanted = results[:n], results[n : 2 * n], results[2 * n :]
    return any(
        all(same(m[k], g[k]) for m, g in zip(made, given, strict=True))
        and not all(same(g[k], w[k]) for g, w in zip(given, wanted, strict=True))
        for k in wanted[0]
    )


def entries(value: Any) -> dict[Any, Any]:
    """A result that consists of several, by key or place; of any other, none."""
    if isinstance(value, dict):
        return value
    return dict(enumerate(value)) if isinstance(value, list | tuple) else {}


def tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value.detach()]
    if isinstance(value, dict):
        return [z for v in value.values() for z in tensors(v)]
    return [z for v in value for z in tensors(v)] if isinstance(value, list | tuple) else []


def shapes_of(value: Any) -> str:
    return ", ".join(str(tuple(z.shape)) for z in tensors(value)) or type(value).__name__


def unusable(given: Any, wanted: Any) -> str | None:
    """A result that can't be compared at all, in a sentence."""
    if given is None:
        return "it returns nothing yet: end it with return"
    if isinstance(wanted, tuple) and not isinstance(given, tuple | list):
        return f"it should return {len(wanted)} things, and returns one {type(given).__name__}"
    if isinstance(wanted, tuple) and len(given) != len(wanted):
        return f"it should return {len(wanted)} things, and returns {len(given)}"
    if isinstance(wanted, dict):
        if not isinstance(given, dict):
            return f"it should return a dict, and returns a {type(given).__name__}"
        if given.keys() != wanted.keys():
            keys = (", ".join(map(repr, z)) or "none" for z in (wanted, given))
            return "the keys should be {}, and are {}".format(*keys)
    if isinstance(wanted, Tensor) and not isinstance(given, Tensor):
        return f"it should return a tensor, and returns a {type(given).__name__}"
    if any(z.is_complex() for z in tensors(given)) and not any(
        z.is_complex() for z in tensors(wanted)
    ):
        return "the result is complex: take its real part, .real"
    return None


def of_another_kind(given: Any, right: Any, name: str = "") -> str | None:
    """A right number in a form that stops what comes after it: a float for a tensor, float64 for float32."""
    if (parts := entries(right)) and (own := entries(given)).keys() == parts.keys():
        for key, value in parts.items():
            if sentence := of_another_kind(
                own[key], value, repr(key) if isinstance(key, str) else ""
            ):
                return sentence
        return None
    if not isinstance(right, Tensor):
        return None
    if not isinstance(given, Tensor):
        kind = type(given).__name__
        said = (
            f"{name} should be a tensor, and is a {kind}"
            if name
            else (f"it should return a tensor, and returns a {kind}")
        )
        return f"{said}: leave the number in its tensor, without .item() or float()"
    a, b = (kind_of_numbers(z) for z in (given, right))
    return None if a == b else f"{name or 'the result'} holds {a}, and should hold {b}"


def kind_of_numbers(z: Tensor) -> str:
    if z.is_floating_point() or z.is_complex():
        return f"numbers of the type {str(z.dtype).removeprefix('torch.')}"
    return "True and False" if z.dtype == torch.bool else "whole numbers"
