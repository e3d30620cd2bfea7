"""Where a line goes (DESIGN §3), as far as a machine can tell."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SRC = Path(__file__).parents[2] / "src" / "yuanlian"
SQL = {
    "select",
    "insert",
    "update",
    "delete",
    "text",
    "union",
    "union_all",
    "exists",
    "func",
    "literal_column",
}
SQL_ROOMS = {"repository.py", "models.py"}


def _modules(*rooms: str) -> list[Path]:
    return sorted(path for room in rooms for path in (SRC / room).rglob("*.py"))


def _imports(path: Path) -> Iterator[tuple[str, str]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                yield node.module, alias.name
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, ""


def _named(path: Path) -> str:
    return str(path.relative_to(SRC))


@pytest.mark.parametrize("path", _modules("services", "gateway", "runtime"), ids=_named)
def test_sql_is_in_repositories_only(path: Path) -> None:
    if path.name in SQL_ROOMS or path == SRC / "runtime" / "schema.py" or "migrations" in path.parts:
        return
    found = {name for module, name in _imports(path) if module.startswith("sqlalchemy") and name in SQL}
    assert not found, f"SQL belongs in repository.py: {found}"


@pytest.mark.parametrize("path", _modules("kit", "contracts", "gateway", "services"), ids=_named)
def test_only_runtime_reads_the_environment(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    reads = [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv", "environb")
    ]
    assert not reads, f"the environment is read in line {reads}"


@pytest.mark.parametrize("path", _modules("kit"), ids=_named)
def test_the_kit_knows_no_kindergarten(path: Path) -> None:
    """Its code, that is; a docstring may give an example."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    words = {"student", "guardian", "teacher", "classroom", "attendance", "kindergarten"}
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    names |= {node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    names |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    spoken = {name for name in names if any(word in name.lower() for word in words)}
    assert not spoken


@pytest.mark.parametrize("path", _modules("services"), ids=_named)
def test_rules_know_no_http_status(path: Path) -> None:
    if path.name not in ("service.py", "repository.py", "handlers.py"):
        return
    found = {module for module, _ in _imports(path) if module.startswith(("litestar", "http"))}
    assert not found, f"HTTP belongs in routes.py: {found}"


@pytest.mark.parametrize("path", _modules("kit", "gateway", "services", "runtime"), ids=_named)
def test_modules_stay_readable(path: Path) -> None:
    if "versions" in path.parts:
        return
    lines = path.read_text(encoding="utf-8").count("\n")
    assert lines <= 350, "split it by noun"
