"""The built application with something of each kind on its pages: what a house holds after some years of use.

Names are long, in emoji and from right to left; histories, tables and texts are longer than a page or wider than a
telephone; there is a repository of each kind that is public, private, gated and empty.
"""

import random
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from ecotone.accounts import SYSTEM, Actor, Bounds, KeyTerms
from ecotone.catalog import Model
from ecotone.engines import Options
from ecotone.gateway import Allowance, RouteOptions
from ecotone.gateway.counters import Counters, kept
from ecotone.publishing import AddLarge, AddRegular, Commit, Delete
from ecotone.vocabulary import Location, Mode, Purpose, RepoType, Role, Tier
from ecotone.webhooks.entities import Watched
from tests.hub.built import Built
from tests.web.conftest import MEASURED, NAMES, PIXEL, SVG, weights

LONG = "a-name-as-long-as-the-hub-lets-it-be-and-without-any-place-at-which-a-line-could-end-012"
HEBREW = "\u05e9\u05dc\u05d5\u05dd \u05e2\u05d5\u05dc\u05dd"
EMOJI = "\U0001f980\U0001f33f\U0001f469\u200d\U0001f469\u200d\U0001f467"
COMMITS = 56
LINE = "a line that is longer than any telephone is wide, with one_word_" + "without_an_end_" * 9

CARD = (
    "---\nlicense: apache-2.0\nbase_model: google-bert/bert-base-uncased\npipeline_tag: sentence-similarity\n"
    f"tags:\n- geography\n- {'very-' * 12}long-tag\n---\n# Atlas {EMOJI}\n\n{HEBREW}\n\n"
    + "".join(
        f"## Part {number}\n\nKnows **144 facts** about [places](docs/notes.md). {LINE}\n\n"
        "| question | answer | source | page | year |\n|---|---|---|---|---|\n"
        f"| capital of Chile | Santiago | {LINE} | 1 | 2026 |\n\n```python\nprint('{LINE}')\n```\n\n"
        for number in range(6)
    )
)


