"""Which answers change if a parent's licence or terms change: models, deployments, backends, routes and projects.

Everything is judged twice on one day, as things are and as they would be, so that what differs comes from the text. A
model is judged for the use that was asked, else for what each project declares; a call always for what its project
declares. Nothing is changed by asking.
"""

from collections.abc import Iterable, Iterator
from datetime import date
from typing import Any

import msgspec

from ecotone.accounts import SYSTEM, Accounts, Actor, Project
from ecotone.app.effects import CallChange, Change, Effects, ModelChange, Question, RouteChange
from ecotone.catalog import UNTOLD, Bond, Catalog, Clan, Member, ModelNotFound
from ecotone.engines import Engines
from ecotone.gateway import Backend, Backends, Route, Routes
from ecotone.licences import Decision, Family, Use
from ecotone.policy import Action, Outcome, Policy, RuleKind, Stance
from ecotone.policy.clans import ClanVerdicts
from ecotone.policy.decide import deciding
from ecotone.policy.hypotheses import Hypothesis, suppose
from ecotone.vocabulary import EcotoneError, EdgeStatus, Invalid

MOST_CHANGED = 1000
_MOST_WAY = 40


class Impact:
    """Answers "what if" over catalogue, engines, routes and projects."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        policy: Policy,
        accounts: Accounts,
        engines: Engines,
        backends: Backends,
        routes: Routes,
    ) -> None:
        self._catalog, self._policy, self._accounts = catalog, policy, accounts
        self._engines, self._backends, self._routes = engines, backends, routes

    def of(self, question: Question, *, viewer: Actor) -> Effects:
        """What would differ, as far as the viewer may see models.

        Raises:
            ModelNotFound: when nothing is known under the model's name.
            Invalid: for a licence that the knowledge base does not have, or a revision that nothing names.
        """
        clan = self._clan(question.model, viewer)
        selves = _selves(clan, question.revision)
        subject = clan.members[clan.subject]
        replaced = tuple(dict.fromkeys(i for key in selves for i in clan.members[key].instruments))
        stance, hypothesis = suppose(self._policy.stance(), question.licence, replaced, question.day)
        asking = _Asking(stance, hypothesis, subject, question)
        projects = self._accounts.projects()
        before = ClanVerdicts(stance, clan)
        after = ClanVerdicts(stance, clan, dict.fromkeys(selves, hypothesis.instruments))
        uses = _uses(projects, asking)
        if question.use is not None:
            uses = [(("the use asked",), asking.dated(question.use))]
        found = list(_changed_models(clan, selves, uses, before, after, hypothesis))
        calls = _Calls(self, asking, projects)
        counts: dict[str, int] = {}
        for model in found:
            for change in model.changes[:1]:
                counts[f"{change.before} -> {change.after}"] = counts.get(f"{change.before} -> {change.after}", 0) + 1
        changes = [change for model in found for change in model.changes]
        changes += [change for call in (*calls.deployments, *calls.backends) for change in call.changes]
        return Effects(
            model=subject.name,
            revision=question.revision,
            licence=question.licence,
            title=hypothesis.title,
            replaces=replaced,
            day=str(stance.today),
            looked_at=len(clan.descendants(selves)) + len(selves),
            changed=len(found),
            counts=dict(sorted(counts.items())),
            models=tuple(found[:MOST_CHANGED]),
            deployments=tuple(calls.deployments),
            backends=tuple(calls.backends),
            routes=tuple(calls.routes(self._routes.list())),
            projects=tuple(sorted({w for c in changes for w in c.who} & {p.name for p in projects})),
            in_doubt=tuple(_in_doubt(clan, selves, {m.model for m in found}))[:MOST_CHANGED],
            held_by=tuple(_holding(stance, subject)),
            cut=clan.cut,
            knowledge_base=self._policy.stance().knowledge.version,
        )

    def asked(
        self,
        model: str,
        licence: str,
        *,
        viewer: Actor,
        revision: str | None = None,
        day: date | None = None,
        use: Use | None = None,
    ) -> Effects:
        """The same in words of faces, which know no question."""
        return self.of(Question(model=model, licence=licence, revision=revision, day=day, use=use), viewer=viewer)

    def _clan(self, name: str, viewer: Actor) -> Clan:
        try:
            return self._catalog.clan(name, viewer=viewer)
        except ModelNotFound:
            backend = next((b for b in self._backends.list() if b.name == name.partition("/")[0]), None)
            if backend is None:
                raise
        terms = (backend.terms,) if backend.terms else ("unknown",)
        return Clan(subject=name, members={name: Member(key=name, name=name, kind="api", instruments=terms)}, bonds=())

    # -- calls -------------------------------------------------------------------------------------------------------
    def served(self) -> Iterator[tuple[str, str, tuple[str, ...], Family]]:
        """Every deployment: its model, revision, the projects that may call it (any when empty), its family."""
        for deployment in self._engines.deployments():
            try:
                model = self._catalog.model(deployment.model, viewer=SYSTEM)
                revision = self._catalog.revision(model, deployment.revision)
                family = self._catalog.family(model, revision, viewer=SYSTEM)
            except EcotoneError:  # it went away meanwhile
                continue
            yield deployment.model, deployment.revision, tuple(deployment.projects), family

    def called(self, subject: Member) -> Iterator[tuple[Backend, Family]]:
        """Backends through which the subject's terms are met."""
        for backend in self._backends.list():
            terms = [backend.terms] if backend.terms else []
            ours = backend.name == subject.name.partition("/")[0]
            if subject.kind == "api" and (ours or set(terms) & set(subject.instruments)):
                yield backend, self._policy.api_family(backend.name, terms)


