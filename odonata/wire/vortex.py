"""Vortex: how peers ask each other for a piece over TCP, as bytes in, bytes out.

One exchange per connection. The child writes a request; the parent answers with the piece's content
or with an error, and closes. Between peers of ours the child may introduce itself first, with a
packet that Vortex leaves undefined, and then the connection stays open for any number of exchanges,
one after the other:

    packet          id:u8 (any) | tag:u8 | length:u32 | value[length]          all big-endian
    request value   task id: 64 ASCII characters | piece number: u32           length = 68
    content value   M:u32 | metadata[M], then outside `length` the bytes       length = 4 + M
    error value     code:u8 | UTF-8 message
    greeting value  UTF-8 host id          no answer; only to who said it takes greetings

    metadata        number:u32 | offset:u64 | length:u64 | D:u32 | digest[D] | P:u32 | parent id[P]
                    | traffic type:u8 | cost in whole seconds:u64 | created at in unix seconds:i64

The tag of a content packet is the tag of its request plus one. Nothing here opens a socket, reads a
piece or checks a digest. Everything that arrives is taken for hostile: each length has a limit, and
whatever is not laid out exactly so raises ProtocolError. Behaviour: vortex-protocol 0.1.5 as
dfdaemon 1.5.1 uses it.
"""

from __future__ import annotations

import itertools
import re
import struct
from collections.abc import Iterable
from enum import Enum, IntEnum, auto
from typing import Final

from odonata.errors import (
    NotFoundError,
    OdonataError,
    PeerRefusedError,
    PieceGivenError,
    ProtocolError,
)
from odonata.ids import TASK_ID_LENGTH
from odonata.piece import MIB, PIECE_LENGTH_MAX
from odonata.wire.message import Piece, TaskType, TrafficType, Value

_HEADER: Final = struct.Struct(">BBI")
_PREFIX: Final = struct.Struct(">I")
_REQUEST: Final = struct.Struct(f">{TASK_ID_LENGTH}sI")
_META_HEAD: Final = struct.Struct(">IQQ")
_META_TAIL: Final = struct.Struct(">BQq")

# How much a reader must read before each step.
HEADER_LENGTH: Final = _HEADER.size
PREFIX_LENGTH: Final = _PREFIX.size
REQUEST_VALUE_LENGTH: Final = _REQUEST.size

# "crc32:4294967295" is 16 characters; the longest digest known, sha512's, is 135.
DIGEST_LENGTH_MAX: Final = 256
# A peer id is an address, a host name (at most 253 characters) and a UUID.
PARENT_ID_LENGTH_MAX: Final = 1024
HOST_ID_LENGTH_MAX: Final = 512  # an address, a host name and "-seed"
METADATA_LENGTH_MIN: Final = _META_HEAD.size + 2 * _PREFIX.size + _META_TAIL.size
METADATA_LENGTH_MAX: Final = METADATA_LENGTH_MIN + DIGEST_LENGTH_MAX + PARENT_ID_LENGTH_MAX
# Error messages are a sentence; dfdaemon's longest carry a path or an address.
ERROR_MESSAGE_LENGTH_MAX: Final = 16 * 1024
ERROR_VALUE_LENGTH_MAX: Final = 1 + ERROR_MESSAGE_LENGTH_MAX
# Four times the API's largest piece, since stock peers take a user's longer piece length as it is.
CONTENT_LENGTH_MAX: Final = 4 * PIECE_LENGTH_MAX
# Files end far below it; it keeps offset + length a signed 64-bit number, as file systems want it.
OFFSET_MAX: Final = 2**62
PIECE_NUMBER_MAX: Final = 2**32 - 1
# Bits in the packet id of a request after a greeting. (A stock child's ids are drawn at random, and
# mean nothing.) The child would rather be refused than wait for a slot ...
IMPATIENT: Final = 1
# ... and rather hear that the piece is given to somebody else (`RefusalCode.GIVEN`) than get it,
# too. Only to who said that it knows of this.
EXCLUSIVE: Final = 2
# ... and takes what has come of a piece that is still on its way to the parent: see `Piece` in
# `piece_list.say_coming`. Only to who said that it passes such pieces on.
PASSED_ON: Final = 4
# ... and asks before its scheduler has answered: it wants the piece only if that is the whole
# content, and a short one. Only to who said that it answers such questions.
AHEAD: Final = 8
AHEAD_BYTES_MAX: Final = 64 * 1024
"""Of the content then. What comes lies in the child's socket until its scheduler has answered, and
that takes as much without a word from its reader; and if another parent is chosen, it is lost."""
GIVEN_MAX: Final = 1024
"""Pieces that such a refusal names: those of some seconds, so a few dozen as a rule."""

