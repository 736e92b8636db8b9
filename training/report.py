"""An evaluation on the terminal: one table for each part, and what the comparison says in words.

It says what is there, whichever ranker wins.
"""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from training.card import rankers
from training.evaluate import LEARNED, SLICES, Difference, Evaluation
from training.metric import METRICS

TITLES = {
    "time": "Newest decisions (never trained on)",
    "hosts": "Held-out hosts (never trained on)",
    "all": "All decisions",
}
COMPARED = ("rule", "dragonfly", "linear")


def render(evaluation: Evaluation) -> RenderableType:
    """Tables, verdicts and notes."""
    parts: list[RenderableType] = []
    for part in evaluation.parts:
        parts += [_table(evaluation, part), *_verdicts(evaluation, part), Text()]
    parts += [Text(f"- {note}", style="dim") for note in evaluation.notes]
    return Group(*parts)


def verdict(difference: Difference) -> str:
    """The paired difference of regret@1 to another ranker, and what it says."""
    value = difference.value
    if value.low <= 0.0 <= value.high:
        word = "no clear difference"
    else:
        word = "better" if difference.is_better else "worse"
    return (
        f"{LEARNED} - {difference.other}: {value.mean:+.3f} "
        f"(95 %: {value.low:+.3f} to {value.high:+.3f}), {word}"
    )


def _table(evaluation: Evaluation, part: str) -> Table:
    title = TITLES.get(part, part)
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD)
    table.padding = (0, 1, 0, 0)
    table.add_column("(decisions)", no_wrap=True)
    for name in (METRICS[0], "95 %", *METRICS[1:]):
        table.add_column(name, justify="right", no_wrap=True)
    for name in SLICES:
        _add_slice(table, evaluation, part, name)
    return table


def _add_slice(table: Table, evaluation: Evaluation, part: str, name: str) -> None:
    """A line with the slice, then one for each ranker; nothing if nothing was judged."""
    judged = [ranker for ranker in rankers(evaluation) if _cells(evaluation, part, name, ranker)]
    count = evaluation.figure(judged[0], part=part, slice_name=name) if judged else None
    if count is None:
        return
    table.add_row(f"{name} ({count.groups:,})", style="italic")
    for ranker in judged:
        style = "bold" if ranker == LEARNED else ""
        table.add_row(*_cells(evaluation, part, name, ranker), style=style)
    table.add_section()


def _cells(evaluation: Evaluation, part: str, name: str, ranker: str) -> list[str]:
    found = [evaluation.figure(ranker, metric, part=part, slice_name=name) for metric in METRICS]
    known = [cell.value for cell in found if cell is not None]
    if not known:
        return []
    first, *others = known
    bounds = f"{first.low:.3f}-{first.high:.3f}"
    return [f"  {ranker}", f"{first.mean:.3f}", bounds, *(f"{value.mean:.3f}" for value in others)]


def _verdicts(evaluation: Evaluation, part: str) -> list[Text]:
    found = [evaluation.difference(other, part=part) for other in COMPARED]
    lines = [Text(f"  {verdict(difference)}") for difference in found if difference is not None]
    return [Text("  regret@1, paired:"), *lines] if lines else []
