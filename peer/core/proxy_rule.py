"""Where a request to the proxy goes: through the swarm, straight to its origin, or into a tunnel.

Three forms of request, as clients send them (RFC 9112 §3.2):

- absolute-form, `GET http://registry.test/v2/... HTTP/1.1`: forward proxy, asks for that URL;
- origin-form, `GET /v2/... HTTP/1.1`: registry mirror. The upstream is the header
  X-Dragonfly-Registry, else the query parameter `ns` (containerd's name of the registry it means),
  else the configured one. `ns` is addressed to mirrors and is not passed on;
- authority-form, `CONNECT registry.test:443 HTTP/1.1`: a tunnel, or, for hosts that the operator
  named, an interception: what comes inside is asked for by https (`absolute`).

The first rule whose pattern is found in the URL (without query and fragment) applies, and may
rewrite the URL. A GET goes through the swarm if a rule matches or X-Dragonfly-Use-P2P says so; all
else (HEAD, pushes, manifests, tokens) goes straight. Rewriting applies to every method, so that
HEAD and GET of one blob ask the same origin. A GET with a body is not about shared content:
straight.

Pure: nothing is opened, resolved or logged here.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection
from typing import ClassVar, Final

from odonata.errors import CallerError, ForbiddenError, SettingsError
from odonata.ids import DEFAULT_FILTERED_QUERY_PARAMS, TASK_ID_LENGTH, blob_digest_task_id
from odonata.image.reference import HUB_HOST, HUB_NAME
from odonata.pattern import Pattern
from odonata.url import DEFAULT_PORTS, Url, parse_query, parse_url
from odonata.wire.message import Download, Value
from peer.core.proxy_header import (
    HeaderList,
    Wishes,
    check_output_path,
    download_header,
    parse_wishes,
    passed_through,
    value_of,
    via,
)
from peer.core.proxy_range import RangeWish, parse_range, parse_ranges

# Dragonfly's default of the proxy: LEVEL6, the most urgent.
DEFAULT_PRIORITY: Final = 6

_AUTHORITY: Final = re.compile(r"[^\s/?#@\\]+")
_CONNECT_TARGET: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s/?#@\\:\[\]]+):([0-9]{1,5})")

Address = tuple[str, int]
"""Host (a name or an IP literal without brackets) and port."""


class LoopError(CallerError):
    """The request would come back to this proxy."""

    code = "loop"
    http_status: ClassVar[int] = 508


class ProxyRule(Value, frozen=True, kw_only=True):
    """URLs with `regex` in them go through the swarm, or straight if `direct`.

    `use_tls`: ask by https although the client said http. `redirect`: ask this host[:port] instead.
    """

    regex: str
    use_tls: bool = False
    redirect: str = ""
    filtered_query_params: tuple[str, ...] = ()
    direct: bool = False


class AllowedHost(Value, frozen=True, kw_only=True):
    """Hosts with `regex` in their name or in host:port; with `ports`, at these alone."""

    regex: str
    ports: tuple[int, ...] = ()


class ProxyPolicy(Value, frozen=True, kw_only=True):
    """All that decides about a request. `output_roots`: folders for X-Dragonfly-Output-Path.

    A blob of an image is one task whichever repository it is asked from, if its digest names the
    task; Dragonfly's peers agree only if they have the same switch on.
    """

    rules: tuple[ProxyRule, ...] = ()
    registry_mirror: str = "https://index.docker.io"
    enable_task_id_based_blob_digest: bool = True
    filtered_query_params: tuple[str, ...] = DEFAULT_FILTERED_QUERY_PARAMS
    disable_back_to_source: bool = False
    prefetch: bool = False
    output_roots: tuple[str, ...] = ()
    intercept_hosts: tuple[str, ...] = ()
    """Patterns of hosts, with or without their port, whose CONNECT is opened."""
    allowed: tuple[AllowedHost, ...] = ()
    """Origins that clients may ask for, the mirror's upstream among them; none: all."""


