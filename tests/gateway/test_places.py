"""Backends, routes and the snapshot built from them: what an administrator sets is in force for the next request."""

import errno
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from ecotone.accounts import SYSTEM, Accounts, Actor, Profile
from ecotone.catalog import Catalog
from ecotone.database import Database, utc_now
from ecotone.engines import Deployment
from ecotone.gateway import BackendExists, BackendNotFound, Backends, KeptLimits, RouteNotFound, Routes, SnapshotBuilder
from ecotone.gateway import models as _models
from ecotone.gateway.admission import admit, identify, look_into
from ecotone.gateway.answers import Refusal
from ecotone.gateway.following import FileSnapshots
from ecotone.gateway.parsing import parse
from ecotone.gateway.snapshot import Consumer, Snapshot, load, save
from ecotone.ledger import LedgerWriter
from ecotone.licences import KnowledgeBase
from ecotone.policy import Policy, RuleKind, Stance
from ecotone.publishing import AddRegular, Commit, Publishing
from ecotone.settings import Settings
from ecotone.storage import Storage
from ecotone.vocabulary import Conflict, Forbidden, Invalid, Location, Mode, PersonalData, Purpose, Role, Tier, Verdict
from tests.running import in_time

TABLES = _models
READER = Actor(kind="user", name="ann", role=None, project=None)


@pytest.fixture
def place(tmp_path: Path, database: Database) -> Iterator[SimpleNamespace]:
    """Everything that a snapshot is built from; engines are a list of what runs."""
    settings = Settings(data=tmp_path)
    knowledge = KnowledgeBase.load()
    accounts = Accounts(database, settings)
    accounts.ensure_admin()
    storage = Storage(database, settings)
    catalog = Catalog(database, storage, knowledge, settings)
    policy = Policy(database, catalog, knowledge, accounts)
    writer = LedgerWriter(settings.folder("ledger"), "test")
    running: list[Any] = []
    engines = SimpleNamespace(deployments=lambda: list(running))
    backends, routes = Backends(database, settings, knowledge, policy), Routes(database)
    limits = KeptLimits(database, accounts)
    builder = SnapshotBuilder(
        settings=settings, catalog=catalog, policy=policy, accounts=accounts, engines=engines,
        backends=backends, routes=routes, limits=limits,
    )  # fmt: skip
    yield SimpleNamespace(
        settings=settings, limits=limits, accounts=accounts, backends=backends, routes=routes, builder=builder,
        policy=policy, catalog=catalog, running=running,
        publishing=Publishing(catalog, storage, policy, knowledge, writer),
    )  # fmt: skip
    builder.stop()
    writer.close()


def add(place: Any, name: str = "fake", **more: Any) -> Any:
    wanted: dict[str, Any] = {
        "dialect": "openai", "url": "http://127.0.0.1:9/v1/", "key_env": "FAKE_API_KEY", "location": Location.EXTERNAL,
        "tier": Tier.PAID, "terms": None, "actor": SYSTEM,
    }  # fmt: skip
    return place.backends.add(name, **{**wanted, **more})


def project(place: Any, name: str, purpose: Purpose = Purpose.COMMERCIAL) -> str:
    place.accounts.create_project(
        name, mode=Mode.SERVE_API, purpose=purpose, personal_data=PersonalData.LOCAL_ONLY, users=None, revenue=None,
        territory=(), variables={}, actor=SYSTEM,
    )  # fmt: skip
    return str(place.accounts.create_key(name, actor=SYSTEM)[1])


def asked(place: Any, secret: str, model: str) -> Any:
    from ecotone.accounts import secret_hash

    snapshot = place.builder.build()
    request = parse("chat", msgspec.json.encode({"model": model, "messages": [{"role": "user", "content": "Hi"}]}))
    return admit(snapshot, identify(snapshot, secret_hash(secret)), request, look_into(request))


def refused(call: Callable[[], Any]) -> Refusal:
    with pytest.raises(Refusal) as found:
        call()
    return found.value