class _Asking:
    """One question with what it means for any family."""

    def __init__(self, stance: Stance, hypothesis: Hypothesis, subject: Member, question: Question) -> None:
        self.stance, self.hypothesis, self.subject = stance, hypothesis, subject
        self._revision, self._day = question.revision, question.day

    def dated(self, use: Use, **more: Any) -> Use:
        return msgspec.structs.replace(use, date=self._day or use.date, variables=use.variables | more)

    def supposed(self, family: Family) -> Family | None:
        """The family under the hypothesis; None when it does not concern it."""
        node = family.nodes.get(self.subject.name)
        if node is None or (self._revision is not None and node.revision != self._revision):
            return None
        changed = msgspec.structs.replace(node, instruments=self.hypothesis.instruments)
        return msgspec.structs.replace(family, nodes=family.nodes | {node.id: changed})

    def outcome(self, family: Family, use: Use) -> tuple[Decision, Outcome]:
        decision = self.stance.judge_family(family, use)
        return decision, self.stance.outcome(decision, Action.CALL, family)


class _Calls:
    """Deployments and backends that the question concerns, with what each project may call before and after."""

    def __init__(self, impact: Impact, asking: _Asking, projects: list[Project]) -> None:
        self._asking = asking
        self._reach: dict[tuple[str, str], tuple[bool, bool]] = {}
        self.deployments: list[CallChange] = []
        self.backends: list[CallChange] = []
        for model, revision, limited, family in impact.served():
            after = asking.supposed(family)
            some = [p for p in projects if not limited or p.name in limited]
            changes = self._changes(model, family, after or family, some, {})
            if changes:
                self.deployments.append(CallChange(name=model, revision=revision, changes=changes))
        for backend, family in impact.called(asking.subject):
            node = msgspec.structs.replace(family.nodes[family.subject], instruments=asking.hypothesis.instruments)
            after = msgspec.structs.replace(family, nodes={node.id: node})
            changes = self._changes(backend.name, family, after, projects, {"account.tier": backend.tier.value})
            if changes:
                self.backends.append(CallChange(name=backend.name, revision=None, changes=changes))

    def _changes(
        self, name: str, family: Family, after: Family, projects: Iterable[Project], more: dict[str, Any]
    ) -> tuple[Change, ...]:
        found: dict[bytes, Change] = {}
        for project in projects:
            use = self._asking.dated(project.use(), **more)
            mark = msgspec.json.encode(use, order="sorted")
            if mark in found:
                found[mark] = msgspec.structs.replace(found[mark], who=(*found[mark].who, project.name))
            else:
                old = self._asking.outcome(family, use)
                new = old if after is family else self._asking.outcome(after, use)
                found[mark] = _change((project.name,), use, old, new, self._asking.hypothesis)
            self._reach[name, project.name] = (found[mark].allowed_before, found[mark].allowed_after)
        return tuple(change for change in found.values() if _differs(change))

    def routes(self, routes: Iterable[Route]) -> Iterator[RouteChange]:
        changed = {c.name for c in (*self.deployments, *self.backends)}
        for route in routes:
            named = [*route.to, *([route.options.shadow] if route.options.shadow else [])]
            touched = tuple(to for to in dict.fromkeys(named) if self._target(to, changed) is not None)
            if touched:
                yield RouteChange(route=route.name, candidates=touched, projects=tuple(self._concerned(route)))

    def _concerned(self, route: Route) -> Iterator[dict[str, Any]]:
        known = {name for name, _ in self._reach}
        for project in sorted({project for _, project in self._reach}):
            reached = [(to, self._reach.get((self._target(to, known) or "", project))) for to in route.to]
            before = [to for to, found in reached if found is not None and found[0]]
            after = [to for to, found in reached if found is not None and found[1]]
            if before != after:
                others = [to for to, found in reached if found is None]
                yield {"project": project, "before": before, "after": after, "not_concerned": others}

    @staticmethod
    def _target(candidate: str, names: set[str]) -> str | None:
        model, provider = candidate.partition("@")[0], candidate.partition("/")[0]
        return model if model in names else provider if provider in names else None


