"""Tables of requests: which way each goes and what it asks for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from odonata.errors import CallerError, ForbiddenError, OdonataError, SettingsError
from odonata.ids import DEFAULT_FILTERED_QUERY_PARAMS, task_id_of
from odonata.wire.message import ByteRange
from peer.core.proxy_range import RangeWish
from peer.core.proxy_rule import (
    AllowedHost,
    Direct,
    Intercept,
    LoopError,
    ProxyPolicy,
    ProxyRouter,
    ProxyRule,
    RequestHead,
    Swarm,
    Tunnel,
    absolute,
    loggable_url,
)

HEX = "a" * 64
BLOB = f"/v2/lib/rand/blobs/sha256:{HEX}"
BLOBS = ProxyRule(regex="blobs/sha256.*")
POLICY = ProxyPolicy(rules=(BLOBS,), registry_mirror="https://mirror.test")


def head(target: str, method: str = "GET", **headers: str) -> RequestHead:
    pairs = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return RequestHead(method=method, target=target, headers=pairs)


def router(policy: ProxyPolicy = POLICY) -> ProxyRouter:
    return ProxyRouter(policy, pseudonym="me")


def swarm(request: RequestHead, policy: ProxyPolicy = POLICY) -> Swarm:
    route = router(policy).route(request)
    assert isinstance(route, Swarm), route
    return route


def asked_url(request: RequestHead, policy: ProxyPolicy = POLICY) -> str:
    route = router(policy).route(request)
    assert not isinstance(route, Tunnel | Intercept)
    return route.download.url if isinstance(route, Swarm) else route.url


# --- whom clients may ask for ---------------------------------------------------------------------

ALLOWED = (
    AllowedHost(regex=r"(^|\.)reg\.test$"),
    AllowedHost(regex=r"^files\.test$", ports=(80, 8443)),
    AllowedHost(regex=r"^odd\.test:99$"),
)


@pytest.mark.parametrize(
    ("request_head", "is_allowed"),
    [
        (head(f"http://reg.test{BLOB}"), True),
        (head("http://a.REG.test./v2/"), True),
        (head("http://areg.test/v2/"), False),
        (head("http://reg.test.evil.test/v2/"), False),
        (head("http://reg.test@evil.test/v2/"), False),
        (head("http://files.test/x"), True),
        (head("http://files.test:8080/x"), False),
        (head("https://files.test:8443/x"), True),
        (head("https://files.test/x"), False),
        (head("odd.test:99", "CONNECT"), True),
        (head("odd.test:98", "CONNECT"), False),
        (head("files.test:443", "CONNECT"), False),
        (head("reg.test:443", "CONNECT"), True),
        (head("evil.test:443", "CONNECT"), False),
        (head("/v2/x?ns=reg.test"), True),
        (head("/v2/x?ns=evil.test"), False),
        (head("/v2/x", X_Dragonfly_Registry="https://evil.test"), False),
        (head("/v2/x"), False),  # the mirror's own upstream is not there
    ],
)
def test_an_allow_list_holds_for_every_form_of_request(
    request_head: RequestHead, is_allowed: bool
) -> None:
    policy = replace(POLICY, allowed=ALLOWED)
    if is_allowed:
        router(policy).route(request_head)
    else:
        with pytest.raises(CallerError):
            router(policy).route(request_head)


def test_whom_a_rule_leads_elsewhere_must_be_allowed_to_go_there() -> None:
    to_elsewhere = ProxyRule(regex="blobs", redirect="elsewhere.test")
    policy = replace(POLICY, rules=(to_elsewhere,), allowed=ALLOWED)
    with pytest.raises(ForbiddenError, match=r"elsewhere\.test:80 is not among .*allowList"):
        router(policy).route(head(f"http://reg.test{BLOB}"))


def test_an_allow_list_that_is_no_pattern_is_named() -> None:
    with pytest.raises(SettingsError, match=r"proxy\.allowList"):
        router(replace(POLICY, allowed=(AllowedHost(regex="("),)))


# --- which way ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_head", "through_swarm"),
    [
        (head(f"http://r.test{BLOB}"), True),
        (head(BLOB), True),
        (head(f"{BLOB}?ns=docker.io"), True),
        (head(f"http://r.test{BLOB}", "HEAD"), False),
        (head(f"http://r.test{BLOB}", "DELETE"), False),
        (head(f"http://r.test{BLOB}", Content_Length="5"), False),
        (head(f"http://r.test{BLOB}", Content_Length="0"), True),
        (head(f"http://r.test{BLOB}", Transfer_Encoding="chunked"), False),
        (head("http://r.test/v2/lib/rand/manifests/v1"), False),
        (head("http://r.test/file?next=blobs/sha256:1"), False),
        (head("http://r.test/file"), False),
        (head("http://r.test/file", X_Dragonfly_Use_P2P="true"), True),
        (head("http://r.test/file", X_Dragonfly_Use_P2P="false"), False),
        (head(f"http://r.test{BLOB}", X_Dragonfly_Use_P2P="false"), True),
        (head("http://r.test/file", "POST", X_Dragonfly_Use_P2P="true"), False),
    ],
)
def test_p2p_or_direct(request_head: RequestHead, through_swarm: bool) -> None:
    assert isinstance(router().route(request_head), Swarm if through_swarm else Direct)


def test_without_rules_everything_is_direct() -> None:
    assert router(ProxyPolicy()).route(head(f"http://r.test{BLOB}")) == Direct(
        url=f"http://r.test{BLOB}"
    )


def test_the_first_matching_rule_decides() -> None:
    rules = (ProxyRule(regex=r"//private\.", direct=True), BLOBS)
    policy = ProxyPolicy(rules=rules)
    assert isinstance(router(policy).route(head(f"http://private.test{BLOB}")), Direct)
    assert isinstance(router(policy).route(head(f"http://public.test{BLOB}")), Swarm)


@pytest.mark.parametrize(
    ("rule", "url", "asked"),
    [
        (ProxyRule(regex="file", use_tls=True), "http://r.test/file", "https://r.test/file"),
        (ProxyRule(regex="file", use_tls=True), "http://r.test:80/file", "https://r.test/file"),
        (
            ProxyRule(regex="file", use_tls=True),
            "http://r.test:5000/file?a=b",
            "https://r.test:5000/file?a=b",
        ),
        (ProxyRule(regex="file", use_tls=True), "https://r.test/file", "https://r.test/file"),
        (
            ProxyRule(regex="file", redirect="other.test:5000"),
            "http://r.test:80/file?a=//b",
            "http://other.test:5000/file?a=//b",
        ),
        (ProxyRule(regex="nothing", redirect="other.test"), "http://r.test/file", None),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_rule_rewrites_the_url(rule: ProxyRule, url: str, asked: str | None, method: str) -> None:
    assert asked_url(head(url, method), ProxyPolicy(rules=(rule,))) == (asked or url)


# --- mirror ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_head", "url"),
    [
        (head(BLOB), f"https://mirror.test{BLOB}"),
        (head("/v2/"), "https://mirror.test/v2/"),
        (head("/v2/?a=1&b=2"), "https://mirror.test/v2/?a=1&b=2"),
        (head(f"{BLOB}?ns=ghcr.io"), f"https://ghcr.io{BLOB}"),
        (head(f"{BLOB}?a=1&ns=ghcr.io&b=2"), f"https://ghcr.io{BLOB}?a=1&b=2"),
        (head(f"{BLOB}?ns=docker.io"), f"https://registry-1.docker.io{BLOB}"),
        (head(f"{BLOB}?ns=r.test%3A5000"), f"https://r.test:5000{BLOB}"),
        (head(f"{BLOB}?ns=localhost:5000"), f"http://localhost:5000{BLOB}"),
        (head(f"{BLOB}?ns=127.0.0.1:5000"), f"http://127.0.0.1:5000{BLOB}"),
        (head(f"{BLOB}?ns="), f"https://mirror.test{BLOB}"),
        (head(f"{BLOB}?ns=ghcr.io", X_Dragonfly_Registry="http://r.test"), f"http://r.test{BLOB}"),
        (head(BLOB, X_Dragonfly_Registry="http://r.test/"), f"http://r.test{BLOB}"),
        (head(BLOB, X_Dragonfly_Registry="http://r.test/hub"), f"http://r.test/hub{BLOB}"),
        (head(BLOB, X_Dragonfly_Registry="r.test:5000"), f"https://r.test:5000{BLOB}"),
        # An absolute URL names its server itself; its own ns is not ours to read.
        (
            head(f"http://r.test{BLOB}?ns=x", X_Dragonfly_Registry="http://no.test"),
            f"http://r.test{BLOB}?ns=x",
        ),
        (head("http://r.test/file#part"), "http://r.test/file"),
    ],
)
def test_upstream_of_a_request(request_head: RequestHead, url: str) -> None:
    assert asked_url(request_head) == url


@pytest.mark.parametrize(
    ("request_head", "named"),
    [
        (head(f"{BLOB}?ns=evil.test/path"), "ns"),
        (head(f"{BLOB}?ns=user@evil.test"), "ns"),
        (head(f"{BLOB}?ns=a%20b"), "ns"),
        (head(BLOB, X_Dragonfly_Registry="ftp://r.test"), "X-Dragonfly-Registry"),
        (head(BLOB, X_Dragonfly_Registry="https://"), "X-Dragonfly-Registry"),
        (head(BLOB, X_Dragonfly_Registry="https://u:p@r.test"), "X-Dragonfly-Registry"),
        (head(BLOB, X_Dragonfly_Registry="https://r.test?x"), "X-Dragonfly-Registry"),
        (head(BLOB, X_Dragonfly_Registry="https://r.test:99999"), "X-Dragonfly-Registry"),
        (head("ftp://r.test/file"), "ftp://r.test/file"),
        (head("*", "OPTIONS"), "whole URL"),
        (head("nothing"), "whole URL"),
        (head("http://user:secret@r.test/file"), "Authorization"),
        (head("r.test", "CONNECT"), "host:port"),
        (head("r.test:0", "CONNECT"), "host:port"),
        (head("r.test:70000", "CONNECT"), "host:port"),
        (head("http://r.test:443/", "CONNECT"), "host:port"),
        (head(BLOB, X_Dragonfly_Priority="9"), "X-Dragonfly-Priority"),
    ],
)
def test_what_cannot_be_asked_is_the_callers_mistake(request_head: RequestHead, named: str) -> None:
    with pytest.raises(CallerError) as caught:
        router().route(request_head)
    assert caught.value.http_status == 400
    assert named in caught.value.detail
    assert "secret" not in caught.value.detail


def test_connect_is_a_tunnel() -> None:
    assert router().route(head("r.test:443", "CONNECT")) == Tunnel(host="r.test", port=443)
    assert router().route(head("[::1]:443", "CONNECT")) == Tunnel(host="::1", port=443)


# --- loops ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "own", "is_own"),
    [
        ("http://127.0.0.1:65001/x", ("127.0.0.1", 65001), True),
        ("http://127.0.0.1:65002/x", ("127.0.0.1", 65001), False),
        ("http://127.0.0.1/x", ("127.0.0.1", 80), True),
        ("https://127.0.0.1/x", ("127.0.0.1", 443), True),
        ("http://localhost:65001/x", ("127.0.0.1", 65001), True),
        ("http://localhost:65001/x", ("0.0.0.0", 65001), True),
        ("http://[::1]:65001/x", ("::1", 65001), True),
        ("http://0.0.0.0:65001/x", ("127.0.0.1", 65001), True),
        ("http://10.0.0.5:65001/x", ("10.0.0.5", 65001), True),
        ("http://10.0.0.6:65001/x", ("10.0.0.5", 65001), False),
        ("http://127.0.0.1:65001/x", ("10.0.0.5", 65001), False),
        ("http://r.test:65001/x", ("127.0.0.1", 65001), False),
    ],
)
def test_a_request_for_the_proxy_itself_is_refused(
    target: str, own: tuple[str, int], is_own: bool
) -> None:
    if not is_own:
        router().route(head(target), (own,))
        return
    with pytest.raises(LoopError, match="this proxy") as caught:
        router().route(head(target), (own,))
    assert caught.value.http_status == 508


def test_a_tunnel_or_mirror_to_the_proxy_itself_is_refused() -> None:
    own = (("127.0.0.1", 65001),)
    with pytest.raises(LoopError):
        router().route(head("localhost:65001", "CONNECT"), own)
    with pytest.raises(LoopError):
        router().route(head("/v2/", X_Dragonfly_Registry="http://127.0.0.1:65001"), own)


def test_a_request_that_was_here_before_is_refused() -> None:
    with pytest.raises(LoopError, match="came through this proxy before"):
        router().route(head("http://r.test/file", Via="1.1 you, 1.1 me"))


# --- downloads ------------------------------------------------------------------------------------


def test_defaults_of_a_download() -> None:
    download = swarm(head(BLOB, Authorization="Bearer t", Via="1.1 you")).download
    assert download.priority == 6
    assert download.filtered_query_params == DEFAULT_FILTERED_QUERY_PARAMS
    assert download.request_header["Authorization"] == "Bearer t"
    assert download.request_header["Via"] == "1.1 you, 1.1 me"
    assert (download.tag, download.application, download.piece_length) == (None, None, None)
    assert not download.prefetch
    assert not download.disable_back_to_source


def test_wishes_reach_the_download() -> None:
    download = swarm(
        head(
            BLOB,
            X_Dragonfly_Tag="t",
            X_Dragonfly_Application="a",
            X_Dragonfly_Priority="0",
            X_Dragonfly_Piece_Length="4MiB",
            X_Dragonfly_Filtered_Query_Params="x,y",
            X_Dragonfly_Content_For_Calculating_Task_ID="c",
            X_Dragonfly_Output_Path="/data/x",
            X_Dragonfly_Force_Hard_Link="true",
        ),
        ProxyPolicy(rules=(BLOBS,), output_roots=("/data",), disable_back_to_source=True),
    ).download
    assert (download.tag, download.application, download.priority) == ("t", "a", 0)
    assert download.piece_length == 4 * 1024 * 1024
    assert download.filtered_query_params == ("x", "y")
    assert download.content_for_calculating_task_id == "c"
    assert (download.output_path, download.force_hard_link) == ("/data/x", True)
    assert download.disable_back_to_source


def test_an_output_path_is_forbidden_unless_allowed() -> None:
    with pytest.raises(ForbiddenError):
        router().route(head(BLOB, X_Dragonfly_Output_Path="/etc/cron.d/x"))


@pytest.mark.parametrize(
    ("by_rule", "by_header", "params"),
    [
        ((), None, DEFAULT_FILTERED_QUERY_PARAMS),
        (("sig",), None, ("sig",)),
        (("sig",), "x", ("x",)),
        (("sig",), "", ()),
    ],
)
def test_filtered_params_header_over_rule_over_default(
    by_rule: tuple[str, ...], by_header: str | None, params: tuple[str, ...]
) -> None:
    policy = ProxyPolicy(rules=(ProxyRule(regex="file", filtered_query_params=by_rule),))
    named = {} if by_header is None else {"X_Dragonfly_Filtered_Query_Params": by_header}
    download = swarm(head("http://r.test/file", **named), policy).download
    assert download.filtered_query_params == params


@pytest.mark.parametrize(
    ("url", "by_policy", "by_header", "enabled"),
    [
        (BLOB, True, None, True),
        (BLOB, False, None, False),
        (BLOB, False, "true", True),
        (BLOB, True, "false", False),
        ("/v2/lib/rand/blobs/sha256:123", True, None, False),
        (f"/v2/lib/rand/blobs/sha512:{'a' * 128}", True, None, False),
        ("/blobs/sha256-file", True, "true", False),
    ],
)
def test_blobs_by_their_digest(
    url: str, by_policy: bool, by_header: str | None, enabled: bool
) -> None:
    policy = ProxyPolicy(
        rules=(ProxyRule(regex="blobs"),), enable_task_id_based_blob_digest=by_policy
    )
    named = {} if by_header is None else {"X_Dragonfly_Enable_Task_ID_Based_Blob_Digest": by_header}
    assert swarm(head(url, **named), policy).download.enable_task_id_based_blob_digest is enabled


def test_one_blob_is_one_task_in_every_repository_and_form() -> None:
    requests = [
        head(f"http://r.test{BLOB}"),
        head(f"/v2/other/name/blobs/sha256:{HEX}?ns=ghcr.io"),
        head(BLOB, X_Dragonfly_Registry="http://mirror.test", Authorization="Bearer t"),
    ]
    assert {task_id_of(swarm(request).download) for request in requests} == {HEX}


def test_a_signed_url_is_the_same_task_whoever_signed_it() -> None:
    use = {"X_Dragonfly_Use_P2P": "true"}
    ids = {
        task_id_of(swarm(head(f"http://s3.test/f?v=1&X-Amz-Signature={n}", **use)).download)
        for n in range(3)
    }
    assert len(ids) == 1


@pytest.mark.parametrize(
    ("headers", "download_range", "wanted"),
    [
        ({}, None, None),
        ({"Range": "bytes=5-9"}, ByteRange(start=5, length=5), RangeWish(start=5, end=10)),
        ({"Range": "bytes=5-"}, None, RangeWish(start=5)),
        ({"Range": "bytes=-5"}, None, RangeWish(suffix=5)),
        ({"Range": "bytes=0-1,3-4"}, None, None),
        ({"Range": "bytes=5-9", "If_Range": '"e"'}, None, RangeWish(start=5, end=10)),
    ],
)
def test_ranges(
    headers: dict[str, str], download_range: ByteRange | None, wanted: RangeWish | None
) -> None:
    route = swarm(head(BLOB, **headers))
    assert route.download.range == download_range
    assert route.wanted == wanted
    assert "Range" not in route.download.request_header


@pytest.mark.parametrize(
    ("policy", "header", "range_header", "prefetch"),
    [
        (False, "true", "bytes=0-5", True),
        (True, None, "bytes=0-5", True),
        (True, "false", "bytes=0-5", False),
        (True, None, None, False),
    ],
)
def test_only_ranges_are_prefetched(
    policy: bool, header: str | None, range_header: str | None, prefetch: bool
) -> None:
    named = {"X_Dragonfly_Prefetch": header, "Range": range_header}
    request = head(BLOB, **{name: value for name, value in named.items() if value is not None})
    assert (
        swarm(request, ProxyPolicy(rules=(BLOBS,), prefetch=policy)).download.prefetch is prefetch
    )


# --- settings and logs ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "policy",
    [
        ProxyPolicy(rules=(ProxyRule(regex="("),)),
        ProxyPolicy(rules=(ProxyRule(regex="x", redirect="https://r.test"),)),
        ProxyPolicy(registry_mirror="r.test"),
        ProxyPolicy(registry_mirror="ftp://r.test"),
    ],
)
def test_a_wrong_policy_is_refused_at_once(policy: ProxyPolicy) -> None:
    with pytest.raises(SettingsError):
        router(policy)


def test_logged_urls_hold_no_secrets() -> None:
    assert loggable_url("http://u:p@r.test/a/b?sig=1#x") == "http://r.test/a/b"
    assert loggable_url("/v2/x?token=1") == "/v2/x"
    assert loggable_url("r.test:443") == "r.test:443"


@given(target=st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1))
@pytest.mark.parametrize("method", ["GET", "CONNECT"])
def test_any_target_is_routed_or_refused_clearly(method: str, target: str) -> None:
    try:
        router().route(head(target, method))
    except OdonataError as error:
        assert error.http_status in {400, 508}  # noqa: PT017  # hypothesis has no other way


# --- interception ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("patterns", "target", "opened"),
    [
        ((), "r.test:443", False),
        (("r.test",), "r.test:443", True),
        (("^r[.]test$",), "r.test:8443", True),
        (("^r[.]test:443$",), "r.test:443", True),
        (("^r[.]test:443$",), "r.test:8443", False),
        (("other", "test$"), "r.test:443", True),
        (("other",), "r.test:443", False),
        (("",), "anything.example:443", True),
        (("^::1$",), "[::1]:443", True),
    ],
)
def test_hosts_are_opened_by_name(patterns: tuple[str, ...], target: str, opened: bool) -> None:
    policy = ProxyPolicy(intercept_hosts=patterns)
    route = router(policy).route(head(target, "CONNECT"))
    assert isinstance(route, Intercept if opened else Tunnel)
    assert f"{route.host}:{route.port}" == target.replace("[", "").replace("]", "")


def test_a_pattern_that_is_none_is_told_at_the_start() -> None:
    with pytest.raises(SettingsError, match=r"interceptHosts.*\(\?=x\)"):
        router(ProxyPolicy(intercept_hosts=("(?=x)",)))


def test_nobody_has_this_proxy_opened_by_itself() -> None:
    policy = ProxyPolicy(intercept_hosts=("",))
    with pytest.raises(LoopError):
        router(policy).route(head("127.0.0.1:65001", "CONNECT"), [("127.0.0.1", 65001)])


@pytest.mark.parametrize(
    ("target", "host", "port", "url"),
    [
        ("/v2/", "r.test", 443, "https://r.test/v2/"),
        ("/v2/?n=1", "r.test", 5443, "https://r.test:5443/v2/?n=1"),
        ("/", "::1", 443, "https://[::1]/"),
        ("https://other.test/x", "r.test", 443, "https://other.test/x"),
        ("*", "r.test", 443, "*"),
    ],
)
def test_what_comes_inside_is_asked_for_by_https(
    target: str, host: str, port: int, url: str
) -> None:
    assert absolute(target, host, port) == url