_I64_MAX: Final = 2**63 - 1
_NUMBER: Final = re.compile(r"\d{1,10}", re.ASCII)


class Tag(IntEnum):
    """What a packet is. 8 to 253 are reserved; cache pieces (6, 7) are asked for by nobody.

    GREETING is ours, from among the reserved ones.
    """

    DOWNLOAD_PIECE = 0
    PIECE_CONTENT = 1
    DOWNLOAD_PERSISTENT_PIECE = 2
    PERSISTENT_PIECE_CONTENT = 3
    DOWNLOAD_PERSISTENT_CACHE_PIECE = 4
    PERSISTENT_CACHE_PIECE_CONTENT = 5
    DOWNLOAD_CACHE_PIECE = 6
    CACHE_PIECE_CONTENT = 7
    GREETING = 200
    CLOSE = 254
    ERROR = 255


class RequestTag(IntEnum):
    """The kinds of piece that can be asked for."""

    STANDARD = Tag.DOWNLOAD_PIECE
    PERSISTENT = Tag.DOWNLOAD_PERSISTENT_PIECE
    PERSISTENT_CACHE = Tag.DOWNLOAD_PERSISTENT_CACHE_PIECE

    @property
    def answer(self) -> Tag:
        """Tag of the content that answers it."""
        return Tag(self + 1)


TAGS: Final = {
    TaskType.STANDARD: RequestTag.STANDARD,
    TaskType.PERSISTENT: RequestTag.PERSISTENT,
    TaskType.PERSISTENT_CACHE: RequestTag.PERSISTENT_CACHE,
}
"""By the kind of task: how its pieces are asked for."""


class RefusalCode(IntEnum):
    """Why a parent sends no piece."""

    UNKNOWN = 0
    INVALID_ARGUMENT = 1
    NOT_FOUND = 2
    INTERNAL = 3
    GIVEN = 100
    """Ours, and only in answer to an exclusive request. The message is the numbers of all pieces
    that are given to others, with spaces between them."""


class PacketHeader(Value, frozen=True, kw_only=True):
    """First 6 bytes of a packet. `length` counts the value, without a piece's bytes."""

    id: int
    tag: Tag
    length: int


class PieceRequest(Value, frozen=True, kw_only=True):
    """Piece `number` of task `task_id`, please."""

    task_id: str
    number: int
    tag: RequestTag = RequestTag.STANDARD
    is_patient: bool = True
    """Whether the child waits for a slot. Written as `IMPATIENT`; who reads it looks at the header,
    since a child that has not greeted means nothing by it."""
    is_exclusive: bool = False
    """Not if it is given to somebody else. Written as `EXCLUSIVE`, and read likewise."""
    is_passed_on: bool = False
    """Although the parent has not got it all yet. Written as `PASSED_ON`, and read likewise."""
    is_ahead: bool = False
    """Only if it is all of a short content. Written as `AHEAD`, and read likewise."""


class Greeting(Value, frozen=True, kw_only=True):
    """A child of ours says who it is, and that it will ask for more than one piece here.

    From then on the packet id of a request means something: see `IMPATIENT`.
    """

    host_id: str


class Refusal(Value, frozen=True, kw_only=True):
    """An error packet's content."""

    code: RefusalCode
    message: str

    def to_error(self) -> OdonataError:
        """NotFoundError if the parent lacks the piece, a PeerRefusedError otherwise."""
        detail = f"parent refused the piece ({self.code.name.lower()}): {self.message[:500]}"
        if self.code is RefusalCode.NOT_FOUND:
            return NotFoundError(detail)
        if self.code is RefusalCode.GIVEN:
            return PieceGivenError(detail, given=_numbers_in(self.message))
        return PeerRefusedError(detail)


