"""What there is of a model whose licence ended: every derivative, copy, call and caller, with what to do about each.

Each item has a mark by which it is known again however it is called by then: `kind:...`.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from ecotone.app.usage import Usage
from ecotone.catalog import Bond, Clan, Member
from ecotone.catalog.copies import Copies, Named, Standing
from ecotone.engines import Engines
from ecotone.gateway import Backends, Routes
from ecotone.jobs import Jobs
from ecotone.storage.holding import Holdings
from ecotone.vocabulary import EdgeStatus, Relation

MOST_ITEMS = 20_000
_MOST_FILES = 10_000
_MOST_WAY = 12
BY_HAND = frozenset({"recipient", "downloads"})
_FROM_OUTPUTS = frozenset(
    {Relation.DISTILLED_LOGITS, Relation.DISTILLED_OUTPUTS, Relation.GENERATED_BY, Relation.TRAINED_ON}
)
_MUST = {
    "model": "Delete it here, or record the agreement under which you may keep it.",
    "derivative": "Delete it, or get a licence for it from whoever withdrew; what was made from a model ends with it.",
    "suspected": "Nobody has confirmed that it descends: settle that first (its evidence), then delete it if it does.",
    "outputs": "It was made from outputs, not from weights: read whether the text that ended reaches outputs.",
    "dataset": "It holds what the model wrote: read whether the text that ended reaches outputs; if so delete it.",
    "duplicate": "It holds the same weights, and no card says so: delete it, or show that it came from elsewhere.",
    "cached": "Remove the folder once no engine uses it; deleting the repository does not.",
    "object": "Goes by garbage collection once nobody names it (`ecotone gc`); backups of the store may have it too.",
    "deployment": "Stop it: `ecotone unserve`.",
    "replica": "It ends with its deployment.",
    "backend": "Call the provider no more under these terms: change or remove the backend.",
    "route": "Lead it elsewhere: `ecotone route set`.",
    "job": "Cancel it: it works with the model now.",
    "caller": "Tell whoever has the key; give the project another model.",
    "recipient": "Was let in and may hold a copy: tell them to delete it, and keep their answer.",
    "downloads": "Copies were fetched from here: tell those whom you can reach to delete theirs.",
}


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to settle. `where` is a place here, `way` how it came from the model, `must` what to do."""

    mark: str
    kind: str
    name: str
    where: str
    must: str
    revision: str | None = None
    status: str = ""
    way: tuple[str, ...] = ()
    evidence: str = ""
    figures: dict[str, Any] = {}


