"""Which code of a notebook marks need: the answers, and the imports and helpers that they lean on."""

from __future__ import annotations

import ast
import re

# What a helper's value may be computed with; anything else could take minutes.
QUICK = set(
    "math torch int float bool str range len tuple list dict set min max abs round sorted sum zip mine".split()
)


def needed(answers: list[str], others: list[str]) -> list[str]:
    """For every other cell the part of it that the answers lean on, "" for none.

    Kept are imports, functions, classes, and values that take no time; of these, what is reachable by name.
    """
    names: set[str] = set()
    for text in answers:
        if (tree := parsed(text)) is not None:
            names |= _loads(tree)
        else:
            names |= set(re.findall(r"[A-Za-z_]\w*", text))
    rows = [
        (cell, node, _binds(node), _loads(node))
        for cell, text in enumerate(others)
        if (tree := parsed(text)) is not None
        for node in tree.body
        if _is_quick(node)
    ]
    kept: set[int] = set()
    while True:
        more = {
            i
            for i, (_, _, binds, _) in enumerate(rows)
            if i not in kept and (binds & names or "*" in binds)
        }
        if not more:
            break
        kept |= more
        for i in more:
            names |= rows[i][3]
    parts = [""] * len(others)
    for i in sorted(kept):
        cell, node, _, _ = rows[i]
        parts[cell] += _text(others[cell], node) + "\n"
    return parts


def parsed(text: str) -> ast.Module | None:
    """The code of a cell, without IPython's own lines; None for what is no Python."""
    try:
        return ast.parse(re.sub(r"^[ \t]*[%!?].*$", "pass", text, flags=re.M))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _text(source: str, node: ast.stmt) -> str:
    first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
    if any(
        other
        for other in (source.splitlines()[first - 1][: node.col_offset],)
        if other.strip() and not getattr(node, "decorator_list", [])
    ):
        return ast.unparse(node)  # it stands behind a semicolon
    lines = source.splitlines()[first - 1 : node.end_lineno]
    last = lines[-1].encode()[: node.end_col_offset].decode(errors="ignore")
    return "\n".join([*lines[:-1], last])


def _is_quick(node: ast.stmt) -> bool:
    if isinstance(node, ast.Import | ast.ImportFrom):
        return True
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return all(_roots(d) <= QUICK | {"staticmethod", "dataclass"} for d in node.decorator_list)
    if isinstance(node, ast.Assign | ast.AnnAssign):
        return node.value is not None and _roots(node.value) <= QUICK
    return False


def _roots(node: ast.AST) -> set[str]:
    """The first names of everything that is called in an expression; "?" for what has none."""
    found = set()
    for call in (n for n in ast.walk(node) if isinstance(n, ast.Call)):
        root: ast.AST = call.func
        while isinstance(root, ast.Attribute):
            root = root.value
        found.add(root.id if isinstance(root, ast.Name) else "?")
    return found


def _binds(node: ast.stmt) -> set[str]:
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {(a.asname or a.name).split(".")[0] for a in node.names}
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {node.name}
    return {
        n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
    }


def _loads(node: ast.AST) -> set[str]:
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
