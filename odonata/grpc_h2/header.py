"""HPACK, by the package of that name: blocks in, fields out, and back; nothing of gRPC.

We tell clients that our table has no room, so the header blocks of equal calls are equal bytes
that depend on nothing, and what they mean is remembered. A client that uses the table all the same
(it may until it has read our SETTINGS) is understood, and not remembered. What we send never uses
a table: a block is made once and sent many times.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from hpack import Decoder, Encoder, HeaderTuple
from hpack.exceptions import HPACKError, OversizedHeaderListError

from odonata.grpc_h2.frame import Code, ConnectionFault

Fields = list[tuple[bytes, bytes]]
T = TypeVar("T")

# RFC 7541 §6.3: what a block begins with that changes the table's size.
_SIZE_UPDATE_MASK, _SIZE_UPDATE = 0xE0, 0x20

# A block that is larger will hardly come again.
_REMEMBERED_BYTES = 2048


def block_of(fields: Iterable[tuple[str, str]]) -> bytes:
    """Encode fields without any table, so that the bytes mean the same on every connection."""
    encoder = Encoder()
    # "Sensitive" is HPACK's word for "never put this into a table".
    return encoder.encode([(name, value, True) for name, value in fields], huffman=False)


class TooManyFieldsError(Exception):
    """The decoded fields are larger than the limit. The table is in order all the same."""


class HeaderMemory(Generic[T]):
    """What context-free header blocks mean, for all connections of a server."""

    def __init__(self, interpret: Callable[[Fields], T], *, max_blocks: int) -> None:
        self.interpret = interpret
        self.known: dict[bytes, T] = {}
        self._max_blocks = max_blocks

    def keep(self, block: bytes, meaning: T) -> None:
        """Remember `block`; a full memory starts afresh."""
        if len(self.known) >= self._max_blocks:
            self.known.clear()
        self.known[block] = meaning


class HeaderReader(Generic[T]):
    """Reads the header blocks of one connection into what their fields mean."""

    def __init__(self, memory: HeaderMemory[T], *, max_list_bytes: int) -> None:
        self._memory = memory
        self._decoder = Decoder(max_header_list_size=max_list_bytes)

    def read(self, block: bytes) -> T:
        """Decode one block.

        Raises ConnectionFault (not HPACK), TooManyFieldsError, and what the interpreter raises.
        """
        table = self._decoder.header_table.dynamic_entries
        was_empty = not table
        if was_empty:
            known = self._memory.known.get(block)
            if known is not None:
                return known
        found = self._memory.interpret(self._decoded(block))
        is_free = was_empty and not table and block[0] & _SIZE_UPDATE_MASK != _SIZE_UPDATE
        if is_free and len(block) <= _REMEMBERED_BYTES:
            self._memory.keep(block, found)
        return found

    def _decoded(self, block: bytes) -> Fields:
        try:
            fields: Iterable[HeaderTuple] = self._decoder.decode(block, raw=True)
            return [(bytes(name), bytes(value)) for name, value in fields]
        except OversizedHeaderListError as error:
            if self._decoder.header_table_size:
                # The rest of the block may have changed the table.
                raise ConnectionFault(Code.ENHANCE_YOUR_CALM, "too many header fields") from error
            raise TooManyFieldsError from error
        except (HPACKError, UnicodeError, ValueError, IndexError) as error:
            raise ConnectionFault(Code.COMPRESSION_ERROR, "a header block is not HPACK") from error
