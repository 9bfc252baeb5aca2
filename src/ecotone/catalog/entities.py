"""What the catalogue hands out: frozen values, never rows. Knows nothing of SQL or HTTP."""

from datetime import date, datetime
from typing import Any

import msgspec

from ecotone.storage import Content
from ecotone.vocabulary import EdgeStatus, EdgeWord, ModelKind, Relation, RepoType

DEFAULT_BRANCH = "main"


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """An entry of the catalogue: a repository with files, or an entry of the starter catalogue without any.

    `key` is the row of the table, 0 for starter entries. `head` is the commit of `main`. `licence` is the label shown
    (what the card or the starter entry says), `instruments` are the knowledge-base ids it was identified as. `facts`
    holds what the starter catalogue knows (provider, family, released, sizes, sources, ...); a model published under a
    reserved id has both.
    """

    id: str
    namespace: str
    name: str
    kind: ModelKind = ModelKind.WEIGHTS
    repo_type: RepoType = RepoType.MODEL
    private: bool = False
    gated: str | None = None
    created: datetime
    updated: datetime
    head: str | None = None
    downloads: int = 0
    likes: int = 0
    title: str = ""
    tags: tuple[str, ...] = ()
    pipeline_tag: str | None = None
    library: str | None = None
    licence: str | None = None
    instruments: tuple[str, ...] = ()
    facts: dict[str, Any] = {}
    reserved: bool = False
    key: int = 0


class Revision(msgspec.Struct, frozen=True, kw_only=True):
    """An immutable commit. `id` is the SHA-1 of the git commit object, `tree` that of its root tree.

    `card` is the parsed front matter of README.md (empty when there is none or it is malformed; then `findings` says
    so), `card_text` the text below it. `config` holds the model configuration's main fields, `weights` the totals of
    safetensors headers: `{"parameters": {dtype: count}, "total": n}`. `declared_licence` is what the card says,
    `detected` what licence files were found to hold, `instruments` what is concluded from both.
    """

    id: str
    model_id: str
    tree: str
    parents: tuple[str, ...] = ()
    title: str = ""
    message: str = ""
    author: str
    date: datetime
    card: dict[str, Any] = {}
    card_text: str = ""
    config: dict[str, Any] = {}
    weights: dict[str, Any] = {}
    findings: tuple[str, ...] = ()
    instruments: tuple[str, ...] = ()
    declared_licence: str | None = None
    detected: tuple[str, ...] = ()
    edges: tuple["LineageEdge", ...] = ()
    size: int = 0
    repo_type: RepoType = RepoType.MODEL
    model_key: int = 0


class File(msgspec.Struct, frozen=True):
    """A file of a revision; `last_commit` is the commit that last changed it on the way to the revision."""

    path: str
    content: Content
    last_commit: str


class Folder(msgspec.Struct, frozen=True):
    """A directory of a revision, with the git id of its tree object."""

    path: str
    oid: str
    last_commit: str


class LargeFile(msgspec.Struct, frozen=True):
    """A large file that a repository was sent, under the path and on the ref where it came first."""

    sha256: str
    size: int
    path: str
    ref: str
    pushed: datetime


class StoredRepo(msgspec.Struct, frozen=True):
    """A repository and the bytes it takes: all its large files, and the small ones of main."""

    model: Model
    size: int


class Ref(msgspec.Struct, frozen=True):
    """A branch (`refs/heads/x`), tag (`refs/tags/x`) or pull request (`refs/pr/n`) and the commit it points at."""

    name: str
    ref: str
    target: str


class Refs(msgspec.Struct, frozen=True):
    branches: tuple[Ref, ...] = ()
    tags: tuple[Ref, ...] = ()
    pull_requests: tuple[Ref, ...] = ()


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """An administrator's word on an edge that is in force. `found` is the status that the edge has without it."""

    id: str
    word: EdgeWord
    reason: str
    by: str
    at: datetime
    found: EdgeStatus
    approved_by: str | None = None

    @property
    def told(self) -> str:
        """It as a part of a sentence."""
        because = f" because {self.reason}" if self.reason else ""
        other = self.approved_by if self.approved_by not in (None, self.by) else None
        return f"{self.word.value} by {self.by}{because}" + (f" (approved by {other})" if other else "")


class LineageEdge(msgspec.Struct, frozen=True, kw_only=True):
    """Child <- parent with a relation, who asserted it and on what evidence. Without `parent_revision` the parent's
    newest one is meant.

    `said` is an administrator's word on it, which `status` follows: what is rejected is refuted, what is confirmed is
    declared unless the weights show it.
    `terms` are the entries of the knowledge base under which a provider's model gave its outputs (`generated_by`), and
    bind in the place of what is known of the parent; `made_from` and `made_until` are the days of the first and last
    of them.
    """

    child: str
    child_revision: str | None = None
    parent: str
    parent_revision: str | None = None
    relation: Relation
    status: EdgeStatus = EdgeStatus.DECLARED
    asserted_by: str = ""
    evidence: str = ""
    terms: tuple[str, ...] = ()
    made_from: date | None = None
    made_until: date | None = None
    said: Said | None = None

    @property
    def rejected(self) -> bool:
        """Whether an administrator's word takes it out of what counts."""
        return self.said is not None and self.said.word is EdgeWord.REJECTED

    @property
    def identity(self) -> tuple[str, ...]:
        """What tells an edge of a child from its others: outputs of each revision, under each terms, count apart."""
        more = (self.parent_revision or "", *self.terms) if self.relation is Relation.GENERATED_BY else ()
        return (self.parent.casefold(), self.relation, *more)


class WeightSet(msgspec.Struct, frozen=True, kw_only=True):
    """The weights of a revision: the names of their contents, where they stand among others, and what was found.

    Args:
        state: `done` when nothing is left to do, `waiting` for its job, `examined` by it, `failed`.
        report: JSON; models in it are named by their key alone.
    """

    digest: str
    names: tuple[str, ...]
    signature: str = ""
    sketch: bytes = b""
    state: str = "done"
    report: dict[str, Any] = {}
    job: str | None = None

    @property
    def waits(self) -> bool:
        """Whether a job is to be given for them."""
        return self.state == "waiting" and self.job is None


class Measurement(msgspec.Struct, frozen=True, kw_only=True):
    """What one suite measured of one revision."""

    id: int
    model: str
    revision: str
    suite: str
    result: dict[str, Any]
    actor: str
    created: datetime


class Listing(msgspec.Struct, frozen=True):
    """A page of models; `next_cursor` is None on the last page."""

    models: tuple[Model, ...]
    next_cursor: str | None = None


class NewRevision(msgspec.Struct, frozen=True, kw_only=True):
    """A revision that publishing has verified and decided; the catalogue makes it visible."""

    revision: Revision
    files: dict[str, File]
    changed: tuple[str, ...] = ()
    fingerprint: str = ""
    weights: WeightSet | None = None
