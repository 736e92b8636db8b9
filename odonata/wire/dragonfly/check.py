"""Checks of what arrives on the wire: the rules of Dragonfly's API, which its stubs do not carry.

Each check raises CallerError with the field, the value and the fix. Values that may hold a secret
(the query and the user part of a URL) are left out of the message.
"""

from __future__ import annotations

import ipaddress
import re

from odonata.errors import CallerError

# Stock ids are a digest (64 characters) or "<ip>-<hostname>-<uuid>-seed" (below 400); they become
# keys of our tables, so a longer one is a mistake or an attack on memory.
MAX_ID_CHARACTERS = 1024

# Dragonfly's rule for Download.piece_length: at least 4 MiB when it is set.
MIN_PIECE_LENGTH_BYTES = 4 * 1024 * 1024

# Dragonfly's scheduler holds -1 for a length nobody has told it yet, and writes it into the
# unsigned field as it is. No content has a length of 2^63 or more, so all of that range reads as
# unknown.
FIRST_IMPOSSIBLE_LENGTH = 2**63

# Enough of a value to recognise it in a message; the rest would only bloat logs and trailers.
_SHOWN_CHARACTERS = 120

_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[^\s\x00-\x1f\x7f]+")
_USER_PART = re.compile(r"//[^/@]*@")
_DIGEST = re.compile(r"[a-z0-9]+:[0-9A-Fa-f]+")


def shown(value: str) -> str:
    """`value`, quoted and cut to a length that suits a message."""
    if len(value) > _SHOWN_CHARACTERS:
        return repr(value[:_SHOWN_CHARACTERS]) + "..."
    return repr(value)


def shown_url(url: str) -> str:
    """`url` as `shown`, without user part and query: both may hold credentials."""
    return shown(_USER_PART.sub("//", re.split(r"[?#]", url, maxsplit=1)[0], count=1))


def require_id(field: str, value: str) -> str:
    """Return `value` if it can be an id (1 to 1024 characters), else raise CallerError."""
    if not value:
        raise CallerError(f"{field} is empty: every request names it, set {field}")
    if len(value) > MAX_ID_CHARACTERS:
        raise CallerError(
            f"{field} {shown(value)} has {len(value)} characters: use at most {MAX_ID_CHARACTERS}"
        )
    return value


def require_url(field: str, value: str) -> str:
    """Return `value` if it is an absolute URI, else raise CallerError."""
    if _URI.fullmatch(value) is None:
        raise CallerError(
            f"{field} {shown_url(value)} is not an absolute URI: write it with its scheme and "
            "without blanks, like https://example.org/file"
        )
    return value


def require_piece_length(field: str, value: int) -> int:
    """Return `value` (bytes) if it is 4 MiB or more, else raise CallerError."""
    if value < MIN_PIECE_LENGTH_BYTES:
        raise CallerError(
            f"{field} {value} is too small: use at least {MIN_PIECE_LENGTH_BYTES} bytes (4 MiB), "
            "or leave it unset so that it follows from the content length"
        )
    return value


def require_digest(field: str, value: str) -> str:
    """Return `value` if it reads `<algorithm>:<hex>` or is empty, else raise CallerError."""
    if value and _DIGEST.fullmatch(value) is None:
        raise CallerError(
            f"{field} {shown(value)} is not a digest: write <algorithm>:<hex>, like sha256:9f86..."
        )
    return value


def require_port(field: str, value: int) -> int:
    """Return `value` if it is a TCP port, else raise CallerError."""
    if not 0 < value <= 65535:
        raise CallerError(f"{field} {value} is not a TCP port: use 1 to 65535")
    return value


def require_ip_literal(field: str, value: str) -> str:
    """Return `value` if others can connect to it as it stands: an IP address, no name, no wildcard.

    Rust peers give up a whole round of parents when one of them has a name for an address.
    """
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        raise CallerError(
            f"{field} {shown(value)} is not an IP address: set host.ip of that daemon to the "
            "address others reach it at (names and brackets are not understood by peers)"
        ) from None
    if address.is_unspecified:
        raise CallerError(
            f"{field} {shown(value)} is the wildcard address, which nobody can connect to: set "
            "host.ip of that daemon to the address others reach it at"
        )
    return value
