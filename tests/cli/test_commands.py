"""The command line against a running server: results on stdout, all else on stderr, exit statuses, sentences."""

import json
import re
from collections.abc import Iterator

import pytest

from tests.running import Running, running

CARD = b"---\nlicense: apache-2.0\n---\n# A model\n"
USE = ("--mode", "serve_api", "--purpose", "commercial")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("cli")) as found:
        found.publish("demo/plain", {"README.md": CARD, "config.json": b"{}"})
        noncommercial = CARD.replace(b"apache-2.0", b"cc-by-nc-4.0")
        found.publish("demo/research", {"README.md": noncommercial})
        found.publish("demo/odd", {"README.md": CARD.replace(b"apache-2.0", b"other")})
        yield found


@pytest.mark.parametrize(
    ("model", "status", "verdict"),
    [("demo/plain", 0, "allow"), ("demo/research", 4, "deny"), ("demo/odd", 5, "unknown")],
)
@pytest.mark.parametrize("word", ["licence", "license"])
def test_a_verdict_is_an_exit_status(server: Running, model: str, status: int, verdict: str, word: str) -> None:
    done = server.cli(word, "check", model, *USE, "--json", alone=word == "licence")
    assert done.returncode == status, done.stderr
    assert json.loads(done.stdout)["verdict"].startswith(verdict)
    for_people = server.cli(word, "check", model, *USE)
    assert for_people.returncode == status
    assert verdict in for_people.stdout


def test_ask_licence_is_three(server: Running) -> None:
    done = server.cli("licence", "check", "meta-llama/Llama-2-7b", *USE, "--users", "5", "--json")
    told = json.loads(done.stdout)
    assert {"allow": 0, "allow_with_duties": 0, "ask_licence": 3, "deny": 4, "unknown": 5}[
        told["verdict"]
    ] == done.returncode
    crowd = server.cli(
        "licence", "check", "meta-llama/Llama-2-7b", *USE, "--set", "org.mau_at.2023-06=800000000", "--json"
    )
    assert (crowd.returncode, json.loads(crowd.stdout)["verdict"]) == (3, "ask_licence")


def test_each_noun_from_birth_to_death(server: Running) -> None:
    server.told("project", "create", "shop", *USE, "--users", "100", "--territory", "DE")
    assert server.told("project", "show", "shop")["users"] == 100
    key = server.cli("key", "create", "--project", "shop")
    assert re.fullmatch(r"eck_[\w-]{43}\n", key.stdout), "the key alone on stdout"
    (row,) = server.told("key", "list", "--project", "shop")
    assert key.stdout.strip() not in json.dumps(row)
    assert server.told("key", "show", row["id"])["project"] == "shop"
    assert server.told("key", "revoke", row["id"])["revoked"]

    server.told("backend", "add", "far", "--url", "http://127.0.0.1:9/v1", "--key-env", "FAR_API_KEY")
    assert server.told("backend", "show", "far")["key_env"] == "FAR_API_KEY"
    server.told("route", "set", "assistant", "--to", "far/gpt", "--to", "demo/plain")
    assert server.told("route", "show", "assistant")["to"] == ["far/gpt", "demo/plain"]
    for noun, name in (("route", "assistant"), ("backend", "far"), ("project", "shop")):
        assert name in server.cli(noun, "list").stdout
        server.told(noun, "remove", name)
        assert name not in [r["name"] for r in server.told(noun, "list")]
        gone = server.cli(noun, "show", name)
        assert gone.returncode == 1 and name in gone.stderr and not gone.stdout

    rule = server.told("rule", "add", "pass_unknown", "demo/odd", "--reason", "counsel, 2026-11-02")
    assert rule["id"] in server.cli("rule", "list").stdout
    assert server.told("rule", "show", rule["id"])["reason"] == "counsel, 2026-11-02"
    server.told("rule", "remove", rule["id"])
    assert server.told("rule", "add", "no_private", "project:x", "--reason", "r")["subject"] == "project:x"
    token = server.told("token", "create", "ann", "--role", "write")
    assert token["id"] in server.cli("token", "list").stdout
    assert server.told("token", "show", token["id"])["user"] == "ann"
    server.told("token", "revoke", token["id"])
    assert server.told("model", "show", "demo/plain")["licence"] == "apache-2.0"
    assert "demo/plain" in [m["id"] for m in server.told("model", "list", "--search", "plain")]


