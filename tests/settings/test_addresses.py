"""An address is what a connection makes of it, however it is written: a spelling must not open the house."""

import ipaddress
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecotone.settings.addresses import is_forbidden, is_public, literal_address

_PART = st.one_of(
    st.integers(0, 300).map(str), st.integers(0, 300).map(hex), st.integers(0, 300).map(lambda n: f"0{n:o}")
)


def as_connected(text: str) -> str | None:
    try:
        return socket.inet_ntoa(socket.inet_aton(text))
    except OSError:
        return None


@given(st.lists(_PART, min_size=1, max_size=5), st.integers(0, 2**33))
def test_each_spelling_of_an_address_is_read_as_the_system_reads_it(parts: list[str], whole: int) -> None:
    for text in (".".join(parts), str(whole), hex(whole), f"0{whole:o}"):
        found = literal_address(text)
        assert (None if found is None else str(found)) == as_connected(text), text


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0", "100.64.0.1", "::1", "::",
        "fe80::1", "fd00::1", "fc00::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b:1::a00:1",
        "2002:7f00:1::", "2002:a00:1::1", "::127.0.0.1", "::ffff:0:127.0.0.1", "2001:0:4136:e378:8000:63bf:80ff:fffe",
        "224.0.0.1", "ff02::1", "255.255.255.255", "100.100.100.200", "168.63.129.16", "192.0.2.1", "198.18.0.1",
        "2001:db8::1", "240.0.0.1", "fe80::1%eth0",
    ],
)  # fmt: skip
def test_nothing_inside_counts_as_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["1.1.1.1", "8.8.8.8", "2606:4700:4700::1111", "::ffff:8.8.8.8"])
def test_public_addresses_are_public(address: str) -> None:
    assert is_public(address) and not is_forbidden(address)


def test_names_are_no_addresses() -> None:
    for name in ("example.org", "1.2.3.4.5", "", "1..2", "12a", "a.1", "08"):
        found = literal_address(name)
        assert found is None or found == ipaddress.ip_address(as_connected(name) or "::"), name
