"""Over https the target is who the URL names, checked by name, though the connection is made to a checked address."""

import os
import ssl
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.receiver import Receiver, receiving

SEND = """
import asyncio, socket, sys
from types import SimpleNamespace
from ecotone.webhooks import Courier, Targets
from ecotone.webhooks.entities import Parcel
real = socket.getaddrinfo
socket.getaddrinfo = lambda host, *a, **k: real("127.0.0.1" if host.endswith(".example") else host, *a, **k)
courier = Courier(SimpleNamespace(), Targets("127.0.0.1"))
parcel = Parcel(key=1, id="1", webhook_id="1", webhook_key=1, user="u", url=sys.argv[1], body=b"{}", secret=None,
                attempts=0)
print(*asyncio.run(courier._sent(parcel)))
"""


def certificate(folder: Path, name: str) -> Path:
    """A certificate for a name, that signs itself, with its key in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file = folder / f"{name}.pem"
    file.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return file


def secured(receiver: Receiver, file: Path) -> list[str]:
    """Put the receiver behind TLS; the names that clients ask for."""
    asked: list[str] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    context.sni_callback = lambda _socket, name, _context: asked.append(str(name))
    receiver.server.socket = context.wrap_socket(receiver.server.socket, server_side=True)
    return asked


def send(url: str, trusted: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", SEND, url],
        env=os.environ | {"SSL_CERT_FILE": str(trusted)},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(("name", "answer"), [("hook.example", "200"), ("other.example", "None no answer")])
def test_the_certificate_is_that_of_the_name_in_the_url(tmp_path: Path, name: str, answer: str) -> None:
    file = certificate(tmp_path, "hook.example")
    with receiving() as receiver:
        asked = secured(receiver, file)
        assert send(f"https://{name}:{receiver.port}/x", file).startswith(answer)
        assert asked == [name]
        if answer == "200":
            assert receiver.got[0][1]["host"] == f"hook.example:{receiver.port}"
        else:
            assert receiver.got == []


def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    stranger = certificate(tmp_path / "other", "hook.example")
    with receiving() as receiver:
        secured(receiver, certificate(tmp_path, "hook.example"))
        assert send(f"https://hook.example:{receiver.port}/x", stranger).startswith("None no answer")
        assert receiver.got == []
