"""URLs as the WHATWG URL Standard reads and writes them.

Task ids hash the text of a URL, so the same address must always become the same text as in
Dragonfly's clients, which follow that standard (https://url.spec.whatwg.org/). The standard library
follows RFC 3986 instead: it keeps default ports, `/a/../b` and unescaped spaces.
Only what a peer can be asked for is here: absolute URLs, no base, no relative references. Domain
names go through NFKC, lower case and Punycode rather than the full UTS 46 tables, which agrees for
every name that can be registered. Windows drive letters in `file:` get no special treatment.
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from typing import Final
from urllib.parse import unquote_to_bytes

import msgspec

from odonata.errors import CallerError

# Longer than any server accepts (nginx and Apache stop at 8 KiB); presigned URLs reach 2-4 KiB.
URL_LENGTH_MAX: Final = 64 * 1024

DEFAULT_PORTS: Final = {"http": 80, "https": 443, "ws": 80, "wss": 443, "ftp": 21}
SPECIAL_SCHEMES: Final = frozenset({*DEFAULT_PORTS, "file"})

_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*):")
_C0_AND_SPACE: Final = "".join(map(chr, range(0x21)))
_FRAGMENT_SET: Final = ' "<>`'
_QUERY_SET: Final = ' "#<>'
_SPECIAL_QUERY_SET: Final = _QUERY_SET + "'"
_PATH_SET: Final = _QUERY_SET + "?`{}"
_USERINFO_SET: Final = _PATH_SET + "/:;=@[\\]^|"
_FORBIDDEN_HOST: Final = frozenset("\x00\t\n\r #/:<>?@[\\]^|")
_FORBIDDEN_DOMAIN: Final = _FORBIDDEN_HOST | frozenset("%\x7f") | frozenset(map(chr, range(0x20)))
# What is left where bytes were no UTF-8; Punycode would hide it.
_NO_TEXT: Final = frozenset("\ufffd")
_SINGLE_DOT: Final = frozenset({".", "%2e"})
_DOUBLE_DOT: Final = frozenset({"..", ".%2e", "%2e.", "%2e%2e"})
# Far more digits than any address has, so that an absurd number costs nothing to convert.
_IPV4_HEX: Final = re.compile(r"0[xX][0-9A-Fa-f]{0,64}")
_IPV4_OCTAL: Final = re.compile(r"0[0-7]{1,64}")
_IPV4_DECIMAL: Final = re.compile(r"0|[1-9][0-9]{0,64}")
# Most URLs by far are written as the standard writes them: then parsing is cutting. The host is an
# address, or its last label begins with a letter; no segment of the path can be a dot.
_BYTE: Final = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_PLAIN: Final = re.compile(
    rf"(https?)://((?:{_BYTE}\.){{3}}{_BYTE}|(?:[a-z0-9-]+\.)*[a-z][a-z0-9-]*)"
    r"(?::([1-9][0-9]{0,4}))?"
    r"((?:/(?:(?!%2[eE])[!$%&()*+,:;=@_~0-9A-Za-z-][!$%&()*+,.:;=@_~0-9A-Za-z-]*)?)*)"
    r"(?:\?([!$%&()*+,./:;=?@_~0-9A-Za-z-]*))?"
)
_FORM_SAFE: Final = frozenset(b"*-._0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")


class Url(msgspec.Struct, frozen=True, kw_only=True):
    """A parsed URL. `host` None: there is no `//`; `query` and `fragment` None: no `?`, no `#`."""

    scheme: str
    username: str = ""
    password: str = ""
    host: str | None = None
    port: int | None = None
    path: str = ""
    query: str | None = None
    fragment: str | None = None

    def without_query(self) -> str:
        """Scheme, authority and path."""
        text = [self.scheme, ":"]
        if self.host is not None:
            password = f":{self.password}" if self.password else ""
            login = f"{self.username}{password}@" if self.username or password else ""
            port = f":{self.port}" if self.port is not None else ""
            text += ["//", login, self.host, port]
        elif self.path.startswith("//"):
            text.append("/.")
        text.append(self.path)
        return "".join(text)

    def __str__(self) -> str:
        query = "" if self.query is None else f"?{self.query}"
        fragment = "" if self.fragment is None else f"#{self.fragment}"
        return f"{self.without_query()}{query}{fragment}"


def parse_url(text: str) -> Url:
    """Parse an absolute URL. CallerError (without the URL's secrets) if it is none."""
    if len(text) > URL_LENGTH_MAX:
        raise CallerError(f"url is {len(text)} characters long: at most {URL_LENGTH_MAX} are read")
    plain = _PLAIN.fullmatch(text)
    if plain is not None:
        return _plain_url(*plain.groups())
    text = text.strip(_C0_AND_SPACE)
    text = text.replace("\t", "").replace("\n", "").replace("\r", "")
    scheme_match = _SCHEME.match(text)
    if scheme_match is None:
        raise CallerError("url has no scheme: give a whole URL such as https://example.com/file")
    scheme = scheme_match[1].lower()
    rest, fragment = _cut(text[scheme_match.end() :], "#")
    rest, query = _cut(rest, "?")
    special = scheme in SPECIAL_SCHEMES
    query_set = _SPECIAL_QUERY_SET if special else _QUERY_SET
    authority, path, is_opaque = _split_authority(scheme, rest)
    username, password, host, port = _parse_authority(scheme, authority)
    return Url(
        scheme=scheme,
        username=username,
        password=password,
        host=host,
        port=port,
        path=_escape(path, "") if is_opaque else _parse_path(path, special),
        query=None if query is None else _escape(query, query_set),
        fragment=None if fragment is None else _escape(fragment, _FRAGMENT_SET),
    )


def parse_query(query: str) -> list[tuple[str, str]]:
    """Pairs of an application/x-www-form-urlencoded text, in order."""
    pairs: list[tuple[str, str]] = []
    for part in query.split("&"):
        if part:
            name, _, value = part.partition("=")
            pairs.append((_form_unescape(name), _form_unescape(value)))
    return pairs


def format_query(pairs: list[tuple[str, str]]) -> str:
    """Write pairs as application/x-www-form-urlencoded, in order."""
    return "&".join(f"{_form_escape(name)}={_form_escape(value)}" for name, value in pairs)


def _plain_url(scheme: str, host: str, port: str | None, path: str, query: str | None) -> Url:
    number = None if port is None else _parse_port(port)
    if number == DEFAULT_PORTS[scheme]:
        number = None
    return Url(scheme=scheme, host=host, port=number, path=path or "/", query=query)


def _cut(text: str, mark: str) -> tuple[str, str | None]:
    before, found, after = text.partition(mark)
    return before, after if found else None


def _escape(text: str, unsafe: str) -> str:
    """Percent-encode controls, everything past ASCII, and `unsafe`; existing escapes stay."""
    return "".join(
        c if " " <= c <= "~" and c not in unsafe else "".join(f"%{byte:02X}" for byte in _utf8(c))
        for c in text
    )


def _utf8(text: str) -> bytes:
    # A lone surrogate is no character: the standard's conversion to scalar values makes it U+FFFD.
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()


def _form_unescape(text: str) -> str:
    return unquote_to_bytes(text.replace("+", " ")).decode("utf-8", "replace")


def _form_escape(text: str) -> str:
    return "".join(
        chr(byte) if byte in _FORM_SAFE else "+" if byte == 0x20 else f"%{byte:02X}"
        for byte in _utf8(text)
    )


def _split_authority(scheme: str, rest: str) -> tuple[str | None, str, bool]:
    """Split what follows the scheme into authority (None: absent), path, and "path is opaque"."""
    if scheme in SPECIAL_SCHEMES:
        rest = rest.replace("\\", "/")
        if scheme == "file":
            if not rest.startswith("//"):
                return "", rest, False
            rest = rest[2:]
        else:
            rest = rest.lstrip("/")
    elif rest.startswith("//"):
        rest = rest[2:]
    else:
        return None, rest, not rest.startswith("/")
    authority, slash, path = rest.partition("/")
    return authority, slash + path, False


def _parse_authority(scheme: str, authority: str | None) -> tuple[str, str, str | None, int | None]:
    if authority is None:
        return "", "", None, None
    login, has_login, host_and_port = authority.rpartition("@")
    user, _, password = login.partition(":")
    host_text, port_text = _split_port(host_and_port)
    if not host_text and (has_login or port_text or scheme in DEFAULT_PORTS):
        raise CallerError(f"url has no host: write {scheme}://HOST/…")
    if scheme == "file" and (has_login or port_text):
        raise CallerError("a file url takes no user and no port: write file:///PATH")
    host = _parse_host(scheme, host_text)
    if scheme == "file" and host == "localhost":
        host = ""
    port = _parse_port(port_text)
    if port == DEFAULT_PORTS.get(scheme):
        port = None
    return _escape(user, _USERINFO_SET), _escape(password, _USERINFO_SET), host, port


def _split_port(host_and_port: str) -> tuple[str, str]:
    bracket = host_and_port.rfind("]")
    colon = host_and_port.find(":", bracket + 1)
    if colon < 0:
        return host_and_port, ""
    # Keep the colon, so that `:80` without a host is still seen as a port.
    return host_and_port[:colon], host_and_port[colon:]


def _parse_port(text: str) -> int | None:
    digits = text.removeprefix(":")
    if not digits:
        return None
    if not (digits.isascii() and digits.isdigit() and int(digits[-6:]) == int(digits)):
        raise CallerError(f"url has port {digits[:20]!r}: give a number from 0 to 65535")
    port = int(digits)
    if port > 65535:
        raise CallerError(f"url has port {port}: give a number from 0 to 65535")
    return port


def _parse_host(scheme: str, host: str) -> str:
    if host.startswith("["):
        return _parse_ipv6(host)
    if scheme not in SPECIAL_SCHEMES:
        _refuse_characters(host, _FORBIDDEN_HOST)
        return _escape(host, "")
    if not host:
        return ""
    text = unquote_to_bytes(_utf8(host)).decode("utf-8", "replace")
    _refuse_characters(text, _NO_TEXT)
    domain = _domain_to_ascii(text)
    if not domain:
        raise CallerError(f"url has host {host[:80]!r}, which is invisible: write a host name")
    _refuse_characters(domain, _FORBIDDEN_DOMAIN)
    return _parse_ipv4(domain) if _ends_in_number(domain) else domain


def _refuse_characters(host: str, forbidden: frozenset[str]) -> None:
    bad = next((c for c in host if c in forbidden), None)
    if bad is not None:
        raise CallerError(f"url has host {host[:80]!r}: {bad!r} is not allowed in a host name")


def _parse_ipv6(host: str) -> str:
    # Python reads a zone ("%eth0") as part of an address; the standard has none.
    text = host[1:-1] if host.endswith("]") and "%" not in host else ""
    try:
        address = ipaddress.IPv6Address(text)
    except ValueError:
        raise CallerError(
            f"url has host {host[:80]!r}: write an IPv6 address as [2001:db8::1]"
        ) from None
    return f"[{_compress_ipv6(address)}]"


def _compress_ipv6(address: ipaddress.IPv6Address) -> str:
    if address.ipv4_mapped is None:
        return address.compressed
    # Written in words, as the standard does; newer Pythons write these as dotted quads.
    value = int(address.ipv4_mapped)
    return f"::ffff:{value >> 16:x}:{value & 0xFFFF:x}"


def _domain_to_ascii(domain: str) -> str:
    if domain.isascii():
        return domain.lower()
    # Twice, because NFKC makes new capitals (from "™", for one) and lower case new sequences.
    for _ in range(2):
        domain = unicodedata.normalize("NFKC", domain).lower()
    domain = domain.replace("\u3002", ".").replace("\xad", "")
    labels = (
        label if label.isascii() else f"xn--{label.encode('punycode').decode('ascii')}"
        for label in domain.split(".")
    )
    return ".".join(labels)


def _ends_in_number(domain: str) -> bool:
    labels = domain.split(".")
    if labels[-1] == "" and len(labels) > 1:
        labels.pop()
    last = labels[-1]
    return bool(last) and (last.isdigit() or re.fullmatch(r"0[xX][0-9A-Fa-f]*", last) is not None)


def _parse_ipv4(domain: str) -> str:
    """Read the standard's liberal IPv4 forms (hex, octal, fewer parts) and write a dotted quad."""
    numbers = [_ipv4_number(part) for part in domain.removesuffix(".").split(".")[:5]]
    *heads, last = numbers
    fits = len(numbers) <= 4 and -1 not in numbers and all(n <= 0xFF for n in heads)
    if not fits or last >= 256 ** (5 - len(numbers)):
        raise CallerError(
            f"url has host {domain[:80]!r}, which ends in a number but is no IPv4 address"
        )
    value = last + sum(number << 8 * (3 - place) for place, number in enumerate(heads))
    return str(ipaddress.IPv4Address(value))


def _ipv4_number(text: str) -> int:
    """The value of one part, -1 if it is none. Octal with a leading 0, hex with 0x."""
    if _IPV4_HEX.fullmatch(text):
        return int(text[2:] or "0", 16)
    if _IPV4_OCTAL.fullmatch(text):
        return int(text, 8)
    return int(text) if _IPV4_DECIMAL.fullmatch(text) else -1


def _parse_path(path: str, special: bool) -> str:
    """Escape, and resolve `.` and `..`."""
    if not path:
        return "/" if special else ""
    segments: list[str] = []
    parts = path[1:].split("/") if path.startswith("/") else path.split("/")
    for index, part in enumerate(parts):
        is_last = index == len(parts) - 1
        kind = part.lower()
        if kind in _DOUBLE_DOT:
            del segments[-1:]
            if is_last:
                segments.append("")
        elif kind in _SINGLE_DOT:
            if is_last:
                segments.append("")
        else:
            segments.append(_escape(part, _PATH_SET))
    return "/" + "/".join(segments)