# --- both sides -----------------------------------------------------------------------------------


def parse_header(data: bytes) -> PacketHeader:
    """Read the `HEADER_LENGTH` bytes that start every packet. The length is not yet judged."""
    if len(data) != HEADER_LENGTH:
        raise ProtocolError(f"packet header has {len(data)} bytes instead of {HEADER_LENGTH}")
    packet_id, tag, length = _HEADER.unpack(data)
    try:
        return PacketHeader(id=packet_id, tag=Tag(tag), length=length)
    except ValueError:
        raise ProtocolError(f"packet has tag {tag}, which Vortex does not define") from None


class _Step(Enum):
    HEADER = auto()
    REFUSAL = auto()
    PREFIX = auto()
    METADATA = auto()


# --- the child's side -----------------------------------------------------------------------------


def encode_request(request: PieceRequest, *, packet_id: int | None = None) -> bytes:
    """Write a request. ProtocolError if Vortex can't carry the task id or the number."""
    if packet_id is None:
        packet_id = 0 if request.is_patient else IMPATIENT
        packet_id |= EXCLUSIVE if request.is_exclusive else 0
        packet_id |= PASSED_ON if request.is_passed_on else 0
        packet_id |= AHEAD if request.is_ahead else 0
    task_id = request.task_id.encode("ascii", "replace")
    if len(task_id) != TASK_ID_LENGTH or not request.task_id.isascii():
        raise ProtocolError(
            f"task id {request.task_id[:80]!r} can't be asked for over Vortex: "
            f"it must have {TASK_ID_LENGTH} ASCII characters"
        )
    if not 0 <= request.number <= PIECE_NUMBER_MAX:
        raise ProtocolError(f"piece number {request.number} is not from 0 to {PIECE_NUMBER_MAX}")
    header = _HEADER.pack(packet_id & 0xFF, request.tag, REQUEST_VALUE_LENGTH)
    return header + _REQUEST.pack(task_id, request.number)


def encode_greeting(greeting: Greeting, *, packet_id: int = 0) -> bytes:
    """Write a greeting; a longer host id is cut."""
    host_id = greeting.host_id.encode("utf-8", "replace")[:HOST_ID_LENGTH_MAX]
    host_id = host_id.decode("utf-8", "ignore").encode()  # the cut may fall inside a character
    return _HEADER.pack(packet_id & 0xFF, Tag.GREETING, len(host_id)) + host_id


class AnswerParser:
    """Reads an answer step by step, without holding more than it must.

    Read exactly `need` bytes from the socket, `feed` them, and again until `need` is 0. Then
    `answer` is the piece's facts, followed on the socket by exactly `answer.length` bytes, or a
    Refusal. The steps are 6 bytes of header, then 4 and the metadata, or an error's value.
    """

    def __init__(self, request: PieceRequest) -> None:
        self._request = request
        self._step = _Step.HEADER
        self._value_length = 0
        self._answer: Piece | Refusal | None = None
        self.need = HEADER_LENGTH

    @property
    def answer(self) -> Piece | Refusal:
        """The answer; ProtocolError while it is not complete."""
        if self._answer is None:
            raise ProtocolError(f"answer ended early: {self.need} more bytes were due")
        return self._answer

    def feed(self, data: bytes) -> None:
        """Take the next `need` bytes. ProtocolError if they are not allowed here."""
        if len(data) != self.need or self._answer is not None:
            raise ProtocolError(f"answer got {len(data)} bytes where {self.need} were due")
        match self._step:
            case _Step.HEADER:
                self._take_header(data)
            case _Step.REFUSAL:
                self._finish(parse_refusal(data))
            case _Step.PREFIX:
                self._take_prefix(data)
            case _Step.METADATA:
                self._take_metadata(data)

    def _take_header(self, data: bytes) -> None:
        header = parse_header(data)
        if header.tag is Tag.ERROR:
            _check_number("error length", header.length, 1, ERROR_VALUE_LENGTH_MAX)
            self._step, self.need = _Step.REFUSAL, header.length
            return
        if header.tag is not self._request.tag.answer:
            raise ProtocolError(
                f"request {self._request.tag.name} was answered by {header.tag.name}, "
                f"instead of {self._request.tag.answer.name}"
            )
        low, high = PREFIX_LENGTH + METADATA_LENGTH_MIN, PREFIX_LENGTH + METADATA_LENGTH_MAX
        _check_number("content packet's length", header.length, low, high)
        self._value_length = header.length
        self._step, self.need = _Step.PREFIX, PREFIX_LENGTH

    def _take_prefix(self, data: bytes) -> None:
        (length,) = _PREFIX.unpack(data)
        if length + PREFIX_LENGTH != self._value_length:
            raise ProtocolError(
                f"metadata of {length} bytes does not fill a packet of {self._value_length} bytes"
            )
        self._step, self.need = _Step.METADATA, length

    def _take_metadata(self, data: bytes) -> None:
        piece = parse_metadata(data)
        if piece.number != self._request.number:
            raise ProtocolError(f"asked for piece {self._request.number}, got {piece.number}")
        self._finish(piece)

    def _finish(self, answer: Piece | Refusal) -> None:
        self._answer, self.need = answer, 0