class Inventory:
    """Finds items, and says later where each still is. Everything is read as it is at that moment."""

    def __init__(
        self,
        *,
        copies: Copies,
        holdings: Holdings,
        engines: Engines,
        backends: Backends,
        routes: Routes,
        jobs: Jobs,
        usage: Usage,
    ) -> None:
        self._copies, self._holdings, self._engines = copies, holdings, engines
        self._backends, self._routes, self._jobs, self._usage = backends, routes, jobs, usage

    def find(self, clan: Clan, selves: tuple[str, ...], revision: str | None) -> list[Item]:
        """Everything, in the order in which it is best settled: calls first, then copies, then what was made."""
        ways: dict[str, tuple[Bond, ...]] = {**dict.fromkeys(selves, ()), **clan.descendants(selves)}
        members = {key: clan.members[key] for key in ways}
        rows = {m.row: m for m in reversed(members.values()) if m.row}
        names = {m.name.casefold() for m in members.values()}
        found = [*self._calls(members, names), *self._working(names), *self._callers(names)]
        found += self._models(clan, ways, members)
        found += self._bytes(rows, revision if revision is not None else None, clan.members[clan.subject].row)
        found += self._holders_outside(rows)
        return list({item.mark: item for item in found}.values())[:MOST_ITEMS]

    # -- calls -------------------------------------------------------------------------------------------------------
    def _calls(self, members: dict[str, Member], names: set[str]) -> Iterator[Item]:
        served = [d for d in self._engines.deployments() if {d.model.casefold(), (d.on_base or "").casefold()} & names]
        for d in served:
            yield Item(
                mark=f"deployment:{d.model}@{d.revision}",
                kind="deployment",
                name=d.model,
                revision=d.revision,
                where=f"served here by {d.kind}, {d.state}",
                must=_MUST["deployment"] + f" ({d.model})",
            )
            for replica in d.replicas:
                if replica.pid:
                    yield Item(
                        mark=f"replica:{d.model}:{replica.pid}",
                        kind="replica",
                        name=d.model,
                        where=f"process {replica.pid}, {replica.state}",
                        must=_MUST["replica"],
                    )
        terms = {i for m in members.values() if m.kind == "api" for i in m.instruments}
        providers = {m.name.partition("/")[0] for m in members.values() if m.kind == "api"}
        called = [b for b in self._backends.list() if b.name in providers or (b.terms and b.terms in terms)]
        for backend in called if terms else ():
            mark, where = f"backend:{backend.name}:{backend.terms}", f"{backend.url}, terms {backend.terms}"
            yield Item(mark=mark, kind="backend", name=backend.name, where=where, must=_MUST["backend"])
        reached = names | {f"{b.name}/".casefold() for b in called if terms}
        for route in self._routes.list():
            led = [to for to in (*route.to, route.options.shadow or "") if _leads(to, reached)]
            if led:
                kept = f"; answers are kept {route.options.cache_seconds} s" if route.options.cache_seconds else ""
                where = "leads to " + ", ".join(dict.fromkeys(led)) + kept
                yield Item(mark=f"route:{route.name}", kind="route", name=route.name, where=where, must=_MUST["route"])

    def _working(self, names: set[str]) -> Iterator[Item]:
        for job in self._jobs.list():
            told = {str(job.params.get(n, "")).casefold() for n in ("model", "to", "parent", "base")}
            if not job.state.ended and told & names:
                where = f"{job.kind}, {job.state}"
                yield Item(mark=f"job:{job.id}", kind="job", name=job.id, where=where, must=_MUST["job"])

    def _callers(self, names: set[str]) -> Iterator[Item]:
        self._usage.project()
        called: dict[tuple[str, str], dict[str, int]] = {}
        for row in self._usage.rows(("project", "key", "model")):
            if str(row["model"]).partition("@")[0].casefold() in names:
                models = called.setdefault((str(row["project"]), str(row["key"])), {})
                models[str(row["model"])] = models.get(str(row["model"]), 0) + int(row["requests"])
        for (project, key), models in sorted(called.items()):
            total = sum(models.values())
            yield Item(
                mark=f"caller:{project}:{key}",
                kind="caller",
                name=f"{project}, key {key}" if key else project,
                where=f"{total} calls so far: {', '.join(sorted(models)[:5])}",
                must=_MUST["caller"],
                figures={"requests": total, "models": sorted(models)[:200]},
            )

    # -- what was made -----------------------------------------------------------------------------------------------
    def _models(self, clan: Clan, ways: dict[str, tuple[Bond, ...]], members: dict[str, Member]) -> Iterator[Item]:
        for key, way in ways.items():
            member = members[key]
            if not member.row or member.deleted:
                continue
            kind = _kind(member, way)
            yield Item(
                mark=f"model:{member.row}",
                kind="model" if not way else "dataset" if member.kind == "dataset" else "derivative",
                name=member.name,
                revision=member.revision,
                where=f"/{member.name}" + (", private" if member.private else ""),
                must=_MUST[kind],
                status=way[-1].edge.status.value if way else "",
                way=_told(way),
                evidence=way[-1].edge.evidence[:500] if way else "",
                figures={"asserted_by": way[-1].edge.asserted_by} if way else {},
            )

    # -- bytes -------------------------------------------------------------------------------------------------------
    def _bytes(self, rows: dict[int, Member], revision: str | None, subject: int) -> Iterator[Item]:
        for copy in self._holdings.whole_copies(rows):
            if copy.row == subject and revision is not None and copy.revision != revision:
                continue
            yield Item(
                mark=f"cached:{copy.folder}",
                kind="cached",
                name=rows[copy.row].name,
                revision=copy.revision,
                where=f"materialised/{copy.folder}, {copy.size:,} bytes",
                must=_MUST["cached"],
            )
        named = self._copies.named_by(rows, _MOST_FILES)
        weights = {n.name: n for n in reversed(named) if n.is_weights}
        for held in self._holdings.of(weights):
            yield Item(
                mark=f"object:{held.tenant}:{held.form}:{held.sha256}",
                kind="object",
                name=f"{rows[weights[held.sha256].row].name}: {weights[held.sha256].path or 'a file'}",
                where=_held_where(held.form, held.tenant, held.condemned) + f", sha256 {held.sha256}",
                must=_MUST["object"],
                figures={"bytes": held.size},
            )
        yield from self._duplicates(rows, weights)

    def _duplicates(self, rows: dict[int, Member], weights: dict[str, Named]) -> Iterator[Item]:
        elsewhere = [n for n in self._copies.naming(weights, _MOST_FILES) if n.row not in rows]
        standing = self._copies.standing(n.row for n in elsewhere)
        for row, name in {n.row: n.name for n in elsewhere}.items():
            if row in standing:
                yield Item(
                    mark=f"model:{row}",
                    kind="duplicate",
                    name=standing[row].name,
                    revision=standing[row].head,
                    where=f"/{standing[row].name} holds sha256 {name} of {rows[weights[name].row].name}",
                    must=_MUST["duplicate"],
                )

    def _holders_outside(self, rows: dict[int, Member]) -> Iterator[Item]:
        for row, user in self._copies.let_in(rows, _MOST_FILES):
            name = f"{user}, let into {rows[row].name}"
            mark = f"recipient:{row}:{user}"
            yield Item(mark=mark, kind="recipient", name=name, where="outside", must=_MUST["recipient"])
        for row, found in self._copies.standing(rows).items():
            if found.downloads:
                where = f"outside, {found.downloads} downloads were counted"
                mark = f"downloads:{row}"
                yield Item(mark=mark, kind="downloads", name=found.name, where=where, must=_MUST["downloads"])

    # -- later -------------------------------------------------------------------------------------------------------
    def still(self, items: Iterable[Item]) -> dict[str, str]:
        """Where items still are, by mark; what is not in it is gone."""
        wanted = list(items)
        found: dict[str, str] = {}
        by_kind: dict[str, list[Item]] = {}
        for item in wanted:
            by_kind.setdefault(item.mark.partition(":")[0], []).append(item)
        found |= self._still_models(by_kind.get("model", []))
        found |= self._still_bytes(by_kind.get("object", []), by_kind.get("cached", []))
        found |= self._still_called(by_kind)
        return found

    def _still_models(self, items: list[Item]) -> dict[str, str]:
        rows = {int(item.mark.partition(":")[2]): item for item in items}
        standing: dict[int, Standing] = self._copies.standing(rows)
        return {
            rows[row].mark: f"/{s.name}" + ("" if s.name == rows[row].name else f", which was {rows[row].name}")
            for row, s in standing.items()
            if s.living
        }

    def _still_bytes(self, objects: list[Item], cached: list[Item]) -> dict[str, str]:
        hashes = {item.mark.rpartition(":")[2] for item in objects}
        held = {f"object:{h.tenant}:{h.form}:{h.sha256}": h for h in self._holdings.of(hashes)}
        found = {
            item.mark: _held_where(h.form, h.tenant, h.condemned)
            for item in objects
            if (h := held.get(item.mark)) is not None
        }
        rows = {int(item.mark.partition(":")[2].partition("-")[0]) for item in cached}
        there = {f"cached:{c.folder}" for c in self._holdings.whole_copies(rows)}
        return found | {item.mark: item.where for item in cached if item.mark in there}

    def _still_called(self, by_kind: dict[str, list[Item]]) -> dict[str, str]:
        found: dict[str, str] = {}
        deployments = self._engines.deployments()
        there = {f"deployment:{d.model}@{d.revision}": f"{d.kind}, {d.state}" for d in deployments}
        there |= {f"replica:{d.model}:{r.pid}": f"process {r.pid}" for d in deployments for r in d.replicas if r.pid}
        there |= {f"backend:{b.name}:{b.terms}": b.url for b in self._backends.list()}
        there |= {f"job:{j.id}": f"{j.kind}, {j.state}" for j in self._jobs.list() if not j.state.ended}
        for item in (i for kind in ("deployment", "replica", "backend", "job") for i in by_kind.get(kind, [])):
            if item.mark in there:
                found[item.mark] = there[item.mark]
        leading = {r.name: [*r.to, *([r.options.shadow] if r.options.shadow else [])] for r in self._routes.list()}
        for item in by_kind.get("route", []):
            was = item.where.removeprefix("leads to ").partition(";")[0].split(", ")
            still = [to for to in leading.get(item.name, []) if to in was]
            if still:
                found[item.mark] = "leads to " + ", ".join(still)
        return found | self._still_calling(by_kind.get("caller", []))

    def _still_calling(self, items: list[Item]) -> dict[str, str]:
        if not items:
            return {}
        self._usage.project()
        now: dict[str, int] = {}
        rows = self._usage.rows(("project", "key", "model"))
        models = {m for item in items for m in item.figures.get("models", ())}
        for row in rows:
            if row["model"] in models:
                mark = f"caller:{row['project']}:{row['key']}"
                now[mark] = now.get(mark, 0) + int(row["requests"])
        more = {item.mark: now.get(item.mark, 0) - int(item.figures.get("requests", 0)) for item in items}
        return {mark: f"{count} calls since" for mark, count in more.items() if count > 0}


def _kind(member: Member, way: tuple[Bond, ...]) -> str:
    if not way:
        return "model"
    if any(bond.edge.status is EdgeStatus.SUSPECTED for bond in way):
        return "suspected"
    if member.kind == "dataset":
        return "dataset"
    return "outputs" if any(bond.edge.relation in _FROM_OUTPUTS for bond in way) else "derivative"


def _told(way: tuple[Bond, ...]) -> tuple[str, ...]:
    return tuple(f"{b.child} <- {b.parent} ({b.edge.relation}, {b.edge.status})" for b in way[:_MOST_WAY])


def _leads(candidate: str, names: set[str]) -> bool:
    folded = candidate.casefold()
    return folded.partition("@")[0] in names or folded.partition("/")[0] + "/" in names


def _held_where(form: str, tenant: str, condemned: bool) -> str:
    whose = f"namespace {tenant}" if tenant else "the store, named by nobody"
    return f"{form.upper() if form == 'lfs' else 'Xet'}, {whose}" + (
        ", waits for garbage collection" if condemned else ""
    )
