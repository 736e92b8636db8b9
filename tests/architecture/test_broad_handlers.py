"""No bug is swallowed: whoever catches every exception logs it, raises, or hands it on."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest
from support.log_calls import ROOT, SOURCES, log_calls

BROAD = {"Exception", "BaseException", "ExceptionGroup", "BaseExceptionGroup"}


def names_in(node: ast.expr | None) -> set[str]:
    """What an `except` or a `suppress` catches; everything, where it names nothing."""
    if node is None:
        return {"BaseException"}
    parts = node.elts if isinstance(node, ast.Tuple) else [node]
    return {ast.unparse(part).rpartition(".")[2] for part in parts}


def loggers_of(tree: ast.Module) -> set[str]:
    """Functions and methods of a module that log."""
    functions = (
        node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    return {function.name for function in functions if next(log_calls(function), None)}


def is_heard(handler: ast.ExceptHandler, loggers: set[str]) -> bool:
    """Whether something is made of what was caught."""
    body = ast.Module(body=handler.body, type_ignores=[])
    if next(log_calls(body), None):
        return True
    for node in ast.walk(body):
        if isinstance(node, ast.Raise):
            return True
        if isinstance(node, ast.Name) and node.id == handler.name:
            return True
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in loggers:
            return True
    return False


def swallowed(source: str) -> Iterator[int]:
    """Lines that catch everything, and keep it to themselves."""
    tree = ast.parse(source)
    loggers = loggers_of(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler) and names_in(node.type) & BROAD:
            if not is_heard(node, loggers):
                yield node.lineno
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("suppress"):
            if any(names_in(argument) & BROAD for argument in node.args):
                yield node.lineno
        elif isinstance(node, ast.keyword) and node.arg == "return_exceptions":
            yield node.lineno  # of `gather`, whose results nobody has to look at


def test_no_bug_is_swallowed() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: log what was caught, raise, or hand it on"
        for path in SOURCES
        for line in swallowed(path.read_text())
    ]
    assert not found, "\n".join(found)


HANDLER = "try:\n    work()\nexcept {}:\n    {}\n"


@pytest.mark.parametrize(
    ("source", "is_swallowed"),
    [
        (HANDLER.format("Exception", "pass"), True),
        (HANDLER.format("Exception as error", "return_nothing()"), True),
        (HANDLER.format("(OSError, Exception)", "pass"), True),
        (HANDLER.format("builtins.BaseException", "x = 1"), True),
        (HANDLER.format("", "pass").replace("except ", "except"), True),
        ("with contextlib.suppress(OSError, Exception):\n    work()\n", True),
        ("await asyncio.gather(*works, return_exceptions=True)", True),
        (HANDLER.format("OSError", "pass"), False),
        (HANDLER.format("Exception", "_log.exception('work_crashed')"), False),
        (HANDLER.format("Exception", "raise"), False),
        (HANDLER.format("Exception as error", "told.set_exception(error)"), False),
        (HANDLER.format("Exception", "self._crash()"), True),
        (
            HANDLER.format("Exception", "self._crash()")
            + "def _crash(self):\n    _log.exception('crashed')\n",
            False,
        ),
        ("with suppress(OSError):\n    work()\n", False),
    ],
)
def test_the_check_sees_what_it_should(source: str, *, is_swallowed: bool) -> None:
    assert bool(list(swallowed(source))) is is_swallowed
