"""The documents are whole: links lead somewhere, rooms stand where they should, tables fresh."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from support.metrics_table import metrics_table

from peer.core import lifecycle as peer_lifecycle
from scheduler.core import lifecycle as scheduler_lifecycle
from scheduler.core import standing as scheduler_standing
from scheduler.core.persistent import lifecycle as persistent_lifecycle

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
STATE_MACHINES = ROOT / "docs" / "state-machines.md"
OPERATIONS = ROOT / "docs" / "operations.md"
BEGIN, END = "<!-- metrics: begin -->\n", "<!-- metrics: end -->\n"
LINK = re.compile(r"\]\(([^)#]+)(?:#[^)]*)?\)")


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text()):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), f"{name_of(page)} links to {target}"


@pytest.mark.parametrize("picture", sorted(ROOT.glob("docs/pictures/*.svg")), ids=name_of)
def test_pictures_are_well_formed(picture: Path) -> None:
    assert ET.parse(picture).getroot().tag.endswith("svg")


def test_every_room_stands_where_the_architecture_says() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    rooms = text.partition("## The rooms")[2].partition("### ")[0]
    for room in re.findall(r"^\| `([a-z]+)/` \|", rooms, re.MULTILINE):
        assert (ROOT / room).is_dir(), f"docs/architecture.md names {room}/"
    section = ""
    for line in text.splitlines():
        if heading := re.match(r"### `([a-z]+)/`", line):
            section = heading[1]
        elif line.startswith("## "):
            section = ""
        elif section and line.startswith("| `"):
            folder = ROOT / section if section != "peer" else ROOT / "peer" / "runtime"
            for name in re.findall(r"`([a-z_/0-9]+)`", line.split("|")[1]):
                exists = (folder / f"{name}.py").exists() or (folder / name).is_dir()
                assert exists, f"docs/architecture.md names {section}: {name}"


def test_every_kernel_module_is_named_in_the_architecture() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    for path in (ROOT / "odonata").glob("*.py"):
        if path.stem != "__init__":
            assert f"`{path.stem}`" in text, (
                f"docs/architecture.md does not name odonata/{path.stem}"
            )


def test_every_decision_is_listed() -> None:
    index = (ROOT / "docs" / "adr" / "README.md").read_text()
    for page in (ROOT / "docs" / "adr").glob("0*.md"):
        assert f"({page.name})" in index


def rows(transitions: Iterable[tuple[str, str, str]]) -> str:
    return "\n".join(f"    {source} --> {target}: {why}" for source, why, target in transitions)


def grouped(table: Mapping[tuple[str, str], str]) -> list[tuple[str, str, str]]:
    """One arrow for each pair of states, with every trigger that leads along it."""
    arrows: dict[tuple[str, str], list[str]] = {}
    for (source, trigger), target in table.items():
        arrows.setdefault((source, target), []).append(trigger)
    return [(source, ", ".join(triggers), target) for (source, target), triggers in arrows.items()]


def drawn() -> str:
    peer = {(str(s), str(t)): str(e) for (s, t), e in scheduler_lifecycle.PEER_TRANSITIONS.items()}
    task = {(str(s), str(t)): str(e) for (s, t), e in scheduler_lifecycle.TASK_TRANSITIONS.items()}
    standing = {
        (str(s), str(t)): str(e) for (s, t), e in scheduler_standing.HOST_TRANSITIONS.items()
    }
    copy = {(str(s), str(t)): str(e) for (s, t), e in persistent_lifecycle.PEER_TRANSITIONS.items()}
    persistent = {
        (str(s), str(t)): str(e) for (s, t), e in persistent_lifecycle.TASK_TRANSITIONS.items()
    }
    download = {
        (str(state), str(step)): str(end)
        for state, steps in peer_lifecycle.TRANSITIONS.items()
        for step, end in steps.items()
    }
    parts = [
        "# State machines",
        "Drawn from the tables in the code by `./run docs --rewrite`; theory stands above each.",
    ]
    for title, source, table in (
        ("A peer, as the scheduler sees it", "scheduler/core/lifecycle.py", peer),
        ("A task, as the scheduler sees it", "scheduler/core/lifecycle.py", task),
        ("A host's standing as a parent", "scheduler/core/standing.py", standing),
        ("A copy of a persistent task", "scheduler/core/persistent/lifecycle.py", copy),
        ("A persistent task", "scheduler/core/persistent/lifecycle.py", persistent),
        ("A download, as the peer sees it", "peer/core/lifecycle.py", download),
    ):
        diagram = f"```mermaid\nstateDiagram-v2\n{rows(grouped(table))}\n```"
        parts += [f"## {title}", f"[{source}](../{source})", diagram]
    return "\n\n".join(parts) + "\n"


def test_state_machines_are_drawn_from_the_tables(request: pytest.FixtureRequest) -> None:
    if request.config.getoption("--rewrite"):
        STATE_MACHINES.write_text(drawn())
    assert STATE_MACHINES.read_text() == drawn(), "stale: run ./run docs --rewrite"


async def test_metrics_are_listed_as_they_are_served(request: pytest.FixtureRequest) -> None:
    text = OPERATIONS.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    fresh = f"{before}{BEGIN}{metrics_table()}{END}{after}"
    if request.config.getoption("--rewrite"):
        OPERATIONS.write_text(fresh)
    assert OPERATIONS.read_text() == fresh, "stale: run ./run docs --rewrite"