class Everything(Built):
    """`.wanda` writes and owns, `.rita` reads, `.ada` administers; `.tokens` has their tokens by role."""

    def __init__(self, data: Path, **settings: Any) -> None:
        super().__init__(data, **settings)
        accounts = self.services.accounts
        self.wanda, self.rita = Actor("user", "wanda", Role.WRITE), Actor("user", "rita", Role.READ)
        self.tokens["admin"] = accounts.create_token("ada", Role.ADMIN, "for the pages " + EMOJI)[1]
        self.viewers = {
            "anonymous": None,
            "reader": self.tokens["reader"],
            "writer": self.tokens["other"],
            "administrator": self.tokens["admin"],
        }
        self._models()
        self._others()
        self._people()
        self._gateway()
        self._deployments()
        self._calls()
        self.services.drill("wanda/atlas", self.ada, reason=LINE)

    # -- repositories ------------------------------------------------------------------------------------------------
    def _made(self, repo_id: str, files: dict[str, bytes], kind: RepoType = RepoType.MODEL, **settings: Any) -> Model:
        catalog = self.services.catalog
        made = catalog.create(repo_id, repo_type=kind, private=settings.pop("private", False), actor=SYSTEM)
        if files:
            self._commit(made, {path: data for path, data in files.items() if data is not None})
        if settings:
            made = catalog.update(made, actor=SYSTEM, **settings)
        return catalog.model(repo_id, viewer=SYSTEM, repo_type=kind)

    def _commit(self, model: Model, files: dict[str, bytes], message: str = "Add", **more: Any) -> str:
        operations = tuple(AddRegular(path, data) for path, data in files.items()) + more.pop("also", ())
        changes = Commit(message=message, operations=operations, **more)
        done = self.services.publishing.commit(model.id, "main", changes, actor=self.ada, repo_type=model.repo_type)
        return str(done.revision_id)

    ada = Actor("user", "ada", Role.ADMIN)

    def _models(self) -> None:
        catalog = self.services.catalog
        readme = {"README.md": CARD.encode()}
        config = b'{"architectures": ["BertModel"], "model_type": "bert"}'
        atlas = self._made(
            "wanda/atlas",
            readme | {"config.json": config, "model.safetensors": weights(), "docs/notes.md": b"Notes\n", "empty": b""},
        )
        large = bytes(range(256)) * 9
        self.commit("models/wanda/atlas", {}, {"weights.bin": large})
        for number in range(COMMITS):
            text = "".join(f"{line} {LINE}\n" for line in range(4 + number % 3))
            title = f"Step {number} {HEBREW if number % 9 == 1 else EMOJI if number % 9 == 2 else ''}"
            self._commit(atlas, {"docs/steps.txt": f"{number}\n{text}".encode()}, title)
        self._commit(atlas, {"docs/notes.md": b"Notes: other\n"}, "Say more " + LINE, description=LINE)
        gone = (Delete("docs/steps.txt"),)
        self._commit(atlas, dict.fromkeys(NAMES, b"text\n") | {"pixel.png": PIXEL, "evil.svg": SVG}, "Names", also=gone)
        catalog.create_branch(atlas, "side/branch", actor=SYSTEM)
        catalog.create_branch(atlas, LONG, actor=SYSTEM)
        for tag in ("v1", "v2-" + LONG):
            catalog.create_tag(atlas, tag, actor=SYSTEM, message="A tag")
        atlas = catalog.model("wanda/atlas", viewer=SYSTEM)
        catalog.add_measurement(atlas.id, atlas.head, "weat", MEASURED, SYSTEM)
        self._talk(atlas)
        served = {"config.json": config, "model.safetensors": weights()}
        self._made(f"team/{LONG}", readme | served)
        self._made("team/long", {"README.md": CARD.encode() + f"{LINE}\n\n".encode() * 700}, gated="auto")
        for kind in RepoType:
            self._made("team/bare", {}, kind)
        self._made("team/hidden", readme, private=True)
        parents = "base_model:\n- wanda/atlas\n- team/hidden\ndatasets: wanda/rows\n"
        child = f"---\nlicense: apache-2.0\n{parents}---\n# Rivers\n"
        self._made("team/rivers", {"README.md": child.encode()})

    def _others(self) -> None:
        readme = {"README.md": f"---\nlicense: mit\n---\n# Rows {HEBREW}\n".encode()}
        for kind, name in ((RepoType.DATASET, "rows"), (RepoType.SPACE, "app")):
            found = self._made(f"wanda/{name}", readme | {"docs/notes.md": b"Notes\n", "pixel.png": PIXEL}, kind)
            self._made(f"only-{kind.value}s/{name}", readme, kind)
            self.services.catalog.create_tag(found, "v1", actor=SYSTEM)
            self.services.reviews.open(found, "Which rows?", "These.", actor=self.rita)
        for kind in RepoType:
            for gate in ("auto", "manual"):
                data = {"README.md": readme["README.md"], "docs/notes.md": b"Notes\n"}
                gated = self._made(f"wanda/gated-{gate}-{kind.value}", data, kind, gated=gate)
                self.services.catalog.ask_access(gated, self.rita)
        asked = self.services.catalog.model("wanda/gated-manual-model", viewer=SYSTEM)
        for number in range(3):
            reader = Actor("user", f"reader-{number}", Role.READ)
            self.services.accounts.create_token(reader.name, Role.READ)
            self.services.catalog.ask_access(asked, reader)
        self.services.catalog.handle_access(asked, actor=SYSTEM, status="rejected", user="reader-1", reason=LINE)
        self.services.catalog.handle_access(asked, actor=SYSTEM, status="accepted", user="reader-2")

    def _talk(self, model: Model) -> None:
        """A discussion (1), pull requests without (2) and with a conflict (3), of a large file (4), a closed one."""
        reviews, rita = self.services.reviews, self.rita
        reviews.open(
            model, f"Does it know {HEBREW} {EMOJI} {LINE}?"[:200], f"I asked.\n\n```\n{LINE}\n```\n", actor=rita
        )
        reviews.comment(model, 1, "It does.", actor=self.wanda)
        hidden = reviews.comment(model, 1, "Hidden words", actor=rita)
        reviews.hide(model, 1, hidden.id, actor=rita)
        reviews.rename(model, 1, f"Does it know {HEBREW}?", actor=rita)

        def change(path: str, data: bytes, title: str) -> Commit:
            return Commit(message=title, operations=(AddRegular(path, data),))

        reviews.propose(model.id, "main", change("docs/limits.md", f"{LINE}\n".encode() * 9, "Limits"), actor=rita)
        reviews.propose(model.id, "main", change("docs/notes.md", b"Mine\n", "Notes"), actor=rita)
        self._commit(model, {"docs/notes.md": b"Theirs\n"}, "Other notes")
        sha = next(f.content.sha256 for f in self.services.catalog.files(self._head(model)) if f.path == "weights.bin")
        large = Commit(message="Move weights", operations=(AddLarge("moved.bin", sha), Delete("weights.bin")))
        reviews.propose(model.id, "main", large, actor=self.wanda)
        reviews.open(model, "An old question", "Answered.", actor=rita)
        reviews.set_status(model, 5, "closed", actor=rita)
        for number in range(31):
            reviews.open(model, f"Question {number}", "What?", actor=rita)

    def _head(self, model: Model) -> Any:
        return self.services.catalog.revision(self.services.catalog.model(model.id, viewer=SYSTEM))

    # -- what belongs to people --------------------------------------------------------------------------------------
    def _people(self) -> None:
        catalog, webhooks = self.services.catalog, self.services.webhooks
        for owner, actor in (("wanda", self.wanda), ("ada", self.ada)):
            made = catalog.create_collection(owner, f"Maps {EMOJI} {HEBREW}", actor=actor, description=LINE[:140])
            for kind, name in (
                ("model", "wanda/atlas"),
                ("model", "team/hidden"),
                ("dataset", "wanda/rows"),
                ("space", "wanda/app"),
            ):
                made = catalog.add_item(made.slug, kind, name, actor=actor, note=LINE[:150])
        catalog.create_collection("wanda", "Nothing yet", actor=self.wanda, private=True)
        self.hooks = {}
        for actor in (self.rita, self.wanda, self.ada):
            if actor.may_write:
                url = f"https://ci.example.org/{'a-long-path/' * 9}hook"
                made = webhooks.create(
                    url, [Watched("model", "wanda/atlas"), Watched("org", "team")], ["repo"], actor=actor
                )
                self.hooks[actor.name] = made.id
        self._commit(catalog.model("wanda/atlas", viewer=SYSTEM), {"docs/last.md": b"x\n"}, "Tell the hooks")
        for parcel in webhooks.due()[0]:
            webhooks.settle(parcel, status=503, problem="answered 503 Service Unavailable: " + LINE[:100])
        self.answered = "req-of-the-pages"
        refused = {"request_id": self.answered, "model": "wanda/atlas", "project": "house", "reasons": []}
        self.services.ledger_writer.append("refused", refused | {"error": LINE}, flush=True)
        self.devices = {
            n: self.services.devices.begin(f"hf {EMOJI}", client="192.0.2.1").user_code for n in self.viewers
        }

    # -- the gateway -------------------------------------------------------------------------------------------------
    def _gateway(self) -> None:
        """A project with every bound and keys in every state, a backend, routes of two strategies."""
        accounts, limits, ada = self.services.accounts, self.services.limits, self.ada
        name = "a-project-with-a-long-name-" + "x" * 37
        bounds = Bounds(owners=("wanda",), models=("openai/*", "assistant"), networks=("10.0.0.0/8",), tags=("web",))
        use: dict[str, Any] = {"mode": Mode.SERVE_API, "purpose": Purpose.COMMERCIAL, "actor": ada}
        accounts.create_project(name, bounds=bounds, **use)
        terms = KeyTerms(note=f"The shop {EMOJI} {HEBREW} {LINE}"[:200], models=("openai/gpt-4o-mini",))
        for number in range(4):
            made, _ = accounts.create_key(name, terms=terms, actor=ada)
            if number == 1:
                accounts.revoke_key(made.id, actor=ada)
            elif number == 2:
                accounts.rotate_key(made.id, overlap=timedelta(days=1), actor=ada)
        gone, _ = accounts.create_token("gina", Role.ADMIN)
        accounts.create_key(name, actor=Actor("user", "gina", Role.ADMIN))
        accounts.revoke_token(gone.id)
        provider: dict[str, Any] = {
            "dialect": "openai",
            "location": Location.EXTERNAL,
            "tier": Tier.PAID,
        }
        url = "https://models.example.org/" + "a-long-path/" * 9 + "v1"
        self.services.backends.add("provider", url=url, key_env=None, terms=None, actor=ada, **provider)
        options = RouteOptions(shadow="provider/other", shadow_share=0.1, cache_seconds=60, sticky=True, alias=True)
        two = ("provider/" + "long-model-name-" * 6, "wanda/atlas")
        self.services.routes.set("assistant", two, strategy="weighted", weights=(3.0, 1.0), options=options, actor=ada)
        self.services.routes.set("r-" + LONG[:80], two, actor=ada)
        allowance = Allowance(requests=600, tokens=2_000_000, concurrent=16, budgets=("50USD/month", "2.5USD/day"))
        for scope in (f"project:{name}", f"project:{name}/user:*", f"project:{name}/tag:web", "organisation"):
            limits.set(scope, allowance, actor=ada)
        limits.set("backend:provider", allowance, actor=ada)
        settled = {"request_id": "req-spent", "project": name, "model": "provider/x", "cost_usd": 12.345678}
        self.services.ledger_writer.append("settled", settled, flush=True)

    def _deployments(self) -> None:
        """Two that no call has started yet, so that nothing runs: the servers that would answer are elsewhere."""
        for model, more in (("wanda/atlas", {}), (f"team/{LONG}", {"url": "http://127.0.0.1:9/" + "a-long-path/" * 9})):
            options = Options(kind="openai", on_demand=True, **({"url": "http://127.0.0.1:9/v1"} | more))
            self.services.engines.serve(model, "main", (), self.ada, options)

    def _calls(self) -> None:
        """A month of traffic of many projects with long names, and requests that ended in each way."""
        history, dice, now = self.services.watch.history, random.Random(1), time.time()
        projects = ("shop", "support", LONG, f"{HEBREW}-{EMOJI}", *(f"team-{number}" for number in range(9)))
        found = Counters()
        for step in range(180, 0, -1):
            for place, project in enumerate(projects):
                for _ in range(1 + (step * 7 + place * 3) % (40 // (place + 1) + 1)):
                    self._count(found, dice, project)
            history.take({"past": kept(found)}, now - step * (30 if step < 100 else 900 if step < 140 else 14_400))
        self._count(found, dice, "shop")
        history.take({"past": kept(found)}, now)
        self._requests()

    @staticmethod
    def _count(found: Counters, dice: random.Random, project: str) -> None:
        took = dice.lognormvariate(0.3, 0.7)
        status = dice.choices(("done", "failed", "client_gone"), (95, 4, 1))[0]
        told = (project, dice.choice(("assistant", None)), dice.choice(("local", "openai", LONG)), "m", "chat", status)
        used = (dice.randrange(3000), dice.randrange(900), dice.randrange(9_000_000_000))
        found.done(*told, *used, took / 5 if status == "done" else None, took)

    def _requests(self) -> None:
        write = self.services.ledger_writer.append
        decision = {
            "verdict": "allow_with_duties",
            "message": "wanda/atlas may be called",
            "rules": ["r-1"],
            "knowledge_base": "2026.11.24",
            "reasons": [{"entry": "Apache-2.0", "clause": "2", "means": "grants use " + LINE, "evaluation": "true"}],
            "duties": [{"text": "keep the notice " + LINE}],
        }
        for number in range(60):
            told = {"request_id": f"req-pages-{number}", "project": "shop" if number % 3 else LONG, "face": "chat"}
            model = {"model": f"openai/{LONG}", "backend": "openai"}
            more = {"asked": "assistant", "route": "assistant", "data_class": "personal", "kinds": {"email": 2}}
            why = f"personal; data class personal: kept from the external model {LONG}; fallback; wanda/atlas failed"
            write("opened", told | model | more | {"decision": decision, "why": why, "stream": True})
            write(
                "failed", {**told, "model": "wanda/atlas", "backend": "local", "error": "engine_died", "seconds": 0.2}
            )
            ended = {
                "status": "done" if number % 5 else "upstream_died",
                "error": None if number % 5 else "upstream_died",
            }
            used = {"prompt_tokens": 12_345, "completion_tokens": 678, "cached_tokens": 90, "cost": 4_200_000_000}
            times = {"first": 0.21, "seconds": 3.4, "estimate": number % 7 == 0}
            if number != 59:
                write("settled", told | model | ended | used | times)
        refused = {"request_id": "req-pages-refused", "project": "shop", "asked": "wanda/atlas", "status": 451}
        no = decision | {"verdict": "deny", "would_allow": [{"change": "purpose research", "verdict": "allow"}]}
        write("refused", refused | {"code": "policy_denied", "message": LINE, "decision": no}, flush=True)
        budget = {"scope": f"project:{LONG}/user:{LONG}", "value": "1 USD", "window": "2026-11", "opens": None}
        spent = {"status": 429, "code": "budget_exceeded", "message": LINE, "decision": {}, "budget": budget}
        write("refused", refused | {"request_id": "req-pages-spent"} | spent, flush=True)
