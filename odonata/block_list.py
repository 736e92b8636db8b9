"""Downloads that an operator has forbidden: by application, URL, tag or priority.

A daemon holds to the list of its dynconfig file (`peer.runtime.dynconfig`), as Dragonfly's do: at
its proxy and at its socket, before anybody is asked. A scheduler refuses too, so that one list in
one place is enough; it has two, one for seeds and one for all other hosts (its own dynconfig).

What a scheduler's refusal can and can't do: whatever it answers, a stock (Rust) client that is not
served goes to the source on its own, unless its download says `disable_back_to_source`. No status
changes that, and neither does any answer: an empty task would be a wrong file, unusable parents
five lost rounds, and silence three hours. So the status is the one that is true and that a daemon
itself gives for its own list, PERMISSION_DENIED. The swarm spends nothing on a forbidden download;
to keep stock clients from fetching it at their own expense, give the same list to them (their
dynconfig, `clientConfig.blockList`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from odonata.pattern import Pattern
from odonata.wire.message import Value

if TYPE_CHECKING:
    from odonata.wire.message import Download


class BlockList(Value, frozen=True, kw_only=True):
    """What is forbidden. `urls` are patterns (RE2, searched for anywhere in the URL)."""

    applications: tuple[str, ...] = ()
    urls: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    priorities: tuple[int, ...] = ()


class Blocks:
    """A block list, compiled. Raises CallerError for a pattern that is none."""

    def __init__(self, block_list: BlockList) -> None:
        self._applications = frozenset(block_list.applications)
        self._urls = tuple(Pattern(url) for url in block_list.urls)
        self._tags = frozenset(block_list.tags)
        self._priorities = frozenset(block_list.priorities)
        self._is_empty = block_list == BlockList()

    def why(self, download: Download) -> str | None:
        """Return what of `download` is on the list, in words; None if nothing is.

        Its URL is not repeated: it may hold a secret.
        """
        if self._is_empty:
            return None
        if download.application in self._applications:
            return f"application {download.application!r}"
        if download.tag in self._tags:
            return f"tag {download.tag!r}"
        if download.priority in self._priorities:
            return f"priority {download.priority}"
        found = next((url for url in self._urls if url.found_in(download.url)), None)
        return None if found is None else f"its URL, by the pattern {found.text!r}"
