"""A backend's address leads to a provider or into the house, never to a cloud's metadata."""

import asyncio
import socket
from typing import Any

import pytest

from ecotone.gateway.addresses import check_address
from ecotone.gateway.plane.upstreams import Place, Unreachable
from ecotone.vocabulary import Invalid


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest", "http://2852039166/", "http://0xa9fea9fe/", "http://0251.0376.0251.0376/",
        "http://169.254.43518/", "http://[fe80::1]/", "http://[fe80::1%25eth0]/", "http://[::ffff:169.254.169.254]/",
        "http://[64:ff9b::a9fe:a9fe]/", "http://[2002:a9fe:a9fe::]/", "http://[fd00:ec2::254]/", "http://0/",
        "http://0.0.0.0/", "http://[::]/", "http://100.100.100.200/", "http://168.63.129.16/", "http://224.0.0.1/",
        "http://metadata.google.internal/", "http://METADATA.google.internal./v1", "http://metadata/",
        "ftp://x/", "https://", "x", "https://user:pw@x.org/", "https://x.org/v1?key=1", "https://x.org/#a",
        "http://x.org:99999/", "http://x.org:0/", "http://[::1/", "http://x.org/\r\nx: y", "http://x.org/a b", "",
        "https://x.org/" + "a" * 600, "http://\uff11\uff16\uff19.254.169.254/", "http://169\u3002254\u3002169\u3002254/",
        "http://\u246069.254.169.254/", "http://metadata\u3002google\u3002internal/", "http://[::169.254.169.254]/",
        "http://[::ffff:0:169.254.169.254]/", "http://[64:ff9b:1::a9fe:a9fe]/", "http://169.254.169.254./",
        "http://0xa9.254.43518/", "http://[2001:0:a9fe:a9fe::5601:5601]/",
    ],
)  # fmt: skip
def test_what_is_no_providers_address_is_refused(url: str) -> None:
    with pytest.raises(Invalid):
        check_address(url)


@pytest.mark.parametrize(
    "url", ["https://api.openai.com/v1", "http://127.0.0.1:8000/v1", "http://10.0.0.7/v1", "http://[::1]:8000/v1"]
)
def test_providers_loopback_and_private_addresses_pass(url: str) -> None:
    check_address(url)


def test_a_name_that_leads_to_the_metadata_service_later_is_not_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]

    async def connected(addresses: list[str]) -> Any:
        async def turned(*_: Any, **__: Any) -> list[Any]:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", turned)
        made = await Place("http://rebinding.example/v1", None).connect(60)
        peer = made._transport.get_extra_info("peername")
        made.close()
        return peer

    assert asyncio.run(connected(["169.254.169.254", "127.0.0.1"])) == ("127.0.0.1", port)
    with pytest.raises(Unreachable, match="no request may go"):
        asyncio.run(connected(["169.254.169.254", "::ffff:169.254.169.254", "fe80::1%1", "::a9fe:a9fe", "0.0.0.0"]))
    listener.close()


@pytest.mark.parametrize("url", ["http://169.254.169.254", "http://\uff11\uff16\uff19.254.169.254", "http://0"])
def test_an_address_that_stands_in_the_url_is_checked_at_the_connection_too(url: str) -> None:
    with pytest.raises(Unreachable, match="no request may go"):
        asyncio.run(Place(url, None).connect(2))
