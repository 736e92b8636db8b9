"""An evaluation on the terminal: one table for each part, and what the comparison says in words.

It says what is there, whichever ranker wins.
"""

from __future__ import annotations

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
    """One sentence about regret@1 against another ranker."""
    value = difference.value
    change = f"{abs(value.mean):.3f} (95 %: {value.low:+.3f} to {value.high:+.3f})"
    if value.low <= 0 <= value.high:
        word = "less" if value.mean < 0 else "more"
        return f"{LEARNED} misses {change} {word} than {difference.other}: no clear difference"
    word = "less" if value.mean < 0 else "more"
    return f"{LEARNED} misses {change} {word} than {difference.other}"


def _table(evaluation: Evaluation, part: str) -> Table:
    title = TITLES.get(part, part)
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column("slice")
    table.add_column("ranker")
    for metric in METRICS:
        table.add_column(metric, justify="right")
    table.add_column("regret@1, 95 %", justify="right")
    table.add_column("decisions", justify="right")
    for name in SLICES:
        for ranker in rankers(evaluation):
            cells = _cells(evaluation, part, name, ranker)
            if cells:
                table.add_row(*cells, style="bold" if ranker == LEARNED else "")
        table.add_section()
    return table


def _cells(evaluation: Evaluation, part: str, name: str, ranker: str) -> list[str]:
    found = [evaluation.figure(ranker, metric, part=part, slice_name=name) for metric in METRICS]
    known = [cell for cell in found if cell is not None]
    if not known:
        return []
    first = known[0]
    bounds = f"{first.value.low:.3f} - {first.value.high:.3f}"
    values = [f"{cell.value.mean:.3f}" for cell in known]
    return [name, ranker, *values, bounds, f"{first.groups:,}"]


def _verdicts(evaluation: Evaluation, part: str) -> list[Text]:
    found = [evaluation.difference(other, part=part) for other in COMPARED]
    return [Text(verdict(difference)) for difference in found if difference is not None]
