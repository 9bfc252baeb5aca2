"""What stands at an address that somebody else fills: it neither takes the memory of who looks, nor leads elsewhere."""

import gzip
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpcore
import pytest

from ecotone.cli.live_pages import Careful, fetched
from ecotone.vocabulary import Invalid
from tests.serving import Serving


class _Hostile(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        path, port = self.path, self.server.server_address[1]
        packed = gzip.compress(b"<p>Built with Llama") if path == "/packed" else b""
        body = b'{"siblings":' + b"[" * 200_000 if path.startswith("/api/models/deep/") else packed or b"<p>shown"
        self.send_response(302 if path == "/leads-astray" else 200)
        if path == "/leads-astray":
            self.send_header("location", f"http://0.0.0.0:{port}/inside")
        if packed:
            self.send_header("content-encoding", "gzip")
        self.send_header("content-type", "text/html")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def hostile() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Hostile)
    with Serving(server):
        yield f"http://127.0.0.1:{server.server_address[1]}"


def test_a_page_that_comes_packed_is_not_unpacked(hostile: str) -> None:
    assert fetched(f"{hostile}/plain") == "shown"
    with pytest.raises(Invalid, match="packed"):
        fetched(f"{hostile}/packed")


def test_a_page_leads_to_no_address_that_is_no_host(hostile: str) -> None:
    with pytest.raises(Invalid, match="no page may lead to"):
        fetched(f"{hostile}/leads-astray")


def test_a_page_of_the_public_network_leads_to_nothing_inside(hostile: str) -> None:
    port = int(hostile.rpartition(":")[2])
    for host in ("127.0.0.1", "localhost", "169.254.169.254"):
        with pytest.raises(httpcore.ConnectError, match="no page may lead to"):
            Careful(public=True).connect_tcp(host, port, 2)
    Careful().connect_tcp("localhost", port, 2).close()


def test_a_listing_that_is_nested_without_end_is_no_listing(hostile: str) -> None:
    assert fetched(f"{hostile}/deep/model") == "shown"
