"""The source of a function from a notebook with all that it leans on, so that it can stand in its own file."""

from __future__ import annotations

import ast
import builtins
import inspect
import io
import linecache
import symtable
import textwrap
import tokenize
from collections.abc import Callable
from types import CodeType, FunctionType, ModuleType
from typing import Any

from .core import CORE, GIVEN, MODULES

# What my_imagen.py may import. A function that needs more can't be kept.
ALLOWED = {
    "torch",
    "math",
    "functools",
    "itertools",
    "collections",
    "typing",
    "dataclasses",
    "operator",
    "__future__",
}
MARKS = ("### BEGIN SOLUTION", "### END SOLUTION")


class NoSource(Exception):
    """The source can't be found: the function was not written in a cell or a file."""


class CannotKeep(Exception):
    """The function leans on something that a file of its own would not have; the message says on what."""


def source_of(thing: Callable[..., Any]) -> str:
    """The text of a function or class, without the decorator @yours and nbgrader's marks. Raises NoSource."""
    code = _code_of(thing)
    if code is None:
        raise NoSource(thing.__name__)
    lines = linecache.getlines(code.co_filename)
    try:
        tree = ast.parse("".join(lines))
    except SyntaxError as error:
        raise NoSource(thing.__name__) from error
    for node in ast.walk(tree):
        if (
            not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
            or node.end_lineno is None
        ):
            continue
        first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
        if node.name == thing.__name__ and first <= code.co_firstlineno <= node.end_lineno:
            dropped = {
                n
                for d in node.decorator_list
                if _last_name(d) == "yours"
                for n in range(d.lineno, (d.end_lineno or d.lineno) + 1)
            }
            kept = [lines[n - 1] for n in range(first, node.end_lineno + 1) if n not in dropped]
            kept = [line for line in kept if line.strip() not in MARKS]
            return textwrap.dedent("".join(kept)).rstrip() + "\n"
    raise NoSource(thing.__name__)


def _code_of(thing: Callable[..., Any]) -> CodeType | None:
    if inspect.isclass(thing):  # a class of a notebook has no file, its methods have
        methods = (f for f in vars(thing).values() if isinstance(f, FunctionType))
        return next((f.__code__ for f in methods), None)
    return getattr(inspect.unwrap(thing), "__code__", None)


def _last_name(decorator: ast.expr) -> str:
    target = decorator.func if isinstance(decorator, ast.Call) else decorator
    return target.attr if isinstance(target, ast.Attribute) else getattr(target, "id", "")


def is_empty(thing: Callable[..., Any]) -> bool:
    """Has nobody written anything yet: only a docstring, `...`, `pass` or NotImplementedError?"""
    try:
        node = ast.parse(source_of(thing)).body[0]
    except NoSource:
        return inspect.isclass(thing) and _code_of(thing) is None
    assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    return _empty(node.body)


def _empty(body: list[ast.stmt]) -> bool:
    for statement in body:
        if isinstance(statement, ast.FunctionDef) and not _empty(statement.body):
            return False
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
            continue  # a docstring or ...
        if isinstance(statement, ast.Raise) and "NotImplementedError" in ast.unparse(statement):
            return True  # what stands below it never runs
        if not isinstance(statement, ast.Pass | ast.FunctionDef):
            return False
    return True


def free_names(text: str) -> list[str]:
    """The names that a piece of source takes from outside; type hints do not count."""
    tree = _Unhinted().visit(ast.parse(text))
    found: set[str] = set()

    def walk(scope: symtable.SymbolTable, outermost: bool) -> None:
        for symbol in scope.get_symbols():
            bound_here = outermost and (
                symbol.is_assigned() or symbol.is_imported() or symbol.is_namespace()
            )
            if symbol.is_referenced() and (symbol.is_global() or outermost) and not bound_here:
                found.add(symbol.get_name())
        for child in scope.get_children():
            walk(child, False)

    walk(symtable.symtable(ast.unparse(tree), "<cell>", "exec"), True)
    own = {n.name for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef)}
    return sorted(found - own - set(dir(builtins)) - {"__class__"})


class _Unhinted(ast.NodeTransformer):
    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)


def standalone(thing: Callable[..., Any]) -> str:
    """Source that needs nothing but what my_imagen.py has: helpers, constants and imports stand before it.

    Helpers get names of their own, so that those of two functions never meet. Raises NoSource or CannotKeep.
    """
    renamed: dict[str, str] = {}
    blocks = _blocks(thing, thing.__name__, renamed, {thing.__name__})
    return "\n\n".join(_rename(block, renamed).rstrip("\n") for block in blocks) + "\n"


def _blocks(
    thing: Callable[..., Any], owner: str, renamed: dict[str, str], done: set[str]
) -> list[str]:
    text = source_of(thing)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [getattr(node, "module", None) or ""] if isinstance(node, ast.ImportFrom) else [
                a.name for a in node.names
            ]  # fmt: skip
            for name in names:
                _allow(name.split(".")[0])
    around = _surroundings(thing)
    before: list[str] = []
    for name in free_names(text):
        if name in done or name not in around:
            continue
        done.add(name)
        before += _needed(name, around[name], owner, renamed, done)
    return [*before, text]