class RequestHead(Value, frozen=True, kw_only=True):
    """Request line and headers, as they came."""

    method: str
    target: str
    headers: HeaderList = ()
    intercepted: bool = False
    """It came inside a tunnel that was opened; who may use the proxy, its CONNECT has told."""

    @property
    def has_body(self) -> bool:
        length = value_of(self.headers, "content-length")
        chunked = value_of(self.headers, "transfer-encoding") is not None
        return chunked or (length is not None and length.strip("0") != "")


class Tunnel(Value, frozen=True, kw_only=True, tag=True):
    """Connect to `host`:`port` and pass bytes."""

    host: str
    port: int


class Intercept(Value, frozen=True, kw_only=True, tag=True):
    """Take the server's place: open the client's TLS and read the requests inside."""

    host: str
    port: int


class Direct(Value, frozen=True, kw_only=True, tag=True):
    """Ask the origin at `url` and pass its answer."""

    url: str


class Swarm(Value, frozen=True, kw_only=True, tag=True):
    """Have the hub bring `download`; answer with the wanted part, or with several `parts`.

    `if_range` and `if_none_match` are the client's conditions on the answer's ETag.
    """

    download: Download
    wanted: RangeWish | None = None
    parts: tuple[RangeWish, ...] = ()
    if_range: str | None = None
    if_none_match: str | None = None


Route = Tunnel | Intercept | Direct | Swarm


class ProxyRouter:
    """Decides by a policy, whose patterns and addresses it checks once. `pseudonym`: see Via."""

    def __init__(self, policy: ProxyPolicy, *, pseudonym: str) -> None:
        self._policy = policy
        self._pseudonym = pseudonym
        self._rules = tuple((_compile(rule), rule) for rule in policy.rules)
        self._intercepted = tuple(
            _host_pattern("interceptHosts", text) for text in policy.intercept_hosts
        )
        self._allowed = tuple(
            (_host_pattern("allowList", one.regex), one.ports) for one in policy.allowed
        )
        _check_upstream("registry mirror", policy.registry_mirror, SettingsError)

    def route(self, head: RequestHead, own: Collection[Address] = ()) -> Route:
        """Where the request goes. `own`: the addresses this proxy is reached at.

        Errors: CallerError for what can't be understood, ForbiddenError, LoopError.
        """
        if passed_through(head.headers, self._pseudonym):
            raise LoopError(
                "this request came through this proxy before: its upstream leads back here; "
                "check the registry mirror's address and HTTP_PROXY of the daemons on the way"
            )
        if head.method == "CONNECT":
            host, port = _connect_address(head.target)
            _refuse_own(host, port, own)
            self._refuse_others(host, port)
            is_opened = self._is_intercepted(host, port)
            return (Intercept if is_opened else Tunnel)(host=host, port=port)
        wishes = parse_wishes(head.headers)
        rule, url = self._rewritten(_target_url(head.target, wishes, self._policy.registry_mirror))
        parsed = _parse_http_url(url)
        host, port = (parsed.host or "").strip("[]"), _port(parsed)
        _refuse_own(host, port, own)
        self._refuse_others(host, port)
        if not _goes_through_swarm(head, rule, wishes):
            return Direct(url=url)
        return self._swarm(head, url, rule, wishes)

    def _is_intercepted(self, host: str, port: int) -> bool:
        return any(_names(pattern, host, port) for pattern in self._intercepted)

    def _refuse_others(self, host: str, port: int) -> None:
        """ForbiddenError unless clients may ask for it."""
        # A name that ends in a dot is the same host to a resolver, so it is to us.
        plain = host.lower().rstrip(".")
        if self._allowed and not any(
            _names(pattern, plain, port) and (not ports or port in ports)
            for pattern, ports in self._allowed
        ):
            raise ForbiddenError(
                f"{host}:{port} is not among the hosts of proxy.allowList: "
                "whoever runs this proxy may add it there"
            )

    def _rewritten(self, url: str) -> tuple[ProxyRule | None, str]:
        plain = _without_query(url)
        rule = next((rule for pattern, rule in self._rules if pattern.search(plain)), None)
        return (None, url) if rule is None else (rule, _rewrite(url, rule))

    def _swarm(self, head: RequestHead, url: str, rule: ProxyRule | None, wishes: Wishes) -> Swarm:
        policy = self._policy
        wanted = parse_range(value_of(head.headers, "range"))
        if_range = value_of(head.headers, "if-range")
        prefetch = policy.prefetch if wishes.prefetch is None else wishes.prefetch
        by_rule = (rule.filtered_query_params if rule else ()) or policy.filtered_query_params
        by_request = wishes.filtered_query_params
        path = wishes.output_path
        download = Download(
            url=url,
            # With If-Range only the answer tells whether a part or everything will be sent.
            range=wanted.closed if wanted and if_range is None else None,
            tag=wishes.tag,
            application=wishes.application,
            priority=DEFAULT_PRIORITY if wishes.priority is None else wishes.priority,
            filtered_query_params=by_rule if by_request is None else by_request,
            request_header={
                **download_header(head.headers),
                "Via": via(head.headers, self._pseudonym),
            },
            piece_length=wishes.piece_length,
            output_path=None if path is None else check_output_path(path, policy.output_roots),
            force_hard_link=wishes.force_hard_link,
            disable_back_to_source=policy.disable_back_to_source,
            prefetch=prefetch and wanted is not None,
            content_for_calculating_task_id=wishes.content_for_calculating_task_id,
            enable_task_id_based_blob_digest=self._by_blob_digest(url, wishes),
        )
        return Swarm(
            download=download,
            wanted=wanted,
            parts=parse_ranges(value_of(head.headers, "range")),
            if_range=if_range,
            if_none_match=value_of(head.headers, "if-none-match"),
        )

    def _by_blob_digest(self, url: str, wishes: Wishes) -> bool:
        wish = wishes.enable_task_id_based_blob_digest
        if not (self._policy.enable_task_id_based_blob_digest if wish is None else wish):
            return False
        blob_id = blob_digest_task_id(url)
        return blob_id is not None and len(blob_id) == TASK_ID_LENGTH


