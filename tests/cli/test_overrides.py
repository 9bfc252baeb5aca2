"""An answer that rests on what two people signed says so: who, when, on what evidence, until when."""

from collections.abc import Iterator
from datetime import date, timedelta

import pytest

from tests.running import Running, running

USE = ("--mode", "serve_api", "--purpose", "commercial")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("overrides")) as found:
        found.publish("demo/odd", {"README.md": b"---\nlicense: other\n---\n# Odd\n"})
        yield found


def test_both_names_stand_in_the_answer(server: Running) -> None:
    assert server.cli("licence", "check", "demo/odd", *USE).returncode == 5
    until = str(date.today() + timedelta(days=20))
    words = ("--value", "mit", "--reason", "its repository", "--evidence", "LICENSE at 4f2a", "--expires", until)
    rule = server.told("rule", "add", "concluded", "demo/odd", *words)
    other = server.told("token", "create", "eve", "--role", "admin")["token"]
    assert server.cli("licence", "check", "demo/odd", *USE).returncode == 5, "one pair of eyes changes nothing"
    assert server.cli("rule", "approve", rule["id"], env={"ECOTONE_TOKEN": other}).returncode == 0
    done = server.cli("licence", "check", "demo/odd", *USE)
    assert done.returncode == 0, done.stdout
    for word in (rule["id"], "admin", "eve", until, "LICENSE at 4f2a"):
        assert word in done.stdout
