"""An object and the row that lets a namespace name it, so that no row is ever without its object.

Garbage collection may remove an object that nobody named until now. It does so in a transaction that holds the object's
row among the condemned; the transaction that adds the first name again takes that row away, waits for the removal if
there is one, and puts the bytes back before it ends.
"""

from sqlalchemy.orm import Session

from ecotone.database import Base, Database
from ecotone.storage.files import Draft
from ecotone.storage.models import remember, spare
from ecotone.storage.objects import Objects, key


def place(database: Database, objects: Objects, draft: Draft, kind: str, name: str, row: Base) -> bool:
    """Put a draft's bytes under their name and add the row; returns whether the row is new."""
    target = key(kind, name)
    objects.place(draft, target)

    def settle(session: Session) -> None:
        spare(session, kind, [name])
        if objects.size(target) is None:
            objects.place(draft, target)

    return remember(database, [row], settle) > 0
