"""Events of refs and discussions, told inside the transaction that made the change."""

from sqlalchemy.orm import Session

from ecotone.catalog import discussion_rows
from ecotone.catalog.discussion_rows import DiscussionEventRow, DiscussionRow
from ecotone.catalog.events import Action, Event, RefChange
from ecotone.catalog.models import ModelRow
from ecotone.catalog.rights import Rights


class Telling(Rights):
    """What services over revisions and discussions tell with."""

    def _tell_of_ref(self, session: Session, row: ModelRow, actor: str, change: RefChange) -> None:
        model = self._entity(row)
        self.events.tell(
            session, Event(action="update", scope="repo.content", model=model, actor=actor, refs=(change,))
        )

    def _tell_of_opened(self, session: Session, row: ModelRow, actor: str, discussion: DiscussionRow) -> None:
        first = discussion_rows.first_comment(session, discussion)
        event = Event(
            action="create",
            scope="discussion",
            model=self._entity(row),
            actor=actor,
            discussion=discussion_rows.told(discussion),
            comment=discussion_rows.told_comment(first),
        )
        self.events.tell(session, event)

    def _tell_of_discussion(
        self,
        session: Session,
        row: ModelRow,
        actor: str,
        discussion: DiscussionRow,
        action: Action,
        comment: DiscussionEventRow | None = None,
    ) -> None:
        """Tell of a discussion that changed, or of a comment in it."""
        event = Event(
            action=action,
            scope="discussion" if comment is None else "discussion.comment",
            model=self._entity(row),
            actor=actor,
            discussion=discussion_rows.told(discussion),
            comment=discussion_rows.told_comment(comment),
        )
        self.events.tell(session, event)
