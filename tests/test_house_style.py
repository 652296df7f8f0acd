"""The code is held to its own rules: linter, types, module order, size."""

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ORDER = (
    "diffusion unet samplers text guidance checkpoint stage imagen grammar captions artwork scenes png optimizers "
    "training evaluation control show check doctor runs cli"
).split()


def run(*arguments):
    done = subprocess.run(
        [sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_linter():
    run("ruff", "check", ".")
    run("ruff", "format", "--check", ".")


def test_types():
    run("mypy")


def test_spelling():
    """Of everything that people read; pictures inside a notebook are no words."""
    run("codespell_lib", "--ignore-regex", "[A-Za-z0-9+/=]{60,}", "README.md", "CONTRIBUTING.md", "minimagen",
        "tests", "data/README.md", *ROOT.glob("data/*/**/*.md"), *ROOT.glob("notebooks/**/*.ipynb"))  # fmt: skip


def test_modules_import_only_what_stands_above_them():
    pure = {"diffusion", "unet", "samplers", "guidance"}
    for path in (ROOT / "minimagen").glob("[!_]*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.level:
                assert node.module in ORDER[: ORDER.index(path.stem)], (path.stem, node.module)
            elif path.stem in pure and isinstance(node, ast.ImportFrom | ast.Import):
                names = (
                    [node.module]
                    if isinstance(node, ast.ImportFrom)
                    else [n.name for n in node.names]
                )
                known = {"__future__", "math", "collections", "dataclasses", "torch"}
                assert {n.split(".")[0] for n in names} <= known, (path.stem, names)


def test_public_names_say_what_they_do():
    """A docstring for every public class and for every public function of the modules of the paper."""
    for name in ORDER[:16]:
        path = ROOT / "minimagen" / f"{name}.py"
        if not path.exists():
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        assert ast.get_docstring(tree), name
        for node in tree.body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
                trivial = isinstance(node, ast.FunctionDef) and len(node.body) == 1
                assert trivial or ast.get_docstring(node), (name, node.name)