def absolute(target: str, host: str, port: int) -> str:
    """What a request inside an intercepted tunnel to `host`:`port` asks for."""
    if not target.startswith("/"):
        return target
    name = f"[{host}]" if ":" in host else host
    return f"https://{name}{'' if port == DEFAULT_PORTS['https'] else f':{port}'}{target}"


def loggable_url(url: str) -> str:
    """`url` without query, fragment and user, where signatures and passwords live."""
    plain = _without_query(url)
    return re.sub(r"://[^/@]*@", "://", plain) if "@" in plain else plain


def _without_query(url: str) -> str:
    """Nor fragment."""
    return url.partition("?")[0].partition("#")[0]


def _goes_through_swarm(head: RequestHead, rule: ProxyRule | None, wishes: Wishes) -> bool:
    if head.method != "GET" or head.has_body:
        return False
    return wishes.use_p2p or (rule is not None and not rule.direct)


def _target_url(target: str, wishes: Wishes, registry_mirror: str) -> str:
    target = target.partition("#")[0]
    if not target.startswith("/"):
        return target
    path, _, query = target.partition("?")
    upstream = _upstream(wishes, query) or registry_mirror
    kept = "&".join(pair for pair in query.split("&") if pair.partition("=")[0] != "ns")
    return f"{upstream.rstrip('/')}{path}{'?' if kept else ''}{kept}"


def _upstream(wishes: Wishes, query: str) -> str | None:
    if wishes.registry is not None:
        registry = wishes.registry if "://" in wishes.registry else f"https://{wishes.registry}"
        _check_upstream("X-Dragonfly-Registry", registry, CallerError)
        return registry
    namespace = next((value for name, value in parse_query(query) if name == "ns"), None)
    if not namespace:
        return None
    if not _AUTHORITY.fullmatch(namespace):
        raise CallerError(f"query parameter ns is {namespace[:80]!r}: write a registry's host")
    host = HUB_HOST if namespace == HUB_NAME else namespace
    upstream = f"https://{host}"
    _check_upstream("query parameter ns", upstream, CallerError)
    # containerd speaks plain HTTP to a registry on its own host, so we do too.
    name = (parse_url(upstream).host or "").strip("[]")
    return f"http://{host}" if _is_loopback(name) else upstream