def parse_metadata(data: bytes) -> Piece:
    """Read the M bytes of metadata.

    An unknown traffic type counts as REMOTE_PEER: it is the parent's note to itself. Whether offset
    and length are those of the task's grid is for the caller to check.
    """
    _check_number("metadata length", len(data), METADATA_LENGTH_MIN, METADATA_LENGTH_MAX)
    number, offset, length = _META_HEAD.unpack_from(data)
    if length > CONTENT_LENGTH_MAX:
        raise ProtocolError(
            f"piece {number} has {length} bytes: more than {CONTENT_LENGTH_MAX // MIB} MiB"
        )
    if offset > OFFSET_MAX:
        raise ProtocolError(f"piece {number} has offset {offset}: more than {OFFSET_MAX}")
    digest, at = _take_text(data, _META_HEAD.size, "digest", DIGEST_LENGTH_MAX)
    parent_id, at = _take_text(data, at, "parent id", PARENT_ID_LENGTH_MAX)
    if len(data) - at != _META_TAIL.size:
        raise ProtocolError(
            f"metadata ends with {len(data) - at} bytes instead of {_META_TAIL.size}"
        )
    traffic_type, cost_s, created_at_s = _META_TAIL.unpack_from(data, at)
    return Piece(
        number=number,
        offset=offset,
        length=length,
        digest=digest,
        parent_id=parent_id,
        traffic_type=_traffic_type(traffic_type),
        cost_s=float(cost_s),
        created_at_s=float(created_at_s),
    )


def parse_refusal(value: bytes) -> Refusal:
    """Read an error's value. An unknown code counts as UNKNOWN; broken UTF-8 is shown as such."""
    _check_number("error length", len(value), 1, ERROR_VALUE_LENGTH_MAX)
    return Refusal(code=_refusal_code(value[0]), message=value[1:].decode("utf-8", "replace"))


# --- the parent's side ----------------------------------------------------------------------------


def request_value_length(header: PacketHeader) -> int:
    """How many bytes to read after a request's header. ProtocolError if it starts no request."""
    _request_tag(header.tag)
    _check_number("request length", header.length, REQUEST_VALUE_LENGTH, REQUEST_VALUE_LENGTH)
    return REQUEST_VALUE_LENGTH


def greeting_value_length(header: PacketHeader) -> int:
    """How many bytes to read after a greeting's header."""
    _check_number("greeting length", header.length, 1, HOST_ID_LENGTH_MAX)
    return header.length


def parse_greeting(value: bytes) -> Greeting:
    """Read a greeting's value; broken UTF-8 is shown as such."""
    _check_number("greeting length", len(value), 1, HOST_ID_LENGTH_MAX)
    return Greeting(host_id=value.decode("utf-8", "replace"))


def parse_request(header: PacketHeader, value: bytes) -> PieceRequest:
    """Read a request's value."""
    tag = _request_tag(header.tag)
    _check_number("request length", len(value), REQUEST_VALUE_LENGTH, REQUEST_VALUE_LENGTH)
    task_id, number = _REQUEST.unpack(value)
    # It goes into file names and logs: letters and digits only, though Vortex would take more.
    if not task_id.isalnum():
        raise ProtocolError(f"task id {task_id!r} is not made of letters and digits")
    return PieceRequest(task_id=task_id.decode("ascii"), number=number, tag=tag)


