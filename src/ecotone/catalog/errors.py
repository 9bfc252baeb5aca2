"""Reasons for which the catalogue refuses; "absent" and "not allowed" are one class with one message."""

from typing import TYPE_CHECKING

from ecotone.vocabulary import Conflict, Forbidden, Invalid, NotFound

if TYPE_CHECKING:
    from ecotone.catalog.entities import Model


class BadName(Invalid):
    code = "bad_name"


class BadPath(Invalid):
    code = "bad_path"


class BadCard(Invalid):
    """The front matter of a card cannot be read."""

    code = "bad_card"


class ModelNotFound(NotFound):
    code = "model_not_found"

    def __init__(self, model_id: str) -> None:
        super().__init__(
            f"Repository {model_id!r} is not here, or you may not see it; check the name, and the token if it is "
            "private.",
            param="model",
        )
        self.model_id = model_id


class NoWeightsHere(ModelNotFound):
    """An entry of the starter catalogue without files."""

    def __init__(self, model_id: str) -> None:
        super().__init__(model_id)
        self.message = (
            f"{model_id!r} is known to the catalogue, but this hub holds none of its files; an administrator may "
            "import open weights by an upload."
        )


class RevisionNotFound(NotFound):
    code = "revision_not_found"

    def __init__(self, model_id: str, rev: str) -> None:
        super().__init__(f"{model_id} has no revision {rev!r}; name a branch, a tag or a commit.", param="revision")
        self.model_id = model_id
        self.rev = rev


class EntryNotFound(NotFound):
    code = "entry_not_found"

    def __init__(self, model_id: str, path: str, commit: str) -> None:
        super().__init__(f"{model_id} has no file or folder {path!r} at this revision.", param="path")
        self.path = path
        self.commit = commit


class EntryDeleted(EntryNotFound):
    """The bytes of a large file were deleted for good, with history left as it was."""

    def __init__(self, model_id: str, path: str, commit: str) -> None:
        super().__init__(model_id, path, commit)
        self.message = f"The bytes of {path!r} in {model_id} were deleted for good; delete the file, or send it anew."


class HistoryChanged(Conflict):
    """Somebody wrote while history was being rewritten."""

    code = "history_changed"

    def __init__(self, model_id: str) -> None:
        super().__init__(f"{model_id} was written to while its history was rewritten; nothing was changed, try again.")


class RepoExists(Conflict):
    """Carries the model that has the name already; None when its id is taken by the starter catalogue."""

    code = "repo_exists"

    def __init__(self, model: "Model") -> None:
        super().__init__(f"A repository {model.id!r} exists already; you may upload to it.", param="name")
        self.model = model


class ReservedId(Forbidden):
    code = "reserved_id"


class RefExists(Conflict):
    code = "ref_exists"


class MeasurementNotFound(NotFound):
    code = "measurement_not_found"

    def __init__(self, number: int) -> None:
        super().__init__(f"There is no measurement {number}; `ecotone audit list` shows those there are.", param="id")


class StaleParent(Conflict):
    """The branch moved on since the commit's parent was read."""

    code = "stale_parent"

    def __init__(self, ref: str, head: str | None) -> None:
        super().__init__(
            f"{ref} has moved on to {head or 'nothing'} since; fetch it and commit again on top of that.",
            param="parentCommit",
        )
        self.head = head


class GatedRepo(Forbidden):
    """The files of a gated repository are for users that were let in; the message says where to ask."""

    code = "gated_repo"


class NotGated(Invalid):
    code = "not_gated"

    def __init__(self, model_id: str) -> None:
        super().__init__(f"{model_id} is not gated: whoever sees it may have its files.", param="gated")


class AccessRequestNotFound(NotFound):
    code = "access_request_not_found"

    def __init__(self, who: str) -> None:
        super().__init__(f"There is no request of {who!r} that this would change; list the requests first.")


class CollectionNotFound(NotFound):
    code = "collection_not_found"

    def __init__(self, slug: str) -> None:
        super().__init__(f"There is no collection {slug!r}, or you may not see it; check the address, and the token.")


class ItemNotFound(NotFound):
    code = "item_not_found"

    def __init__(self, what: str) -> None:
        super().__init__(f"{what!r} is not here, or you may not see it; check its id and type.", param="item")


class CollectionExists(Conflict):
    """Carries the slug of the one that is there."""

    code = "collection_exists"

    def __init__(self, slug: str) -> None:
        super().__init__(f"You have a collection of that title already: {slug}.", param="title")
        self.slug = slug


class ItemExists(Conflict):
    code = "item_exists"

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} stands in the collection already.", param="item")