def _check_upstream(what: str, upstream: str, error: type[CallerError]) -> None:
    try:
        parsed = parse_url(upstream)
    except CallerError as cause:
        raise error(f"{what}: {cause.detail}") from None
    wrong = parsed.scheme not in {"http", "https"} or not parsed.host or parsed.username
    if wrong or parsed.query is not None or parsed.fragment is not None:
        raise error(
            f"{what} is {loggable_url(upstream)[:200]!r}: write http(s)://host[:port][/path], "
            "without user and query"
        )


def _parse_http_url(url: str) -> Url:
    parsed = parse_url(url)
    if parsed.scheme not in {"http", "https"} or not parsed.host:
        raise CallerError(
            f"the request asks for {loggable_url(url)[:200]!r}: this proxy passes http:// and "
            "https:// URLs, and paths of its registry mirror"
        )
    if parsed.username or parsed.password:
        raise CallerError(
            f"{loggable_url(url)[:200]!r} comes with a user: send an Authorization header instead"
        )
    return parsed


def _port(parsed: Url) -> int:
    return DEFAULT_PORTS[parsed.scheme] if parsed.port is None else parsed.port


def _connect_address(target: str) -> Address:
    match = _CONNECT_TARGET.fullmatch(target)
    if match is None or not 0 < int(match[2]) < 65536:
        raise CallerError(f"CONNECT {target[:200]!r}: write host:port")
    return match[1].strip("[]"), int(match[2])


def _refuse_own(host: str, port: int, own: Collection[Address]) -> None:
    for own_host, own_port in own:
        if port == own_port and _same_host(host, own_host):
            raise LoopError(
                f"the request asks this proxy for {host}:{port}, which is this proxy itself; "
                "name the server behind it, or set the registry mirror's address"
            )


def _same_host(host: str, own_host: str) -> bool:
    """Whether a connection to `host` reaches what listens on `own_host`, by their text alone."""
    if host.lower() == own_host.lower():
        return True
    listens_on_loopback = _is_loopback(own_host) or _is_unspecified(own_host)
    return listens_on_loopback and (_is_loopback(host) or _is_unspecified(host))


def _is_loopback(host: str) -> bool:
    if host.lower().rstrip(".") == "localhost" or host.lower().endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_unspecified(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def _names(pattern: Pattern, host: str, port: int) -> bool:
    return pattern.found_in(host) or pattern.found_in(f"{host}:{port}")


def _host_pattern(field: str, text: str) -> Pattern:
    try:
        return Pattern(text)
    except CallerError as cause:
        raise SettingsError(f"proxy.{field}: {cause.detail}") from None


def _compile(rule: ProxyRule) -> re.Pattern[str]:
    if rule.redirect and not _AUTHORITY.fullmatch(rule.redirect):
        raise SettingsError(
            f"proxy rule {rule.regex!r}: redirect is {rule.redirect!r}: write host or host:port"
        )
    try:
        return re.compile(rule.regex)
    except re.error as cause:
        raise SettingsError(
            f"proxy rule {rule.regex!r} is not a regular expression: {cause}"
        ) from None


def _rewrite(url: str, rule: ProxyRule) -> str:
    if not (rule.redirect or rule.use_tls):
        return url
    scheme, mark, rest = url.partition("://")
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    tail = rest[len(authority) :]
    if rule.redirect:
        authority = rule.redirect
    if rule.use_tls and scheme.lower() == "http":
        scheme, authority = "https", authority.removesuffix(":80")
    return f"{scheme}{mark}{authority}{tail}"
