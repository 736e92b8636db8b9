"""The style guide as a test: sizes, names, docstrings, left-overs. Each failure names the fix."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("odonata", "scheduler", "peer", "models", "training", "simulator", "manager")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))

FUNCTION_LINES_MAX = 70  # a function that needs scrolling hides a second one
MODULE_LINES_MAX = 800
BANNED_NAMES = re.compile(r"(^|_)(utils?|helpers?|common|misc)(_|$)")
LEFT_OVERS = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
MACHINE_PATHS = re.compile(r"(/home/[a-z]|/Users/)")


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", SOURCES + TESTS, ids=name_of)
def test_module_is_tidy(path: Path) -> None:
    text = path.read_text()
    tree = ast.parse(text)
    assert ast.get_docstring(tree), f"{name_of(path)}: say in a module docstring what it is"
    n_lines = text.count("\n")
    assert n_lines <= MODULE_LINES_MAX, f"{name_of(path)}: {n_lines} lines; split it by noun"
    assert not BANNED_NAMES.search(path.stem), f"{name_of(path)}: name the noun it is about"
    if path != Path(__file__):
        assert not LEFT_OVERS.search(text), f"{name_of(path)}: settle the left-over or file it"
        assert not MACHINE_PATHS.search(text), f"{name_of(path)}: a path of one machine"


@pytest.mark.parametrize("path", SOURCES + TESTS, ids=name_of)
def test_functions_fit_on_a_screen(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= FUNCTION_LINES_MAX, (
                f"{name_of(path)}:{node.lineno} {node.name} has {length} lines; split it"
            )


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_no_bare_except_and_no_sleeping_in_place_of_knowing(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f"{name_of(path)}:{node.lineno} name what you catch"
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "time.sleep":
            pytest.fail(f"{name_of(path)}:{node.lineno} blocks the event loop; wait for an event")


@pytest.mark.parametrize(
    "path",
    [p for p in SOURCES if "core" in p.relative_to(ROOT).parts],
    ids=name_of,
)
def test_core_reads_no_clock_and_draws_no_luck(path: Path) -> None:
    """What the import contracts can't see: `random` may be imported for its type alone."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert not called.startswith(("random.", "uuid.", "time.", "secrets.")), (
                f"{name_of(path)}:{node.lineno} {called}: make it an argument"
            )


def test_test_names_are_unique_per_folder_and_have_no_init() -> None:
    assert not list((ROOT / "tests").rglob("__init__.py")), "tests are no package"


def test_datasets_and_notebooks_hold_no_python() -> None:
    found = [*(ROOT / "datasets").rglob("*.py"), *(ROOT / "notebooks").rglob("*.py")]
    assert not found, f"data and notebooks only: {found}"