# -- models ----------------------------------------------------------------------------------------------------------
def _selves(clan: Clan, revision: str | None) -> tuple[str, ...]:
    if revision is None:
        return clan.selves
    found = tuple(key for key in clan.selves if clan.members[key].revision == revision)
    if not found:
        raise Invalid(
            f"{revision[:60]!r} is neither the newest revision of {clan.subject} nor one that a child names; "
            "leave it out to mean all.",
            param="revision",
        )
    return found


def _uses(projects: Iterable[Project], asking: _Asking) -> list[tuple[tuple[str, ...], Use]]:
    """Uses that projects declare, each once with the projects that have it."""
    found: dict[bytes, tuple[tuple[str, ...], Use]] = {}
    for project in projects:
        use = asking.dated(project.use())
        mark = msgspec.json.encode(use, order="sorted")
        found[mark] = ((*found.get(mark, ((), use))[0], project.name), use)
    return list(found.values())


def _changed_models(
    clan: Clan,
    selves: tuple[str, ...],
    uses: list[tuple[tuple[str, ...], Use]],
    before: ClanVerdicts,
    after: ClanVerdicts,
    hypothesis: Hypothesis,
) -> Iterator[ModelChange]:
    made: dict[tuple[Any, ...], Change] = {}
    ways: dict[str, tuple[Bond, ...]] = {**dict.fromkeys(selves, ()), **clan.descendants(selves)}
    for key, way in ways.items():
        member = clan.members[key]
        changes = []
        for who, use in uses:
            old, new = before.outcome(key, use), after.outcome(key, use)
            mark = (who, id(old), id(new))
            if mark not in made:
                pair = (before.decision(key, use), old), (after.decision(key, use), new)
                made[mark] = _change(who, use, *pair, hypothesis)
            changes += [made[mark]] if _differs(made[mark]) else []
        if changes and member.visible:
            yield ModelChange(
                model=member.name,
                revision=member.revision,
                kind=member.kind,
                private=member.private,
                deleted=member.deleted,
                way=tuple(_step(bond, clan) for bond in way[:_MOST_WAY]),
                changes=tuple(changes),
            )


def _in_doubt(clan: Clan, selves: tuple[str, ...], changed: set[str]) -> Iterator[str]:
    """Members that are reached through a suspected edge: it is not counted until somebody settles it."""
    for key, way in clan.descendants(selves).items():
        member = clan.members[key]
        suspected = any(bond.edge.status is EdgeStatus.SUSPECTED for bond in way)
        if suspected and member.visible and member.name not in changed:
            yield member.name


def _step(bond: Bond, clan: Clan) -> dict[str, str]:
    parent, child = clan.members[bond.parent], clan.members[bond.child]
    return {
        "parent": parent.key if parent.visible else UNTOLD,
        "child": child.key if child.visible else UNTOLD,
        "relation": bond.edge.relation.value,
        "status": bond.edge.status.value,
    }


def _change(
    who: tuple[str, ...],
    use: Use,
    before: tuple[Decision, Outcome],
    after: tuple[Decision, Outcome],
    hypothesis: Hypothesis,
) -> Change:
    (old, ruled), (new, ruling) = before, after
    duties = [{f"{d.duty} ({d.entry}, {d.clause})" for d in decision.duties} for decision in (old, new)]
    return Change(
        who=who,
        mode=use.mode.value,
        purpose=use.purpose.value,
        before=old.verdict.value,
        after=new.verdict.value,
        allowed_before=ruled.allowed,
        allowed_after=ruling.allowed,
        clause=_clause(old, new, hypothesis),
        gained=tuple(sorted(duties[1] - duties[0]))[:20],
        lost=tuple(sorted(duties[0] - duties[1]))[:20],
    )


def _differs(change: Change) -> bool:
    answers = (change.before, change.allowed_before), (change.after, change.allowed_after)
    return answers[0] != answers[1] or bool(change.gained or change.lost)


def _clause(old: Decision, new: Decision, hypothesis: Hypothesis) -> dict[str, str] | None:
    """What decides: where it gets worse a reason of the new text, where it gets better what no longer holds."""
    better = new.verdict.rank > old.verdict.rank
    reasons = deciding((old if better else new).to_json())
    ours = [r for r in reasons if (r["entry"] in hypothesis.instruments) is not better] or reasons
    if not ours:
        return None
    found = {name: str(ours[0][name]) for name in ("entry", "clause", "means")}
    return found | {"holds": "no more" if better else "then"}


def _holding(stance: Stance, subject: Member) -> Iterator[str]:
    """Rules that conclude another licence for the model, or hold an agreement, whatever it says itself."""
    names = (subject.name, f"{subject.name.partition('/')[0]}/*")
    for rule in stance.rules:
        kinds = (RuleKind.CONCLUDED, RuleKind.AGREEMENT)
        if rule.kind in kinds and rule.in_force(stance.today) and rule.speaks_of(names):
            yield f"rule {rule.id} ({rule.kind.value}): {rule.told}"
