"""Every log call in the tree: a stable event name, and no key that the glossary does not know."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.log_calls import ROOT, SOURCES, log_calls

from odonata.logs import GLOSSARY

EVENT = re.compile(r"[a-z0-9]+(_[a-z0-9]+)*")


def complaints(call: ast.Call) -> Iterator[str]:
    assert isinstance(call.func, ast.Attribute)
    if call.func.attr != "bind":
        event = call.args[0] if call.args else None
        if not (isinstance(event, ast.Constant) and isinstance(event.value, str)):
            yield "the event must be a plain string: put what varies into keys"
        elif not EVENT.fullmatch(event.value):
            yield f"event {event.value!r} must be snake_case, in the past tense"
        if len(call.args) > 1:
            yield "what varies belongs into keys, not into positional arguments"
    for keyword in call.keywords:
        if keyword.arg is not None and keyword.arg not in GLOSSARY:
            yield f"key {keyword.arg!r} is not in odonata.logs.GLOSSARY: use one of it, or add it"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_log_calls_speak_the_glossary(path: Path) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{call.lineno} {complaint}"
        for call in log_calls(ast.parse(path.read_text()))
        for complaint in complaints(call)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("source", "n_complaints"),
    [
        ("_log.info('piece_stored', task_id='t', piece=1)", 0),
        ("_log.info('piece_stored', taskid='t')", 1),
        ("_log.info('Piece stored')", 1),
        ("_log.info(f'piece_{n}_stored')", 1),
        ("self._log.warning('piece_lost', event='x', colour=1)", 2),
        ("structlog.get_logger(__name__).bind(colour=1).error('a_b', shade=2)", 2),
        ("logger.info('%s stored', piece)", 2),
        ("_log.info('answered', **told)", 0),
        ("catalog.info('anything', colour=1)", 0),
        ("math.log(2)", 0),
    ],
)
def test_the_check_sees_what_it_should(source: str, n_complaints: int) -> None:
    found = [text for call in log_calls(ast.parse(source)) for text in complaints(call)]
    assert len(found) == n_complaints, found


def test_the_glossary_explains_each_key_in_a_few_words() -> None:
    for key, meaning in GLOSSARY.items():
        assert EVENT.fullmatch(key), key
        assert 3 <= len(meaning) <= 90, key
        assert key != "event", "the event's own name"
