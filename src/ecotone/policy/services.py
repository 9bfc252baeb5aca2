"""Policy over the catalogue: judges a model revision under a use and decides with the organisation's rules."""

import secrets
from collections.abc import Iterable, Mapping
from datetime import date

import msgspec
import sqlalchemy as sa
from sqlalchemy.orm import Session

from ecotone.accounts import HOUSE, SYSTEM, Accounts, Actor, KeptProfile, Profile, Project
from ecotone.catalog import Catalog
from ecotone.database import Database, alone, utc_now
from ecotone.licences import Decision, Family, KnowledgeBase, Node, Use, identify
from ecotone.policy.decide import Outcome, best, may_call_private
from ecotone.policy.errors import OwnApproval, RuleNotFound
from ecotone.policy.models import RuleRow
from ecotone.policy.rules import FOUR_EYES, Action, Rule, RuleKind, check_rule
from ecotone.policy.stance import Stance, granted_actions, replaced_entry, with_agreements
from ecotone.policy.substitutes import substitutes, with_substitutes
from ecotone.vocabulary import Conflict, Forbidden, Invalid, Mode

_LONGEST_REASON = 1000
_LONGEST_VALUE = 400


class Policy:
    """The one decision that publishing, tuning, serving and each request ask.

    Args:
        four_eyes: rules that can open what a licence closes need a second administrator's approval; false only for
            installations with a single administrator.
    """

    def __init__(
        self,
        database: Database,
        catalog: Catalog,
        knowledge: KnowledgeBase,
        accounts: Accounts,
        *,
        four_eyes: bool = True,
    ) -> None:
        self._database = database
        self._catalog = catalog
        self._knowledge = knowledge
        self._accounts = accounts
        self.four_eyes = four_eyes
        self._extended: tuple[tuple[Rule, ...], KnowledgeBase] = ((), knowledge)

    # -- verdicts ----------------------------------------------------------------------------------------------------
    def stance(self) -> Stance:
        """Rules, profile and positions as they stand now, for whoever judges several things by the same ones."""
        rules, today = tuple(self.rules()), utc_now().date()
        agreements = tuple(r for r in rules if r.kind is RuleKind.AGREEMENT and r.in_force(today))
        known, knowledge = self._extended
        if known != agreements:
            knowledge = with_agreements(self._knowledge, agreements)
            self._extended = (agreements, knowledge)
        return Stance(rules, self._accounts.profile(), knowledge, today)

    def judge(self, model_id: str, rev: str, use: Use, *, viewer: Actor = SYSTEM) -> Decision:
        """The licence engine's answer for a revision under a use, with the organisation's profile and positions."""
        return self.judge_family(self.family(model_id, rev, viewer=viewer), use)

    def family(self, model_id: str, rev: str, *, viewer: Actor = SYSTEM) -> Family:
        """The family of a revision as far as the viewer may see it."""
        model = self._catalog.model(model_id, viewer=viewer)
        revision = self._catalog.revision(model, rev) if model.head is not None else None
        return self._catalog.family(model, revision, viewer=viewer)

    def judge_or_else(self, model_id: str, rev: str, use: Use, *, viewer: Actor = SYSTEM) -> tuple[Decision, Family]:
        """The same, with other models of the catalogue among the ways to yes; and the family that was judged."""
        model = self._catalog.model(model_id, viewer=viewer)
        family = self.family(model.id, rev, viewer=viewer)
        stance = self.stance()
        decision = stance.judge_family(family, use)
        if decision.verdict.passes:
            return decision, family
        others = substitutes(self._catalog, stance, model, use, viewer)
        ways = with_substitutes(decision.would_allow, others)
        return msgspec.structs.replace(decision, would_allow=ways), family

    def judge_family(self, family: Family, use: Use) -> Decision:
        return self.stance().judge_family(family, use)

    def api_family(self, node_id: str, terms: Iterable[str]) -> Family:
        """The family of a provider's model: one node that its terms bind."""
        node = Node(id=node_id, instruments=tuple(terms) or ("unknown",), kind="api")
        return Family(subject=node_id, nodes={node_id: node})

    # -- decisions ---------------------------------------------------------------------------------------------------
    def outcome(self, decision: Decision, action: Action, family: Family, also: tuple[str, ...] = ()) -> Outcome:
        """A verdict on the family's subject, joined with the rules that speak of it or of the texts that bind it.

        Args:
            also: further names under which rules may speak of it.
        """
        return self.stance().outcome(decision, action, family, also)

    def for_project(self, model_id: str, rev: str, project: Project, action: Action) -> Outcome:
        """Whether a project may do something with a revision; its declared use is judged, tuning as finetuning."""
        return _for_project(self.stance(), self.family(model_id, rev), project, action)

    def may_serve(self, model_id: str, rev: str, projects: Iterable[str] = ()) -> Outcome:
        """The best answer that any project (of those named, else of all) has for calling the model."""
        wanted = tuple(projects)
        found = [self._accounts.project(name) for name in wanted] if wanted else self._accounts.projects()
        stance = self.stance()
        if self._catalog.model(model_id, viewer=SYSTEM).private:
            found = [p for p in found if may_call_private(p.name, p.may_call_private, stance.rules, stance.today)]
            if not found:
                raise Forbidden(
                    f"{model_id} is private, and no project that is meant may call private models: a rule forbids it "
                    "(`ecotone rule list`).",
                    param="projects",
                )
        family = self.family(model_id, rev)
        outcome = best(_for_project(stance, family, project, Action.SERVE) for project in found)
        if outcome is None:
            raise Invalid("No project could be asked; name one that exists with --project.", param="projects")
        return outcome

    def may_tune(self, model_id: str, rev: str, project: str | None = None) -> Outcome:
        return self.for_project(model_id, rev, self._accounts.project(project or HOUSE), Action.TUNE)

    def may_train(self, family: Family, project: str | None = None) -> Outcome:
        """Whether a project may tune the subject of a family on data that stands among its parents.

        What is tuned is a language model, which does what those do whose outputs it learns from, unless the project
        says that it makes something else.
        """
        use = self._accounts.project(project or HOUSE).use(mode=Mode.FINETUNE)
        told = {"target_model": "similar", "target.distributed": False} | use.variables
        stance = self.stance()
        decision = stance.judge_family(family, msgspec.structs.replace(use, variables=told))
        return stance.outcome(decision, Action.TUNE, family)

    def may_audit(self, model_id: str, rev: str, project: str | None = None) -> Outcome:
        return self.for_project(model_id, rev, self._accounts.project(project or HOUSE), Action.AUDIT)

    # -- the organisation's profile ----------------------------------------------------------------------------------
    def set_profile(self, profile: Profile, *, actor: Actor) -> KeptProfile:
        """Record the profile. Raises Invalid for a field, a position or a choice that does not exist."""
        for name, value in profile.positions.items():
            self._check_position(name, value)
        return self._accounts.set_profile(profile, actor=actor)

    def positions(self) -> Mapping[str, str]:
        """The organisation's choices where law is disputed."""
        return self.stance().positions

    def _check_position(self, name: str, value: str | None) -> None:
        spec = self._knowledge.positions.get(name)
        if spec is None:
            raise Invalid(
                f"{name!r} is no disputed question; known: {', '.join(sorted(self._knowledge.positions))}.",
                param="positions",
            )
        if value not in spec["values"]:
            raise Invalid(
                f"{name} takes {' or '.join(map(str, spec['values']))}, not {value!r}: {spec['means']}?",
                param="positions",
            )

    # -- rules -------------------------------------------------------------------------------------------------------
    def rules(self) -> list[Rule]:
        with self._database.reading() as session:
            rows = session.scalars(sa.select(RuleRow).order_by(RuleRow.created, RuleRow.id))
            return [self._rule(row) for row in rows]

    def rule(self, rule_id: str) -> Rule:
        with self._database.reading() as session:
            row = session.get(RuleRow, rule_id)
        if row is None:
            raise RuleNotFound(rule_id)
        return self._rule(row)

    def add_rule(
        self,
        kind: RuleKind,
        subject: str,
        reason: str,
        *,
        actor: Actor,
        value: str | None = None,
        expires: date | None = None,
        evidence: str | None = None,
    ) -> Rule:
        """Record a rule; the reason is shown wherever the rule decides. One of four eyes waits for its approval."""
        row = self._made(kind, subject, reason, actor, value, expires, evidence)
        with self._database.writing() as session:
            if kind is RuleKind.POSITION:
                alone(session, "positions")
                self._check_unchosen(session, subject)
            session.add(row)
        return self._rule(row)

    def let_pass(self, session: Session, subject: str, reason: str, *, actor: Actor) -> None:
        """Have a rule that lets unknown pass for a subject, where there is none.

        Args:
            session: in which nobody else does this for the subject meanwhile.
        """
        if session.scalars(sa.select(RuleRow.id).where(*_passes(subject)).limit(1)).first() is None:
            session.add(self._made(RuleKind.PASS_UNKNOWN, subject, reason, actor))

    def let_pass_no_more(self, session: Session, subject: str) -> None:
        """Remove the rules that let unknown pass for a subject."""
        session.execute(sa.delete(RuleRow).where(*_passes(subject)))

    def _made(
        self,
        kind: RuleKind,
        subject: str,
        reason: str,
        actor: Actor,
        value: str | None = None,
        expires: date | None = None,
        evidence: str | None = None,
    ) -> RuleRow:
        self._check(kind, subject, reason, value, expires, evidence)
        row = RuleRow(
            id="r" + secrets.token_hex(4),
            kind=kind.value,
            subject=subject,
            value=value,
            reason=reason.strip()[:_LONGEST_REASON],
            created=utc_now(),
            created_by=actor.name,
            expires=expires,
            evidence=(evidence or "").strip()[:_LONGEST_REASON] or None,
        )
        if kind in FOUR_EYES and not self.four_eyes:
            row.approved, row.approved_by = row.created, actor.name
        return row

    def _check_unchosen(self, session: Session, subject: str) -> None:
        wanted = sa.select(RuleRow).where(RuleRow.kind == RuleKind.POSITION.value, RuleRow.subject == subject)
        today = utc_now().date()
        if any(self._rule(row).in_force(today) for row in session.scalars(wanted)):
            raise Conflict(
                f"A reading of {subject} is chosen already; remove that rule first (`ecotone rule list`).",
                param="subject",
            )

    def _check(
        self,
        kind: RuleKind,
        subject: str,
        reason: str,
        value: str | None,
        expires: date | None,
        evidence: str | None,
    ) -> None:
        if not reason.strip():
            raise Invalid("A rule needs a reason: it is shown wherever the rule decides.", param="reason")
        if value is not None and len(value) > _LONGEST_VALUE:
            raise Invalid(f"A value has at most {_LONGEST_VALUE} characters.", param="value")
        check_rule(kind, subject, value, expires, utc_now().date())
        if kind is RuleKind.POSITION:
            if not value:
                raise Invalid("A position needs a value, e.g. --value deny.", param="value")
            self._check_position(subject, value)
        sort, _, name = subject.partition(":")
        if sort == "licence" and name.casefold() not in {e.casefold() for e in self._knowledge.entries}:
            raise Invalid(f"{name!r} is no entry of the knowledge base (`ecotone licence list`).", param="subject")
        kinds = {e.kind for e in self._knowledge.entries.values()}
        if sort == "kind" and name not in kinds:
            raise Invalid(f"{name!r} is no kind of entry; known: {', '.join(sorted(kinds))}.", param="subject")
        if kind in (RuleKind.CONCLUDED, RuleKind.AGREEMENT):
            self._check_override(kind, value, evidence)

    def _check_override(self, kind: RuleKind, value: str | None, evidence: str | None) -> None:
        what = "the contract" if kind is RuleKind.AGREEMENT else "where the licence was found"
        if not (evidence or "").strip():
            raise Invalid(f"A rule of kind {kind} needs --evidence: {what}.", param="evidence")
        if kind is RuleKind.AGREEMENT:
            replaced = replaced_entry(value)
            if replaced not in self._knowledge.entries:
                raise Invalid(
                    "An agreement takes the place of an entry: give --value ENTRY, or ENTRY=ACTION,ACTION for what it "
                    f"grants; {replaced!r} is no entry (`ecotone licence list`).",
                    param="value",
                )
            known = {a for entry in self._knowledge.entries.values() for fact in entry.facts for a in fact.action}
            unknown = set(granted_actions(value)) - known - {"any"}
            if unknown:
                raise Invalid(
                    f"{', '.join(sorted(unknown))} is no action; known: {', '.join(sorted(known))}.", param="value"
                )
        elif not value or "unknown" in identify(self._knowledge, {"license": value}).instruments:
            raise Invalid(f"{value!r} is no licence that the knowledge base knows.", param="value")

    def approve_rule(self, rule_id: str, *, actor: Actor) -> Rule:
        """The second pair of eyes.

        Raises:
            OwnApproval: when the rule's author approves it.
            Conflict: when it needs no approval (any more).
        """
        if not actor.is_admin:
            raise Forbidden("Only administrators approve rules.")
        with self._database.writing() as session:
            row = session.get(RuleRow, rule_id, with_for_update=True)
            if row is None:
                raise RuleNotFound(rule_id)
            rule = self._rule(row)
            if not rule.waits:
                raise Conflict(f"The rule {rule_id} needs no approval (any more).", param="rule")
            if rule.expires is None or rule.expires <= utc_now().date():
                raise Conflict(
                    f"The rule {rule_id} ended on {rule.expires or 'no day'}; propose a new one with a day to come.",
                    param="rule",
                )
            if self.four_eyes and _same_person(rule.by, actor.name):
                raise OwnApproval(rule_id, rule.by)
            row.approved, row.approved_by = utc_now(), actor.name
            return self._rule(row)

    def remove_rule(self, rule_id: str) -> Rule:
        with self._database.writing() as session:
            row = session.get(RuleRow, rule_id, with_for_update=True)
            if row is None:
                raise RuleNotFound(rule_id)
            found = self._rule(row)
            session.delete(row)
        return found

    def _rule(self, row: RuleRow) -> Rule:
        """A row as a rule. An approval by the author, made while that was allowed, counts no more under four eyes."""
        approved_by = row.approved_by
        if approved_by is not None and self.four_eyes and _same_person(approved_by, row.created_by):
            approved_by = None
        return Rule(
            id=row.id,
            kind=RuleKind(row.kind),
            subject=row.subject,
            value=row.value,
            reason=row.reason,
            by=row.created_by,
            created=row.created.isoformat(timespec="seconds"),
            expires=row.expires,
            evidence=row.evidence,
            approved_by=approved_by,
            approved=row.approved.isoformat(timespec="seconds") if row.approved and approved_by else None,
        )


def _for_project(stance: Stance, family: Family, project: Project, action: Action) -> Outcome:
    mode = {Action.TUNE: Mode.FINETUNE, Action.AUDIT: Mode.RUN}.get(action)
    return stance.outcome(stance.judge_family(family, project.use(mode=mode)), action, family)


def _same_person(one: str, other: str) -> bool:
    return one.casefold() == other.casefold()


def _passes(subject: str) -> tuple[sa.ColumnElement[bool], ...]:
    return RuleRow.kind == RuleKind.PASS_UNKNOWN.value, RuleRow.subject == subject
