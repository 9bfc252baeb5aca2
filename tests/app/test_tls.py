"""TLS by certificate files: for the whole server and for the gateway alone."""

import os
import signal
import socket
import ssl
import time
from pathlib import Path

import httpx
import pytest
from cryptography import x509

from ecotone.gateway.certificates import server_tls
from ecotone.settings import Settings
from ecotone.vocabulary import Invalid
from tests.app.certificates import Authority
from tests.app.gateways import gateways
from tests.running import ADMIN, Running


def serial(port: int, authority: Authority) -> int:
    """Of the certificate that is shown on a new connection."""
    context = ssl.create_default_context(cafile=str(authority.file))
    with (
        socket.create_connection(("127.0.0.1", port), timeout=120) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secure,
    ):
        found = secure.getpeercert(binary_form=True)
        assert found is not None and secure.version() in ("TLSv1.2", "TLSv1.3")
        return x509.load_der_x509_certificate(found).serial_number


def test_pages_and_gateway_are_served_over_tls_on_one_connection(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.issue(tmp_path / "cert.pem", tmp_path / "key.pem")
    files = {"ECOTONE_TLS_CERT": str(tmp_path / "cert.pem"), "ECOTONE_TLS_KEY": str(tmp_path / "key.pem")}
    found = Running(tmp_path / "home", SSL_CERT_FILE=str(authority.file), **files)
    context = ssl.create_default_context(cafile=str(authority.file))
    head = {"authorization": f"Bearer {ADMIN}"}
    with httpx.Client(base_url=f"https://localhost:{found.port}", verify=context, headers=head, timeout=120) as client:
        found.wait_until_it_answers = lambda *_: None  # type: ignore[method-assign]  # it would ask without TLS
        try:
            found.start()
            end = time.monotonic() + 60
            while True:
                try:
                    assert client.get("/health").status_code == 200
                    break
                except httpx.ConnectError:
                    assert time.monotonic() < end, found.log[-2000:]
                    time.sleep(0.1)
            assert client.get("/v1/models").json()["object"] == "list"
            assert f"https://127.0.0.1:{found.port}" in found.log, "the address that is printed is the one that works"
            with socket.create_connection(("127.0.0.1", found.port), timeout=120) as plain:
                plain.sendall(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")
                assert not plain.recv(100).startswith(b"HTTP/1.1 200"), "nothing is served without TLS"
            big = os.urandom(300_000).hex()
            posted = client.post("/v1/chat/completions", json={"model": "none", "messages": [{"content": big}]})
            assert posted.status_code in (400, 404)
            assert "Traceback" not in found.log
        finally:
            found.stop()


def test_a_new_certificate_is_shown_after_a_restart_and_a_broken_one_changes_nothing(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    first = authority.issue(cert, key)
    files = {"ECOTONE_TLS_CERT": str(cert), "ECOTONE_TLS_KEY": str(key)}
    with gateways(tmp_path / "home", workers=2, scheme="https", **files) as (tree, _):
        assert serial(tree.port, authority) == first
        second = authority.issue(cert, key)
        assert serial(tree.port, authority) == first
        tree.renew()
        end = time.monotonic() + 60
        while {serial(tree.port, authority) for _ in range(8)} != {second}:
            assert time.monotonic() < end, "a worker shows the certificate of before"
        cert.write_bytes(b"-----BEGIN CERTIFICATE-----\nnonsense\n")
        tree.signal(signal.SIGHUP)
        tree.wait_for_log("not restarted: ")
        assert "ECOTONE_TLS_CERT" in tree.log
        assert {serial(tree.port, authority) for _ in range(4)} == {second}
        context = ssl.create_default_context(cafile=str(authority.file))
        with tree.client(verify=context) as client:
            assert tree.post(client).status_code == 200


def test_tls_below_1_2_is_not_spoken(tmp_path: Path) -> None:
    Authority(tmp_path).issue(tmp_path / "cert.pem", tmp_path / "key.pem")
    settings = Settings(tls_cert=str(tmp_path / "cert.pem"), tls_key=str(tmp_path / "key.pem"))
    context = server_tls(settings)
    assert context is not None and context.minimum_version == ssl.TLSVersion.TLSv1_2


def test_a_certificate_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.issue(tmp_path / "cert.pem", tmp_path / "key.pem")
    authority.issue(tmp_path / "other.pem", tmp_path / "other-key.pem")
    with pytest.raises(Invalid, match=r"ECOTONE_TLS_CERT: .*absent\.pem"):
        server_tls(Settings(tls_cert=str(tmp_path / "absent.pem")))
    with pytest.raises(Invalid, match="no certificate with its key"):
        server_tls(Settings(tls_cert=str(tmp_path / "cert.pem"), tls_key=str(tmp_path / "other-key.pem")))
    with pytest.raises(Invalid, match="without ECOTONE_TLS_CERT"):
        Settings.from_environment({"ECOTONE_TLS_KEY": "key.pem"})