def test_data_as_json_and_for_people(server: Running) -> None:
    for command in (
        ("model", "list"), ("project", "list"), ("key", "list"), ("token", "list"), ("rule", "list"),
        ("backend", "list"), ("route", "list"), ("job", "list"), ("audit", "list"), ("ps",),
        ("ledger", "usage"), ("ledger", "verify"), ("licence", "list"), ("licence", "show", "Apache-2.0"),
    ):  # fmt: skip
        told = server.cli(*command, "--json")
        assert told.returncode == 0, (command, told.stderr)
        json.loads(told.stdout)
        assert not told.stderr
        assert server.cli(*command).stdout.strip(), command


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("licence", "check", "demo/absent", *USE), "demo/absent"),
        (("licence", "check", "demo/plain", "--mode", "wish", "--purpose", "commercial"), "serve_api"),
        (("model", "show", "nope"), "namespace/name"),
        (("model", "remove", "meta-llama/Llama-2-7b"), "meta-llama/Llama-2-7b"),
        (("licence", "check", "demo/plain", *USE, "--territory", "Atlantis"), "Atlantis"),
        (("licence", "check", "demo/plain", *USE, "--set", "org.mua=3"), "org.mau"),
        (("licence", "check", "demo/plain", *USE, "--set", "org.mau_at.2024-6=1000"), "org.mau_at.2024-6"),
        (("licence", "check", "demo/plain", *USE, "--set", "purpose=noncommercial"), "--purpose"),
        (("licence", "check", "demo/plain", *USE, "--set", "model.modality=banana"), "image"),
        (("licence", "check", "demo/plain", *USE, "--set", "org.mau=lots"), "a number"),
        (("licence", "check", "demo/plain", *USE, "--set", "org.principal_place=Germany"), "two capitals"),
        (("licence", "check", "demo/plain", *USE, "--set", "licence_ended=maybe"), "true or false"),
        (("project", "create", "slip", *USE, "--set", "foo=bar"), "foo"),
        (("project", "create", "Bad Name", *USE), "Bad Name"),
        (("project", "create", "later", *USE, "--territory", "Atlantis"), "Atlantis"),
        (("key", "create", "--project", "absent"), "absent"),
        (("backend", "add", "b", "--url", "ftp://x/v1"), "ftp"),
        (("backend", "add", "b", "--url", "http://127.0.0.1:9/v1", "--key-env", "ECOTONE_ADMIN_TOKEN"), "ECOTONE_"),
        (("backend", "add", "b", "--url", "http://127.0.0.1:9/v1", "--key-env", "HOME"), "ECOTONE_PROVIDER_KEYS"),
        (("backend", "add", "b", "--url", "http://127.0.0.1:9/v1", "--terms", "no-such"), "no-such"),
        (("route", "set", "a/b", "--to", "demo/plain"), "a/b"),
        (("route", "set", "r", "--to", "nothing"), "nothing"),
        (("serve", "demo/absent"), "demo/absent"),
        (("serve", "openai/gpt-4o"), "gpt-4o"),
        (("unserve", "demo/plain"), "demo/plain"),
        (("audit", "run", "demo/plain", "--suite", "no-such"), "weat"),
        (("why", "req-none"), "req-none"),
        (("job", "show", "job-none"), "job-none"),
        (("audit", "remove", "12"), "12"),
        (("token", "show", "t-none"), "t-none"),
        (("rule", "show", "r-none"), "r-none"),
        (("rule", "add", "no_private", "shop", "--reason", "r"), "project:NAME"),
    ],
    ids=lambda v: " ".join(v)[:60] if isinstance(v, tuple) else None,
)
def test_an_error_is_a_sentence_that_names_what_was_wrong(
    server: Running, command: tuple[str, ...], words: str
) -> None:
    done = server.cli(*command)
    assert done.returncode not in (0, 3, 4, 5), done.stdout
    assert words in done.stderr
    assert not done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("position", "nc_foo", "--value", "allow"), "nc_internal"),
        (("position", "nc_internal", "--value", "maybe"), "deny or allow"),
        (("waiver", "demo/odd", "--expires", "2020-01-01"), "2020-01-01"),
    ],
)
def test_a_rule_that_could_do_nothing_is_refused(server: Running, command: tuple[str, ...], words: str) -> None:
    done = server.cli("rule", "add", *command, "--reason", "r")
    assert done.returncode == 1 and words in done.stderr
    assert server.told("rule", "list") == [r for r in server.told("rule", "list") if r["kind"] != command[0]]


