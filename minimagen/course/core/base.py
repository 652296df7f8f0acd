"""What a core function of the system is, and how a learner's own is judged.

A check draws fresh inputs of fresh shapes each time, so that a constant, a printed number or a function that
fits one shape only can't pass.
"""

from __future__ import annotations

import copy
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
        wanted = [self.observe(right, *copy.deepcopy(case)) for case in cases]
        fits = [same(g, w) for g, w in zip(given, wanted, strict=True)]
        if all(fits):
            return None
        for g in given:
            if sentence := unusable(g, wanted[0]):
                return sentence
        for sentence in self.mistakes:
            for wrong in self.ways(sentence):
                made = [self._try(wrong, case) for case in cases]
                if explains(made, given, wanted):
                    return sentence
        if any(not bool(torch.isfinite(z).all()) for g in given for z in tensors(g)):
            return "some of its numbers are nan or infinite"
        others = self.cases(Draw(shapes, values + 1))
        if all(same(g, self._try(function, c)) for g, c in zip(given, others, strict=True)):
            return "it gives the same numbers whatever goes in: compute them from the arguments"
        if fits[0]:
            return "it is right for one input only: other shapes and values must work too"
        for g, w in zip(given, wanted, strict=True):
            if (a := shapes_of(g)) != (b := shapes_of(w)):
                return f"the shape is {a}, it should be {b}"
            if isinstance(w, dict) and (off := [k for k in w if not same(g[k], w[k])]):
                return f"not yet: {off[0]!r} is another number than its sentence says"
        return "not yet: compare it with the equation, term by term"

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
    if not all(isinstance(z, Tensor | int | float | bool) for z in (a, b)):
        return False
    a, b = torch.as_tensor(a).detach().double(), torch.as_tensor(b).detach().double()
    return a.shape == b.shape and torch.allclose(a, b, rtol=1e-4, atol=1e-5, equal_nan=True)


def explains(made: list[Any], given: list[Any], wanted: list[Any]) -> bool:
    """Are the wrong results `given` those that a mistake has `made`? Of dicts, one wrong entry is enough."""
    if all(same(m, g) for m, g in zip(made, given, strict=True)):
        return True
    if not all(isinstance(z, dict) for z in (*made, *given, *wanted)):
        return False
    return any(
        all(same(m[k], g[k]) for m, g in zip(made, given, strict=True))
        and not all(same(g[k], w[k]) for g, w in zip(given, wanted, strict=True))
        for k in wanted[0]
    )


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
    return None
