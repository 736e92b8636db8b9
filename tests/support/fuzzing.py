"""Fuzzing by Hypothesis: the same few examples in every run, or random ones for minutes.

    def test_target(campaign: Campaign) -> None:
        campaign.run(check, st.binary(), examples=200)

`examples` is the target's share of the budget of a common run. With `--long` each target goes on
for LONG_S with other random seeds; a failure is shrunk, and printed with what reproduces it.
Damaged input is made of good input by `damaged`.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import hypothesis
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

LONG_S: Final = 300.0
_EXAMPLES_OF_A_ROUND: Final = 2_000
# Long searches are meant to be.
_UNHURRIED: Final = (
    HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much,
    HealthCheck.large_base_example,
)  # fmt: skip

Edit = tuple[str, int, bytes]
_KINDS: Final = ("flip", "cut", "insert", "overwrite", "repeat", "drop")


@dataclass(frozen=True, kw_only=True)
class Campaign:
    """How long to look. `is_long`: by the clock and at random; else the same examples each time."""

    is_long: bool
    long_s: float = LONG_S

    def run(
        self, check: Callable[..., None], *inputs: st.SearchStrategy[Any], examples: int
    ) -> None:
        """Call `check` with examples of `inputs` until the budget is used up or it raises."""
        if not self.is_long:
            _run_once(check, inputs, examples, seed=None)
            return
        ends_at_s = time.monotonic() + self.long_s
        while time.monotonic() < ends_at_s:
            seed = secrets.randbits(64)
            try:
                _run_once(check, inputs, _EXAMPLES_OF_A_ROUND, seed=seed, until_s=ends_at_s)
            except _TimeIsUp:
                return
            except BaseException as error:
                error.add_note(f"hypothesis seed {seed}")
                raise


class _TimeIsUp(BaseException):  # no error: Hypothesis lets it pass
    """Out of a round before its end."""


def _run_once(
    check: Callable[..., None],
    inputs: tuple[st.SearchStrategy[Any], ...],
    examples: int,
    *,
    seed: int | None,
    until_s: float | None = None,
) -> None:
    has_failed = False

    @settings(
        max_examples=examples,
        derandomize=seed is None,
        database=None,
        deadline=None,
        print_blob=True,
        suppress_health_check=_UNHURRIED,
        # No example is kept, so that none is run again before the others.
        phases=(Phase.explicit, Phase.generate, Phase.shrink),
    )
    @hypothesis.given(st.tuples(*inputs))
    def attempt(values: tuple[Any, ...]) -> None:
        nonlocal has_failed
        # A failure is shrunk to the end, however late it is.
        if until_s is not None and time.monotonic() > until_s and not has_failed:
            raise _TimeIsUp
        try:
            check(*values)
        except BaseException:
            has_failed = True
            raise

    if seed is not None:
        attempt = hypothesis.seed(seed)(attempt)
    attempt()


def damage(data: bytes, edits: list[Edit]) -> bytes:
    """`data` after `edits`, each (kind, where, what)."""
    for kind, where, what in edits:
        at = where % (len(data) + 1)
        match kind:
            case "flip" if at < len(data):
                data = data[:at] + bytes([data[at] ^ (1 << where % 8)]) + data[at + 1 :]
            case "cut":
                data = data[:at]
            case "insert":
                data = data[:at] + what + data[at:]
            case "overwrite":
                data = data[:at] + what + data[at + len(what) :]
            case "repeat":
                data += data[at : at + 64]
            case "drop":
                data = data[:at] + data[at + max(1, len(what)) :]
            case _:
                pass
    return data


edits: st.SearchStrategy[list[Edit]] = st.lists(
    st.tuples(st.sampled_from(_KINDS), st.integers(0, 2**20), st.binary(max_size=8)), max_size=4
)


def damaged(good: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Good input with up to four damages; now and then as it is, or nothing but noise."""
    return st.one_of(st.builds(damage, good, edits), st.binary(max_size=300))


def cut_up(data: bytes, sizes: list[int]) -> list[bytes]:
    """`data` in parts of these sizes, over and over; no sizes: in one."""
    parts: list[bytes] = []
    at = turn = 0
    while at < len(data):
        size = sizes[turn % len(sizes)] if sizes else len(data)
        parts.append(data[at : at + size])
        at, turn = at + size, turn + 1
    return parts


async def ask(port: int, parts: list[bytes], *, ends: bool) -> tuple[bytes, bool]:
    """Say `parts`, end our side or not, and read until the server closes.

    Whether it closed cleanly, too: who says more than it should is reset, for what was not read.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer, is_clean = b"", True
    try:
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0)
        if ends:
            writer.write_eof()
        while more := await reader.read(65536):
            answer += more
    except OSError:
        is_clean = False
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
    return answer, is_clean


def open_descriptors() -> int:
    """Descriptors of this process, without the one that looks."""
    return len(list(Path("/proc/self/fd").iterdir())) - 1