def encode_content_head(request: PieceRequest, piece: Piece, *, packet_id: int = 0) -> bytes:
    """Write all that stands before a piece's bytes: header, M and metadata, for one write.

    Times are cut to whole seconds, as the wire has them. ProtocolError if a field does not fit.
    """
    metadata = encode_metadata(piece)
    length = PREFIX_LENGTH + len(metadata)
    header = _HEADER.pack(packet_id & 0xFF, request.tag.answer, length)
    return header + _PREFIX.pack(len(metadata)) + metadata


def encode_metadata(piece: Piece) -> bytes:
    """Write a piece's facts."""
    digest, parent_id = piece.digest.encode(), piece.parent_id.encode()
    _check_number("digest length", len(digest), 0, DIGEST_LENGTH_MAX)
    _check_number("parent id length", len(parent_id), 0, PARENT_ID_LENGTH_MAX)
    _check_number("piece number", piece.number, 0, PIECE_NUMBER_MAX)
    _check_number("piece length", piece.length, 0, CONTENT_LENGTH_MAX)
    _check_number("offset", piece.offset, 0, OFFSET_MAX)
    return b"".join(
        (
            _META_HEAD.pack(piece.number, piece.offset, piece.length),
            _PREFIX.pack(len(digest)),
            digest,
            _PREFIX.pack(len(parent_id)),
            parent_id,
            _META_TAIL.pack(
                piece.traffic_type,
                min(max(int(piece.cost_s), 0), _I64_MAX),
                min(max(int(piece.created_at_s), 0), _I64_MAX),
            ),
        )
    )


def given_to_others(numbers: Iterable[int]) -> Refusal:
    """The answer to an exclusive request: all these go to somebody else."""
    named = itertools.islice(numbers, GIVEN_MAX)
    return Refusal(code=RefusalCode.GIVEN, message=" ".join(map(str, named)))


def encode_refusal(refusal: Refusal, *, packet_id: int = 0) -> bytes:
    """Write an error packet; a longer message is cut."""
    message = refusal.message.encode("utf-8", "replace")[:ERROR_MESSAGE_LENGTH_MAX]
    # The cut may fall inside a character.
    message = message.decode("utf-8", "ignore").encode()
    header = _HEADER.pack(packet_id & 0xFF, Tag.ERROR, 1 + len(message))
    return header + bytes((refusal.code,)) + message


def _request_tag(tag: Tag) -> RequestTag:
    try:
        return RequestTag(tag)
    except ValueError:
        raise ProtocolError(f"packet {tag.name} asks for no piece that is served") from None


def _numbers_in(message: str) -> tuple[int, ...]:
    """What GIVEN names. Whatever is no piece number there is passed over: nobody asks for it."""
    words = message.split(" ", GIVEN_MAX)[:GIVEN_MAX]
    return tuple(int(word) for word in words if _NUMBER.fullmatch(word))


def _refusal_code(value: int) -> RefusalCode:
    try:
        return RefusalCode(value)
    except ValueError:
        return RefusalCode.UNKNOWN


def _traffic_type(value: int) -> TrafficType:
    try:
        return TrafficType(value)
    except ValueError:
        return TrafficType.REMOTE_PEER


def _take_text(data: bytes, at: int, what: str, length_max: int) -> tuple[str, int]:
    """Read a length and as many bytes of UTF-8; return the text and where it ends."""
    if len(data) - at < PREFIX_LENGTH:
        raise ProtocolError(f"metadata ends before its {what}")
    (length,) = _PREFIX.unpack_from(data, at)
    start = at + PREFIX_LENGTH
    _check_number(f"{what} length", length, 0, min(length_max, len(data) - start))
    try:
        return data[start : start + length].decode(), start + length
    except UnicodeDecodeError:
        raise ProtocolError(f"{what} is not UTF-8") from None


def _check_number(what: str, number: int, low: int, high: int) -> None:
    if not low <= number <= high:
        allowed = f"{low}" if low == high else f"{low} to {high}"
        raise ProtocolError(f"{what} {number} is out of bounds: {allowed} is allowed")
