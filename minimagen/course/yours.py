"""@yours: a core function that the learner writes. Checked at once; kept when right; lent until then.

    @yours
    def q_sample(x_0, log_snr, eps): ...

Not written yet, or wrong: one line says so, names the likely mistake, and the course's own stands in, so that the
notebook runs on. Right: the notebook runs on the learner's function, and its source goes into my_imagen.py in the
learner's folder (of chapters 05 and 11 to 15, which the finished system does without, into my_tools.py), where
`mine` finds it in later chapters and after a restart.

Under MINIMAGEN_GRADE=1 nothing is lent. What is missing or wrong scores 0 in result.json; a cell that needs it
says so in a line and is skipped, and the rest still runs.
"""

from __future__ import annotations

import ast
import contextlib
import difflib
import inspect
import io
import json
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from .core import CORE, Core
from .folder import in_complete_edition, work
from .kept import keep, kept, write_whole
from .language import say
from .limit import TooLong, within
from .sources import CannotKeep, NoSource, is_empty, load, standalone

F = TypeVar("F", bound=Callable[..., Any])
SECONDS = 20.0  # a check takes less than a second
verdicts: dict[str, str | None] = {}  # of this kernel: None where it is right
skipping = True  # in grading: a cell that needs what is not lent is skipped


class NotLent(Exception):
    """In grading, a function that is missing or wrong is called by another cell."""


def grading() -> bool:
    return os.environ.get("MINIMAGEN_GRADE", "") not in ("", "0")


def yours(function: F) -> F | Callable[..., Any]:
    """Check a core function, say how it is, keep it where it is right, and lend the course's own elsewhere."""
    core = CORE.get(getattr(function, "__name__", ""))
    if core is None:
        name = getattr(function, "__name__", str(function))
        near = difflib.get_close_matches(name, CORE, 1)
        close = f" Did you mean {near[0]}?" if near else ""
        print(f"{name} is no core function of the course: keep the name as it was.{close}")
        return function
    sentence, text = judge(core, function)
    verdicts[core.name] = sentence
    if grading():
        _score(core, sentence)
    if sentence is not None:
        print(_said(core, sentence))
        return _refused(core, sentence) if grading() else core.reference
    print(f"✓ {core.name} is right: the notebook runs on yours from here on")
    if text is None:
        print("  (its source can't be found, so it can't be kept: write it in a cell)")
    elif not in_complete_edition() and not grading():
        _keep(core, text)
    return function


def judge(core: Core, function: Callable[..., Any]) -> tuple[str | None, str | None]:
    """None or the sentence that says what is wrong; and the source that can be kept, where there is one.

    What is checked is what will be kept: the function from its own source, beside the course's other functions.
    """
    if is_empty(function):
        return EMPTY, None
    if sentence := _signature(core, function):
        return sentence, None
    text: str | None = None
    try:
        text = standalone(function)
        checked = load(text, core.name)
    except NoSource:
        checked = function
    except CannotKeep as reason:
        # what is wrong with it counts more than what it leans on
        return _checked(core, function) or str(reason), None
    except Exception as error:
        return f"it stops with {type(error).__name__}: {error}", None
    return _checked(core, checked), text


def judge_source(core: Core, text: str) -> str | None:
    """None or the sentence, for a function that stands in a file."""
    try:
        return _checked(core, load(text, core.name))
    except Exception as error:
        return f"it stops with {type(error).__name__}: {error}"


EMPTY = "not written yet"


def _checked(core: Core, function: Callable[..., Any]) -> str | None:
    def run() -> str | None:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            return core.verdict(function)

    try:
        return within(SECONDS, run)
    except TooLong:
        return f"it does not come to an end: after {SECONDS:.0f} seconds it was stopped"


def _signature(core: Core, function: Callable[..., Any]) -> str | None:
    """The course calls it by these names: they must stay."""

    def names(f: Callable[..., Any]) -> list[str]:
        return [
            str(p).split(":")[0].split("=")[0].strip()
            for p in inspect.signature(f).parameters.values()
        ]

    if inspect.isclass(core.reference) != inspect.isclass(function):
        return f"{core.name} is meant to be a {'class' if inspect.isclass(core.reference) else 'function'}"
    if inspect.isclass(function) and "__init__" not in vars(function):
        return "its __init__ is missing: it makes the layers"
    try:
        given, wanted = names(inspect.unwrap(function)), names(core.reference)
    except ValueError:
        return None
    if given[: len(wanted)] != wanted:
        return f"its arguments must stay as they were: {core.name}({', '.join(wanted)})"
    return None


def _said(core: Core, sentence: str) -> str:
    end = "0 points." if grading() else "The course's own stands in."
    if sentence == EMPTY:
        return f"{core.name} is not written yet. {end}"
    return f"{core.name} is not right yet: {sentence}. {end}"


