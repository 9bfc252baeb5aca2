"""Who is believed about where a request comes from, and whose pages may send one."""

from ipaddress import ip_network

import pytest

from ecotone.gateway.origins import Origins, Proxies
from ecotone.settings import Settings
from ecotone.vocabulary import Invalid

PROXIES = Proxies([ip_network("10.0.0.0/8"), ip_network("127.0.0.1/32"), ip_network("fd00::/8")])


def forwarded(told: str) -> dict[bytes, bytes]:
    return {b"x-forwarded-for": told.encode()}


@pytest.mark.parametrize(
    ("peer", "told", "client"),
    [
        ("203.0.113.9", "198.51.100.1", "203.0.113.9"),  # a stranger's word is worth nothing
        ("10.1.1.1", "198.51.100.1", "198.51.100.1"),
        ("10.1.1.1", "8.8.8.8, 198.51.100.1", "198.51.100.1"),  # what the client itself wrote stands before
        ("10.1.1.1", "8.8.8.8, 198.51.100.1, 10.2.2.2, 127.0.0.1", "198.51.100.1"),
        ("10.1.1.1", "10.9.9.9", "10.9.9.9"),  # a client that is itself inside
        ("10.1.1.1", "198.51.100.1:5555", "198.51.100.1"),
        ("10.1.1.1", "[2001:db8::1]:5555", "2001:db8::1"),
        ("10.1.1.1", "8.8.8.8, unknown", "10.1.1.1"),  # nobody before what cannot be read
        ("10.1.1.1", "8.8.8.8, 10.2.2.2, <script>, 10.3.3.3", "10.3.3.3"),
        ("10.1.1.1", "", "10.1.1.1"),
        ("::ffff:10.1.1.1", "198.51.100.1", "198.51.100.1"),
        ("fd00::1", "2001:db8::2", "2001:db8::2"),
    ],
)
def test_the_client_is_the_last_hop_that_a_trusted_proxy_saw(peer: str, told: str, client: str) -> None:
    assert PROXIES.client(peer, forwarded(told)) == client


def test_nothing_is_believed_where_no_proxy_is_named() -> None:
    nobody = Proxies([])
    fields = forwarded("8.8.8.8") | {b"x-forwarded-proto": b"https", b"x-forwarded-host": b"evil", b"host": b"own"}
    assert nobody.client("127.0.0.1", fields) == "127.0.0.1"
    assert not nobody.secure("127.0.0.1", fields, peer_secure=False)
    assert nobody.host("127.0.0.1", fields) == b"own"


def test_scheme_and_host_are_taken_from_trusted_proxies_alone() -> None:
    fields = {b"x-forwarded-proto": b"http, https", b"x-forwarded-host": b"hub.example", b"host": b"10.0.0.2:7070"}
    assert PROXIES.secure("10.0.0.1", fields, peer_secure=False)
    assert not PROXIES.secure("203.0.113.9", fields, peer_secure=False)
    assert PROXIES.secure("203.0.113.9", {b"x-forwarded-proto": b"http"}, peer_secure=True)
    assert PROXIES.host("10.0.0.1", fields) == b"hub.example"
    assert PROXIES.host("203.0.113.9", fields) == b"10.0.0.2:7070"
    assert PROXIES.host("10.0.0.1", {b"x-forwarded-host": b"a b\r\nc", b"host": b"x"}) is None


ASKING = {b"origin": b"https://app.example", b"access-control-request-method": b"POST"}


def test_cors_is_off_unless_origins_are_listed() -> None:
    off = Origins(())
    assert off.fields(b"https://app.example") == b""
    assert off.preflight(b"OPTIONS", ASKING) is None


def test_only_listed_origins_are_allowed_and_caches_are_told_of_the_difference() -> None:
    some = Origins(("https://app.example",))
    assert b"access-control-allow-origin: https://app.example\r\n" in some.fields(b"https://app.example")
    for other in (b"https://app.example.evil", b"http://app.example", b"null", b"https://APP.example\r\nx: y"):
        assert some.fields(other) == b"vary: origin\r\n"
        assert some.preflight(b"OPTIONS", ASKING | {b"origin": other}) is None
    assert some.fields(None) == b""


def test_credentials_are_never_allowed() -> None:
    for origins in (Origins(("*",)), Origins(("https://app.example",))):
        lines = origins.preflight(b"OPTIONS", ASKING)
        assert lines is not None and b"credentials" not in lines + origins.fields(b"https://app.example")


def test_a_preflight_names_the_headers_that_were_asked_for_unless_they_are_none() -> None:
    some = Origins(("https://app.example",))
    asked = some.preflight(b"OPTIONS", ASKING | {b"access-control-request-headers": b"authorization, x-stainless-os"})
    assert asked is not None and b"access-control-allow-headers: authorization, x-stainless-os\r\n" in asked
    bad = some.preflight(b"OPTIONS", ASKING | {b"access-control-request-headers": b"a\r\nset-cookie: x"})
    assert bad is not None and b"set-cookie" not in bad
    assert some.preflight(b"POST", ASKING) is None
    assert some.preflight(b"OPTIONS", {b"origin": b"https://app.example"}) is None


@pytest.mark.parametrize("listed", ["app.example", "https://app.example/", "https://a.example/x", "https://a b"])
def test_what_is_no_origin_is_refused_at_the_start(listed: str) -> None:
    with pytest.raises(Invalid, match="ECOTONE_CORS_ORIGINS"):
        Settings.from_environment({"ECOTONE_CORS_ORIGINS": f"https://fine.example:8443,{listed}"})
