"""What every page of a repository shows of it: where it stands, its marks, and one row of tabs, the same on each."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from ecotone.catalog import DEFAULT_BRANCH, Model, Refs
from ecotone.vocabulary import EcotoneError, RepoType
from ecotone.web.endpoint import Visit, address

LISTS = {
    RepoType.MODEL: ("Models", "/"),
    RepoType.DATASET: ("Datasets", "/datasets"),
    RepoType.SPACE: ("Spaces", "/spaces"),
}


@dataclass(frozen=True, slots=True)
class Tab:
    """A part of a repository. `count` is how much is in it, where that is worth knowing before going there."""

    name: str
    title: str
    path: str
    is_current: bool
    count: int | None = None


@dataclass(frozen=True, slots=True)
class Head:
    """The top of a page. `kind` is the repository's kind as a word, `label` its id with the kind where that is no
    model, `flag` what the `hf` command needs for it."""

    kind: str
    label: str
    flag: str
    list_title: str
    list_path: str
    owner_path: str
    tabs: tuple[Tab, ...]


def head(
    visit: Visit, model: Model, current: str, *, rev: str = DEFAULT_BRANCH, refs: Refs | None = None
) -> dict[str, Any]:
    """`model`, `here_path`, `head` and `gate_closed` for a template.

    Args:
        current: the name of the tab that the page belongs to.
        rev: the revision whose files and commits the tabs lead to.
        refs: the repository's branches and tags, when they are known already.
    """
    title, path = LISTS[model.repo_type]
    kind = model.repo_type.value
    owner = f"/{model.namespace}" if model.repo_type is RepoType.MODEL else f"{path}?author={quote(model.namespace)}"
    stored = model.head is not None
    return {
        "model": model,
        "here_path": visit.root + address(model),
        "gate_closed": stored and not visit.catalog.passes_gate(model, visit.actor),
        "head": Head(
            kind=kind,
            label=model.id if model.repo_type is RepoType.MODEL else f"{model.id} ({kind})",
            flag="" if model.repo_type is RepoType.MODEL else f" --repo-type {kind}",
            list_title=title,
            list_path=visit.root + path,
            owner_path=visit.root + owner,
            tabs=_tabs(visit, model, current, rev, refs) if stored else (),
        ),
    }


def may_write(visit: Visit, model: Model) -> bool:
    """Whether the visitor may commit to a repository."""
    return visit.actor.kind == "user" and visit.catalog.writes(model, visit.actor)


def may_settle(visit: Visit, model: Model) -> bool:
    """Whether the visitor may change who sees a repository, move it and delete it."""
    if visit.actor.kind != "user":
        return False
    try:
        visit.catalog.check_author(model, visit.actor)
    except EcotoneError:
        return False
    return True


def _tabs(visit: Visit, model: Model, current: str, rev: str, refs: Refs | None) -> tuple[Tab, ...]:
    here, at = visit.root + address(model), quote(rev, safe="")
    catalog = visit.catalog
    refs = refs or catalog.refs(model)
    settles = may_settle(visit, model)
    found = [
        ("card", "Card", "", None),
        *([] if model.repo_type is RepoType.SPACE else [("family", "Family", "/family", None)]),
        ("files", "Files", f"/tree/{at}", None),
        ("commits", "Commits", f"/commits/{at}", None),
        ("refs", "Branches and tags", "/refs", len(refs.branches) + len(refs.tags)),
        ("discussions", "Discussions", "/discussions", catalog.discussions(model, status="open", limit=1)[1] or None),
    ]
    if model.gated:
        asked = catalog.access_requests(model, "pending", actor=visit.actor, limit=100) if settles else ()
        found.append(("access", "Access", "/access", len(asked) or None))
    if settles:
        found.append(("settings", "Settings", "/settings", None))
    return tuple(Tab(name, title, here + path, name == current, count) for name, title, path, count in found)