@pytest.mark.parametrize(
    ("wrong", "error", "says"),
    [
        ({"name": "Fake"}, Invalid, "lower-case"),
        ({"name": "local"}, Invalid, "another name"),
        ({"name": "a/b"}, Invalid, "lower-case"),
        ({"dialect": "telnet"}, Invalid, "openai"),
        ({"url": "http://169.254.169.254/"}, Invalid, "no address of a provider"),
        ({"key_env": "ECOTONE_ADMIN_API_KEY"}, Forbidden, "not begin with ECOTONE_"),
        ({"key_env": "PATH"}, Forbidden, r"\*_API_KEY"),
        ({"key_env": "sk-abcdef"}, Forbidden, "ECOTONE_PROVIDER_KEYS"),
        ({"terms": "no-such-entry"}, Exception, "no-such-entry"),
        ({"actor": READER}, Forbidden, "administrators"),
    ],
)
def test_a_backend_that_may_not_be_is_refused_with_a_sentence(place: Any, wrong: Any, error: Any, says: str) -> None:
    with pytest.raises(error, match=says):
        add(place, **wrong)
    assert place.backends.list() == []


def test_backends_are_added_listed_shown_and_removed(place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made, warnings = add(place)
    assert made.url == "http://127.0.0.1:9/v1"
    assert any("FAKE_API_KEY is not set" in w for w in warnings)
    assert any("no terms are known" in w for w in warnings)
    with pytest.raises(BackendExists):
        add(place)
    assert place.backends.get("fake") == made == place.backends.list()[0]
    place.routes.set("assistant", ("fake/gpt", "demo/x"), actor=SYSTEM)
    with pytest.raises(Conflict, match="assistant"):
        place.backends.remove("fake")
    place.routes.remove("assistant")
    place.backends.remove("fake")
    assert place.policy.rules() == []
    for gone in (lambda: place.backends.get("fake"), lambda: place.backends.remove("fake")):
        with pytest.raises(BackendNotFound):
            gone()
    monkeypatch.setenv("FAKE_API_KEY", "sk-1")
    _, warnings = add(place, "clear", url="http://provider.example/v1")
    assert any("unencrypted" in w for w in warnings)


def test_routes_are_validated(place: Any) -> None:
    for name, to in (
        ("a/b", ("x/y",)),
        ("", ("x/y",)),
        ("a", ()),
        ("a", ("x/y", "x/y")),
        ("a", ("nolash",)),
        ("a", ("x/y\n",)),
    ):
        with pytest.raises(Invalid):
            place.routes.set(name, to, actor=SYSTEM)
    with pytest.raises(RouteNotFound):
        place.routes.get("a")
    with pytest.raises(RouteNotFound):
        place.routes.remove("a")


def test_unknown_terms_pass_by_the_administrators_rule_and_the_decision_says_so(place: Any) -> None:
    key = project(place, "shop")
    add(place)
    candidate = asked(place, key, "fake/gpt").candidates[0]
    assert candidate.ruling.verdict is Verdict.UNKNOWN
    assert any("without naming its terms" in r["means"] for r in candidate.ruling.reasons)
    for rule in place.policy.rules():
        place.policy.remove_rule(rule.id)
    assert refused(lambda: asked(place, key, "fake/gpt")).status == 451


def test_a_known_providers_host_gets_its_terms(place: Any) -> None:
    key = project(place, "shop")
    for name, url in (
        ("oai", "https://api.openai.com/v1"),
        ("gem", "https://generativelanguage.googleapis.com/v1beta/openai"),
    ):
        made, warnings = add(place, name, url=url)
        assert made.terms
        assert not any("terms" in w for w in warnings)
        candidate = asked(place, key, f"{name}/some-model").candidates[0]
        assert candidate.ruling.verdict.passes
        assert candidate.ruling.knowledge_base
        assert any(r.get("clause") for r in candidate.ruling.reasons)
    assert place.policy.rules() == []


def publish(place: Any, model_id: str, licence: str) -> str:
    place.catalog.create(model_id, private=False, actor=SYSTEM)
    card = f"---\nlicense: {licence}\n---\n# {model_id}\n".encode()
    commit = Commit(message="Add", parent=None, operations=(AddRegular("README.md", card),))
    return str(place.publishing.commit(model_id, "main", commit, actor=SYSTEM).revision_id)


def serve(place: Any, model_id: str, revision: str, **more: Any) -> None:
    known = {
        "state": "ready",
        "socket": f"/tmp/{len(place.running)}.sock",
        "projects": (),
        "error": None,
        "task": "chat",
    }
    place.running.append(Deployment(id="dep-1", model=model_id, revision=revision, **{**known, **more}))


def test_models_of_one_legal_class_share_a_decision_that_names_each(place: Any) -> None:
    shop, lab = project(place, "shop"), project(place, "lab", Purpose.RESEARCH)
    for name in ("demo/one", "demo/two"):
        serve(place, name, publish(place, name, "cc-by-nc-4.0"))
    snapshot = place.builder.build()
    assert snapshot.targets["demo/one"].legal == snapshot.targets["demo/two"].legal
    assert len(snapshot.rulings) == 3
    for name in ("demo/one", "demo/two"):
        no = refused(lambda name=name: asked(place, shop, name))
        assert (no.status, no.ecotone["model"]) == (451, name)
        assert name in no.message
        assert "\x01" not in msgspec.json.encode(no.ecotone).decode()
        assert no.ecotone["would_allow"]
        assert asked(place, lab, name).candidates[0].target.revision


def test_a_refusal_names_no_private_ancestor_and_none_of_another_model(place: Any) -> None:
    shop = project(place, "shop")
    for base, child, private in (("demo/secret", "demo/one", True), ("demo/shown", "demo/two", False)):
        publish(place, base, "cc-by-nc-4.0")
        place.catalog.update(place.catalog.model(base, viewer=SYSTEM), actor=SYSTEM, private=private)
        serve(place, child, publish(place, child, f"cc-by-nc-4.0\nbase_model: {base}"))
    told = {child: str(refused(lambda c=child: asked(place, shop, c)).body()) for child in ("demo/one", "demo/two")}
    assert all("demo/secret" not in body for body in told.values())
    assert "demo/shown" not in told["demo/one"]


def test_changes_are_in_force_at_the_next_build_and_nothing_is_judged_twice(
    place: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = project(place, "shop")
    serve(place, "demo/open", publish(place, "demo/open", "apache-2.0"))
    assert asked(place, key, "demo/open").candidates
    version = place.builder.current.version
    judged: list[Any] = []
    real = Stance.judge_family
    monkeypatch.setattr(Stance, "judge_family", lambda *a: judged.append(a) or real(*a))
    place.builder.build()
    assert (place.builder.current.version, judged) == (version, [])
    project(place, "other")
    place.builder.build()
    assert place.builder.current.version == version + 1
    assert judged == []
    add(place, url="https://api.openai.com/v1")  # brings no rule with it: what was judged stays judged
    place.builder.build()
    assert len(judged) == len(place.builder.current.rulings) // 2
    place.accounts.revoke_key(place.accounts.keys("shop")[0].id, actor=SYSTEM)
    assert refused(lambda: asked(place, key, "demo/open")).code == "invalid_api_key"


def test_the_saved_snapshot_is_the_one_in_force_and_a_changed_byte_is_seen(place: Any) -> None:
    key = project(place, "shop")
    add(place)
    built = place.builder.build()
    folder = place.settings.folder("snapshot")
    assert load(folder) == built
    file = folder / "snapshot"
    raw = bytearray(file.read_bytes())
    assert key.encode() not in raw
    raw[len(raw) // 2] ^= 1
    file.write_bytes(raw)
    with pytest.raises(ValueError, match="not whole"):
        load(folder)


def test_a_change_told_to_the_builder_is_in_force_within_two_seconds(place: Any) -> None:
    key = project(place, "shop")
    place.builder.build()
    place.builder.start()

    def change(turn: int) -> Callable[[], bool]:
        add(place, f"fake{turn}")
        place.builder.notify()
        return lambda: f"fake{turn}" in place.builder.current.backends

    in_time(change, 2)
    assert key


def test_private_models_and_those_of_other_projects_are_not_known_to_a_key(place: Any) -> None:
    key = project(place, "shop")
    revision = publish(place, "demo/open", "apache-2.0")
    serve(place, "demo/open", revision, projects=("lab",))
    answers = [refused(lambda m=m: asked(place, key, m)) for m in ("demo/open", "demo/none")]
    assert {a.status for a in answers} == {404}


def test_the_admins_token_acts_as_a_key_of_the_house(place: Any) -> None:
    token = (place.settings.data / "admin-token").read_text().strip()
    add(place)
    assert asked(place, token, "fake/gpt").consumer.name == "house"


def test_rules_over_texts_and_waivers_of_four_eyes_are_in_force_at_the_gateway(place: Any) -> None:
    key, soon = project(place, "shop"), utc_now().date() + timedelta(days=9)
    ann, bob = (Actor("user", name, Role.ADMIN) for name in ("ann", "bob"))
    for name, licence in (("demo/open", "apache-2.0"), ("demo/other", "mit"), ("demo/nc", "cc-by-nc-4.0")):
        serve(place, name, publish(place, name, licence))
    block = place.policy.add_rule(RuleKind.BLOCK, "licence:Apache-2.0", "not in this house", actor=ann)
    no = refused(lambda: asked(place, key, "demo/open"))
    assert (no.status, no.ecotone["verdict"]) == (451, Verdict.ALLOW)
    assert "not in this house" in no.message and no.ecotone["reasons"][-1]["clause"] == f"rule {block.id}"
    assert asked(place, key, "demo/other").candidates
    waiver = place.policy.add_rule(RuleKind.WAIVER, "demo/*", "signed", actor=ann, expires=soon)
    for name in ("demo/open", "demo/nc"):
        assert refused(lambda name=name: asked(place, key, name)).status == 451
    place.policy.approve_rule(waiver.id, actor=bob)
    for name, verdict in (("demo/open", Verdict.ALLOW), ("demo/nc", Verdict.DENY)):
        ruling = asked(place, key, name).candidates[0].ruling
        assert (ruling.verdict, ruling.rules) == (verdict, (waiver.id,))
        assert "ann" in ruling.reasons[-1]["means"] and "bob" in ruling.reasons[-1]["means"]
    place.policy.remove_rule(waiver.id)
    assert refused(lambda: asked(place, key, "demo/nc")).status == 451


def test_a_rule_for_one_model_does_not_reach_another_of_its_legal_class(place: Any) -> None:
    key = project(place, "shop")
    for name in ("demo/one", "demo/two"):
        serve(place, name, publish(place, name, "apache-2.0"))
    place.policy.add_rule(RuleKind.BLOCK, "demo/one", "r", actor=SYSTEM)
    place.policy.add_rule(RuleKind.WARN, "demo/*", "be\ncareful \u2013 please", actor=SYSTEM)
    assert refused(lambda: asked(place, key, "demo/one")).status == 451
    ruling = asked(place, key, "demo/two").candidates[0].ruling
    assert ruling.allowed and ruling.warning is not None
    assert ruling.warning.startswith("be careful ? please") and ruling.warning.isprintable()


def test_the_organisations_profile_answers_at_the_gateway_and_a_project_s_own_figure_wins(place: Any) -> None:
    key = project(place, "shop")
    place.accounts.create_project(
        "crowd", mode=Mode.SERVE_API, purpose=Purpose.COMMERCIAL, variables={"org.mau_at.2024-06": 800_000_000},
        actor=SYSTEM,
    )  # fmt: skip
    crowd = str(place.accounts.create_key("crowd", actor=SYSTEM)[1])
    serve(place, "demo/Llama-shop", publish(place, "demo/Llama-shop", "llama3.1"))
    untold = refused(lambda: asked(place, key, "demo/Llama-shop")).message
    assert "monthly users of your organisation in 2024-06 (org.mau_at.2024-06; `ecotone profile set --mau" in untold
    place.policy.set_profile(Profile(mau_at={"2024-06": 123_456_789}), actor=SYSTEM)
    snapshot = place.builder.build()
    assert asked(place, key, "demo/Llama-shop").candidates[0].ruling.verdict is Verdict.ALLOW_WITH_DUTIES
    assert refused(lambda: asked(place, crowd, "demo/Llama-shop")).ecotone["verdict"] == Verdict.ASK_LICENCE
    assert b"123456789" not in msgspec.json.encode(snapshot.rulings), "figures of the profile are not handed on"


def test_a_change_that_found_no_room_on_the_disk_is_in_force_once_there_is(
    place: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key that was revoked in that moment must not stay valid."""
    place.builder.build()
    add(place, "later")

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "no room")

    with monkeypatch.context() as patching, pytest.raises(OSError, match="no room"):
        patching.setattr("ecotone.gateway.builder.save", full)
        place.builder.build()
    place.builder.build()
    assert "later" in place.builder.current.backends
    assert "later" in load(place.settings.folder("snapshot")).backends


def test_a_snapshot_that_could_not_be_read_once_is_read_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = FileSnapshots(tmp_path)
    shop = Consumer(name="shop", use="u", personal_data=PersonalData.LOCAL_ONLY, may_call_private=False)
    save(Snapshot(consumers={"shop": shop}), tmp_path)

    def crowded(_: Path) -> Snapshot:
        raise OSError(errno.EMFILE, "too many open files")

    with monkeypatch.context() as patching:
        patching.setattr("ecotone.gateway.following.load", crowded)
        found.look()
    found.look()
    assert "shop" in found.current.consumers
