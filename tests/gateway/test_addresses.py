"""A backend's address leads to a provider or into the house, never to a cloud's metadata."""

import asyncio
import socket
from typing import Any

import pytest

from ecotone.gateway.addresses import GuardedResolver, check_address
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
        "https://x.org/" + "a" * 600,
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


def test_a_name_that_leads_to_the_metadata_service_later_is_not_connected_to() -> None:
    class Turned:
        async def resolve(self, host: str, port: int, family: Any) -> list[dict[str, Any]]:
            return [{"host": "169.254.169.254", "port": port}, {"host": "127.0.0.1", "port": port}]

    async def resolved() -> list[Any]:
        resolver = GuardedResolver()
        resolver._resolver = Turned()
        return await resolver.resolve("rebinding.example", 80, socket.AF_INET)

    assert [a["host"] for a in asyncio.run(resolved())] == ["127.0.0.1"]
