"""Policy over the catalogue: judges a model revision under a use and decides with the organisation's rules."""

import secrets
from collections.abc import Iterable, Mapping
from datetime import date

import sqlalchemy as sa

from ecotone.accounts import HOUSE, SYSTEM, Accounts, Actor, Project
from ecotone.catalog import Catalog
from ecotone.database import Database, utc_now
from ecotone.licences import Decision, Family, KnowledgeBase, Node, Use, judge
from ecotone.policy.decide import Action, Outcome, Rule, RuleKind, best, decide, may_call_private
from ecotone.policy.errors import RuleNotFound
from ecotone.policy.models import RuleRow
from ecotone.vocabulary import Conflict, Forbidden, Invalid, Mode


class Policy:
    """The one decision that publishing, tuning, serving and each request ask."""

    def __init__(self, database: Database, catalog: Catalog, knowledge: KnowledgeBase, accounts: Accounts) -> None:
        self._database = database
        self._catalog = catalog
        self._knowledge = knowledge
        self._accounts = accounts

    # -- verdicts ----------------------------------------------------------------------------------------------------
    def judge(self, model_id: str, rev: str, use: Use, *, viewer: Actor = SYSTEM) -> Decision:
        """The licence engine's answer for a revision under a use, with the organisation's positions."""
        model = self._catalog.model(model_id, viewer=viewer)
        revision = self._catalog.revision(model, rev) if model.head is not None else None
        family = self._catalog.family(model, revision, viewer=viewer)
        return self.judge_family(family, use)

    def judge_family(self, family: Family, use: Use) -> Decision:
        return judge(self._knowledge, family, use, self.positions())

    def api_family(self, node_id: str, terms: Iterable[str]) -> Family:
        """The family of a provider's model: one node that its terms bind."""
        node = Node(id=node_id, instruments=tuple(terms) or ("unknown",), kind="api")
        return Family(subject=node_id, nodes={node_id: node})

    # -- decisions ---------------------------------------------------------------------------------------------------
    def outcome(self, decision: Decision, action: Action, subjects: tuple[str, ...]) -> Outcome:
        return decide(decision.to_json(), action, self.rules(), subjects=subjects, today=utc_now().date())

    def for_project(self, model_id: str, rev: str, project: Project, action: Action) -> Outcome:
        """Whether a project may do something with a revision; its declared use is judged, tuning as finetuning."""
        mode = {Action.TUNE: Mode.FINETUNE, Action.AUDIT: Mode.RUN}.get(action)
        decision = self.judge(model_id, rev, project.use(mode=mode))
        return self.outcome(decision, action, (model_id,))

    def may_serve(self, model_id: str, rev: str, projects: Iterable[str] = ()) -> Outcome:
        """The best answer that any project (of those named, else of all) has for calling the model."""
        wanted = tuple(projects)
        found = [self._accounts.project(name) for name in wanted] if wanted else self._accounts.projects()
        if self._catalog.model(model_id, viewer=SYSTEM).private:
            rules, today = self.rules(), utc_now().date()
            found = [p for p in found if may_call_private(p.name, p.may_call_private, rules, today)]
            if not found:
                raise Forbidden(
                    f"{model_id} is private, and no project that is meant may call private models: a rule forbids it "
                    "(`ecotone rule list`).",
                    param="projects",
                )
        outcome = best(self.for_project(model_id, rev, project, Action.SERVE) for project in found)
        if outcome is None:
            raise Invalid("No project could be asked; name one that exists with --project.", param="projects")
        return outcome

    def may_tune(self, model_id: str, rev: str, project: str | None = None) -> Outcome:
        return self.for_project(model_id, rev, self._accounts.project(project or HOUSE), Action.TUNE)

    def may_audit(self, model_id: str, rev: str, project: str | None = None) -> Outcome:
        return self.for_project(model_id, rev, self._accounts.project(project or HOUSE), Action.AUDIT)

    # -- rules -------------------------------------------------------------------------------------------------------
    def rules(self) -> list[Rule]:
        with self._database.reading() as session:
            return [_rule(row) for row in session.scalars(sa.select(RuleRow).order_by(RuleRow.created, RuleRow.id))]

    def rule(self, rule_id: str) -> Rule:
        with self._database.reading() as session:
            row = session.get(RuleRow, rule_id)
        if row is None:
            raise RuleNotFound(rule_id)
        return _rule(row)

    def positions(self) -> Mapping[str, str]:
        """The organisation's choices where law is disputed."""
        today = utc_now().date()
        return {
            rule.subject: rule.value
            for rule in self.rules()
            if rule.kind is RuleKind.POSITION and rule.value and rule.applies((rule.subject,), today)
        }

    def add_rule(
        self,
        kind: RuleKind,
        subject: str,
        reason: str,
        *,
        actor: Actor,
        value: str | None = None,
        expires: date | None = None,
    ) -> Rule:
        """Record a rule; the reason is shown wherever the rule decides."""
        if not reason.strip():
            raise Invalid("A rule needs a reason: it is shown wherever the rule decides.", param="reason")
        if expires is not None and expires <= utc_now().date():
            raise Invalid(f"The rule would end on {expires}, which is not after today.", param="expires")
        if kind is RuleKind.POSITION:
            self._check_position(subject, value)
        if kind is RuleKind.NO_PRIVATE and subject != "*" and not subject.startswith("project:"):
            raise Invalid(f"{subject!r} is no project; write project:NAME, or * for all.", param="subject")
        row = RuleRow(
            id="r" + secrets.token_hex(4),
            kind=kind.value,
            subject=subject,
            value=value,
            reason=reason.strip()[:1000],
            created=utc_now(),
            created_by=actor.name,
            expires=expires,
        )
        with self._database.writing() as session:
            session.add(row)
        return _rule(row)

    def _check_position(self, name: str, value: str | None) -> None:
        """Raises Invalid for a position or a value that is not known, Conflict where one is chosen already."""
        known = self._knowledge.positions
        if name not in known:
            raise Invalid(f"There is no position {name!r}; known: {', '.join(sorted(known))}.", param="subject")
        if value not in known[name]["values"]:
            choices = " or ".join(known[name]["values"])
            raise Invalid(f"The position {name} ({known[name]['means']}) is {choices}; got {value!r}.", param="value")
        if name in self.positions():
            raise Conflict(
                f"A reading of {name} is chosen already; remove that rule first (`ecotone rule list`).",
                param="subject",
            )

    def remove_rule(self, rule_id: str) -> Rule:
        with self._database.writing() as session:
            row = session.get(RuleRow, rule_id)
            if row is None:
                raise RuleNotFound(rule_id)
            found = _rule(row)
            session.delete(row)
        return found


def _rule(row: RuleRow) -> Rule:
    return Rule(
        id=row.id,
        kind=RuleKind(row.kind),
        subject=row.subject,
        value=row.value,
        reason=row.reason,
        by=row.created_by,
        created=row.created.isoformat(timespec="seconds"),
        expires=row.expires,
    )