def test_one_question_has_one_reading(server: Running) -> None:
    rule = server.told("rule", "add", "position", "nc_internal", "--value", "allow", "--reason", "counsel")
    again = server.cli("rule", "add", "position", "nc_internal", "--value", "deny", "--reason", "other counsel")
    server.told("rule", "remove", rule["id"])
    assert again.returncode == 1 and "chosen already" in again.stderr


def test_the_last_administrator_cannot_lock_everybody_out(server: Running) -> None:
    (only,) = [t for t in server.told("token", "list") if t["role"] == "admin" and not t["revoked"]]
    refused = server.cli("token", "revoke", only["id"])
    assert refused.returncode == 1 and "--role admin" in refused.stderr
    other = server.told("token", "create", "eve", "--role", "admin")
    assert server.told("token", "revoke", other["id"])["revoked"] == other["id"]


def test_a_backend_named_as_a_provider_has_that_providers_terms(server: Running) -> None:
    server.told("backend", "add", "openai", "--url", "http://127.0.0.1:9/v1")
    use = ("--mode", "train_on_outputs", "--purpose", "commercial", "--set", "target_model=other_llm")
    done = server.cli("licence", "check", "openai/gpt-5", *use)
    server.told("backend", "remove", "openai")
    assert done.returncode == 4, "what the catalogue knows to be forbidden must not become unknown"
    assert not [r for r in server.told("rule", "list") if r["subject"] == "backend:openai"]


def test_tables_can_be_cut_by_other_programs(server: Running) -> None:
    lines = server.cli("model", "list", env={"COLUMNS": "40"}).stdout.splitlines()
    assert any(line.startswith("meta-llama/Llama-3.1-8B-Instruct ") for line in lines)


def test_a_route_to_nowhere_is_made_with_a_warning(server: Running) -> None:
    done = server.cli("route", "set", "early", "--to", "demo/absent", "--to", "demo/plain")
    assert done.returncode == 0
    assert "demo/absent" in done.stderr and "demo/plain" not in done.stderr


def test_the_list_of_commands_can_be_read_in_a_terminal_of_80_columns(server: Running) -> None:
    """A sentence that is cut in the middle does not tell whether `restart` cuts transfers."""
    shown = server.cli("--help", env={"COLUMNS": "80"}).stdout
    about, commands = shown.split("Commands:")
    assert "ECOTONE_URL" in about and [line for line in commands.splitlines() if line.endswith("...")] == []


def test_a_wrong_token_and_an_absent_server_say_what_to_do(server: Running) -> None:
    wrong = server.cli("project", "list", env={"ECOTONE_TOKEN": "ect_wrong"})
    assert wrong.returncode == 1 and "ect_wrong" not in wrong.stderr and "token in ECOTONE_TOKEN" in wrong.stderr
    absent = server.cli("project", "list", env={"ECOTONE_URL": "http://127.0.0.1:9"})
    assert absent.returncode == 1 and "ecotone up" in absent.stderr and "ECOTONE_URL" in absent.stderr


def test_a_file_that_is_not_text_is_named_with_its_byte(server: Running) -> None:
    rows = server.folder / "latin.jsonl"
    rows.write_bytes(b'{"messages": "\xe9"}\n')
    done = server.cli("tune", "demo/plain", "--data", str(rows), "--to", "demo/tuned")
    assert done.returncode == 1 and "UTF-8" in done.stderr and "byte 14" in done.stderr