def _keep(core: Core, text: str) -> None:
    """Into the file. A folder that can't be written costs the keeping, never the notebook."""
    try:
        path = keep(core, text)
        print(f"  kept in {path.parent.name}/{path.name}: {len(kept())} of {len(CORE)} are yours")
    except OSError as error:
        print(f"  (it could not be kept: {error})")


def mine(*names: str) -> Any:
    """Core functions of earlier chapters: the learner's kept ones, and the course's own for the rest.

    One name gives a function, several give a tuple of them. What was kept is checked again: the file may have
    been changed by hand.
    """
    own = {} if in_complete_edition() or grading() else kept()
    found = []
    for name in names:
        core, function = CORE[name], CORE[name].reference
        if name in own:
            sentence = judge_source(core, own[name])
            if sentence is None:
                function = load(own[name], name)
            else:
                print(f"{name} in your file is not right: {sentence}. The course's own stands in.")
        found.append(function)
    return found[0] if len(found) == 1 else tuple(found)


SYSTEM = 10  # the chapters up to this one build the system


def lent() -> list[str]:
    """Print, chapter by chapter, which functions of the system are the learner's; return the names of the lent."""
    own = kept()
    system = {name: core for name, core in CORE.items() if core.chapter <= SYSTEM}
    missing = [name for name in system if name not in own]
    done, all_of_them = len(system) - len(missing), len(system)
    print(say("{done} of {all} functions are yours.", done=done, all=all_of_them))
    for chapter in sorted({core.chapter for core in system.values()}):
        row = [
            f"{'✓' if name in own else '·'} {name}"
            for name, core in system.items()
            if core.chapter == chapter
        ]
        print(f"  {chapter:02}  {'   '.join(row)}")
    return missing


# Grading


def result_file() -> Path:
    """Where the scores go: MINIMAGEN_RESULT, else result.json in the learner's folder."""
    named = os.environ.get("MINIMAGEN_RESULT")
    return Path(named) if named else work() / "result.json"


def _score(core: Core, sentence: str | None) -> None:
    path = result_file()
    try:
        known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError:
        known = {}
    known[core.name] = {
        "chapter": core.chapter,
        "score": int(sentence is None),
        "of": 1,
        "said": sentence or "right",
    }
    write_whole(path, json.dumps(known, indent=1, ensure_ascii=False) + "\n")
    _skip_what_needs_it()


def points(name: str) -> None:
    """For a grader's cell: AssertionError where the function was not right in this kernel. Elsewhere: nothing."""
    if not grading():
        return
    if name not in verdicts:
        _judge_without_yours(CORE[name])
    if name not in verdicts:
        raise AssertionError(f"{name}: its cell is missing, or did not run")
    if (sentence := verdicts[name]) is not None:
        raise AssertionError(_said(CORE[name], sentence))


def _judge_without_yours(core: Core) -> None:
    """Whoever lost the line @yours has written the function all the same."""
    from IPython import get_ipython

    shell = get_ipython()
    function = None if shell is None else shell.user_ns.get(core.name)
    if callable(function) and function is not core.reference:
        verdicts[core.name], _ = judge(core, function)
        _score(core, verdicts[core.name])


def _refused(core: Core, sentence: str) -> Callable[..., Any]:
    """What stands where nothing is lent."""
    why = f"{core.name} is not {'written' if sentence == EMPTY else 'right'}, and in grading nothing is lent"

    def refuse(*_: Any, **__: Any) -> Any:
        raise NotLent(why)

    if not inspect.isclass(core.reference):
        return refuse
    return type(core.name, (), {"__init__": refuse})


class _Skipping(ast.NodeTransformer):
    """Wraps a cell: where it needs what is not lent, or what a skipped cell would have made, it is skipped."""

    def visit_Module(self, node: ast.Module) -> ast.Module:
        if not node.body:
            return node
        future = [
            s for s in node.body if isinstance(s, ast.ImportFrom) and s.module == "__future__"
        ]
        rest = [s for s in node.body if s not in future]
        caught = ast.parse(
            "try: pass\n"
            "except BaseException as _error:\n"
            "    if not __import__('minimagen.course.yours', fromlist=['x']).skipped(_error): raise\n"
        ).body[0]
        assert isinstance(caught, ast.Try)
        caught.body = rest or caught.body
        return ast.fix_missing_locations(ast.Module([*future, caught], node.type_ignores))


_skipped_any = False


def skipped(error: BaseException) -> bool:
    """Is this the consequence of a function that is not lent? Then it is said in a line."""
    global _skipped_any
    if isinstance(error, NotLent):
        _skipped_any = True
    elif not (_skipped_any and isinstance(error, NameError)):
        return False
    print(f"skipped: {error}")
    return True


def _skip_what_needs_it() -> None:
    """From the next cell on, in this kernel."""
    if not skipping:
        return
    with contextlib.suppress(ImportError):
        from IPython import get_ipython

        shell = get_ipython()
        if shell is not None and not any(isinstance(t, _Skipping) for t in shell.ast_transformers):
            shell.ast_transformers.append(_Skipping())