def _surroundings(thing: Callable[..., Any]) -> dict[str, Any]:
    """What the names in it stand for: globals, and what it closes over."""
    if inspect.isclass(thing):
        around: dict[str, Any] = {}
        for f in (f for f in vars(thing).values() if isinstance(f, FunctionType)):
            around |= _surroundings(f)
        return around
    function = inspect.unwrap(thing)
    around = dict(getattr(function, "__globals__", {}))
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            around[name] = cell.cell_contents
        except ValueError:  # not filled yet
            continue
    return around


def _needed(
    name: str, value: Any, owner: str, renamed: dict[str, str], done: set[str]
) -> list[str]:
    """What must stand before a function that uses `name`."""
    home = getattr(value, "__module__", None) or ""
    if isinstance(value, ModuleType):
        if MODULES.get(name) is value:
            return []
        _allow(value.__name__.split(".")[0])
        return [f"import {value.__name__} as {name}"]
    ours = home.split(".")[0] == "minimagen"
    # what stays in its notebook may call all core functions; what goes into my_imagen.py those that stand there
    if name in CORE and (CORE[name].in_file or not _goes_into_file(owner)):
        return []
    if ours and name in GIVEN:
        return []
    if ours and getattr(value, "__name__", "") in {
        *GIVEN,
        *(k for k, c in CORE.items() if c.in_file),
    }:
        return [f"{name} = {value.__name__}"]
    if ours:
        raise CannotKeep(
            f"it calls {name} of the course: my_imagen.py has nothing of ours, so write it yourself"
        )
    called = str(getattr(value, "__name__", ""))
    for module in MODULES.values():
        if value is not None and getattr(module, called, None) is value:
            return [f"from {module.__name__} import {called} as {name}"]
    if callable(value) and _code_of(value) is not None and home.split(".")[0] not in ALLOWED:
        if not home.startswith("__main__") and not _in_same_place(value):
            raise CannotKeep(f"it needs {name} of {home}: my_imagen.py imports torch alone")
        renamed[name] = (
            f"_{owner}_{name.lstrip('_')}" if not name.startswith(f"_{owner}_") else name
        )
        try:
            return _blocks(value, owner, renamed, done)
        except NoSource as error:
            raise CannotKeep(f"the source of {name} can't be found") from error
    if _simple(value):
        renamed[name] = (
            f"_{owner}_{name.lstrip('_')}" if not name.startswith(f"_{owner}_") else name
        )
        return [f"{name} = {value!r}"]
    if home.split(".")[0] in ALLOWED and hasattr(value, "__qualname__"):
        return [f"from {home} import {value.__qualname__} as {name}"]
    raise CannotKeep(
        f"it leans on {name} of the notebook: take what is needed from the arguments, so that it works anywhere"
    )


def _goes_into_file(owner: str) -> bool:
    return owner not in CORE or CORE[owner].in_file


def _in_same_place(value: Callable[..., Any]) -> bool:
    """Is it the learner's own: in a cell, or in a file that is no installed package?"""
    code = _code_of(value)
    return code is not None and "site-packages" not in code.co_filename


def _allow(root: str) -> None:
    if root == "minimagen":
        raise CannotKeep(
            "it calls minimagen itself: my_imagen.py has nothing of ours, so write it yourself"
        )
    if root not in ALLOWED:
        raise CannotKeep(f"it needs {root}: my_imagen.py imports torch alone")


def _simple(value: Any) -> bool:
    if isinstance(value, list | tuple | set | frozenset):
        return all(_simple(v) for v in value)
    if isinstance(value, dict):
        return all(_simple(k) and _simple(v) for k, v in value.items())
    return value is None or isinstance(value, bool | int | float | complex | str | bytes)


def _rename(text: str, names: dict[str, str]) -> str:
    """Other names, token by token, so that comments and layout stay; attributes are left alone."""
    if not names:
        return text
    lines, dot = text.splitlines(keepends=True), False
    changes: list[tuple[int, int, int, str]] = []
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.NAME and token.string in names and not dot:
            changes.append((token.start[0] - 1, token.start[1], token.end[1], names[token.string]))
        dot = token.string == "."
    for row, start, end, new in reversed(changes):
        lines[row] = lines[row][:start] + new + lines[row][end:]
    return "".join(lines)


def namespace() -> dict[str, Any]:
    """What a kept function finds around it: torch, the given helpers, and the course's own core functions."""
    return {
        **MODULES,
        **GIVEN,
        **{name: core.reference for name, core in CORE.items()},
    }


def load(text: str, name: str) -> Callable[..., Any]:
    """The function from its own source alone. Raises what running the source raises."""
    around: dict[str, Any] = {"__name__": "my_imagen", **namespace()}
    around.pop(name, None)
    exec(compile("from __future__ import annotations\n" + text, f"<{name}>", "exec"), around)
    return around[name]
