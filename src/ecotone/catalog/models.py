"""Tables of the catalogue. Only this package reads and writes them."""

from datetime import date, datetime
from typing import Any

from sqlalchemy import BigInteger, Date, ForeignKey, Index, LargeBinary, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from ecotone.database import Base


class ModelRow(Base):
    """A repository.

    `folded` is its id without case; `buried` is 0 for a living one and its own key for a tombstone. `searched` (id,
    title, tags) and `tagged` (tags) hold folded lines between line feeds, for search and for filters. `parameters` is
    the number of weights that the safetensors files of main hold, `small_bytes` the size of its small files.
    """

    __tablename__ = "models"
    __table_args__ = (
        UniqueConstraint("repo_type", "folded", "buried"),
        Index("ix_models_listing", "repo_type", "buried", "updated"),
    )

    key: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    repo_type: Mapped[str] = mapped_column(String(16))
    namespace: Mapped[str] = mapped_column(String(96))
    name: Mapped[str] = mapped_column(String(96))
    folded: Mapped[str] = mapped_column(String(200))
    buried: Mapped[int] = mapped_column(default=0)
    kind: Mapped[str] = mapped_column(String(16))
    private: Mapped[bool]
    gated: Mapped[str | None] = mapped_column(String(16))
    created: Mapped[datetime]
    updated: Mapped[datetime]
    created_by: Mapped[str] = mapped_column(String(96))
    head: Mapped[str | None] = mapped_column(String(40))
    downloads: Mapped[int] = mapped_column(default=0)
    likes: Mapped[int] = mapped_column(default=0)
    title: Mapped[str] = mapped_column(String(200), default="")
    tags: Mapped[list[str]]
    pipeline_tag: Mapped[str | None] = mapped_column(String(100))
    library: Mapped[str | None] = mapped_column(String(100))
    licence: Mapped[str | None] = mapped_column(String(200))
    instruments: Mapped[list[str]]
    searched: Mapped[str] = mapped_column(Text, default="")
    tagged: Mapped[str] = mapped_column(Text, default="")
    parameters: Mapped[int | None] = mapped_column(BigInteger)
    small_bytes: Mapped[int] = mapped_column(BigInteger, default=0)


class RedirectRow(Base):
    """An old id of a model that was moved."""

    __tablename__ = "model_redirects"

    repo_type: Mapped[str] = mapped_column(String(16), primary_key=True)
    folded: Mapped[str] = mapped_column(String(200), primary_key=True)
    model_key: Mapped[int] = mapped_column(ForeignKey("models.key", ondelete="CASCADE"))


class RevisionRow(Base):
    """A commit. `manifest` is msgpack of its files; `fingerprint` tells a repeated commit from a new one."""

    __tablename__ = "revisions"

    model_key: Mapped[int] = mapped_column(ForeignKey("models.key", ondelete="CASCADE"), primary_key=True)
    sha: Mapped[str] = mapped_column(String(40), primary_key=True)
    tree: Mapped[str] = mapped_column(String(40))
    parents: Mapped[list[str]]
    title: Mapped[str] = mapped_column(String(500))
    message: Mapped[str] = mapped_column(Text)
    author: Mapped[str] = mapped_column(String(96))
    date: Mapped[datetime]
    card: Mapped[dict[str, Any]]
    card_text: Mapped[str] = mapped_column(Text)
    config: Mapped[dict[str, Any]]
    weights: Mapped[dict[str, Any]]
    findings: Mapped[list[str]]
    instruments: Mapped[list[str]]
    declared_licence: Mapped[str | None] = mapped_column(String(200))
    detected: Mapped[list[str]]
    size: Mapped[int] = mapped_column(BigInteger)
    fingerprint: Mapped[str] = mapped_column(String(64))
    manifest: Mapped[bytes] = mapped_column(LargeBinary, deferred=True)


class ObjectRow(Base):
    """A large file of some revision of a repository, by its sha256 and, where it is stored so, by its Xet hash."""

    __tablename__ = "repository_objects"

    model_key: Mapped[int] = mapped_column(ForeignKey("models.key", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(String(64), primary_key=True, index=True)


class LargeFileRow(Base):
    """A large file that a repository was sent: its sha256 and size, and the path, ref and moment of the first time."""

    __tablename__ = "large_files"

    model_key: Mapped[int] = mapped_column(ForeignKey("models.key", ondelete="CASCADE"), primary_key=True)
    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    size: Mapped[int] = mapped_column(BigInteger)
    path: Mapped[str] = mapped_column(Text)
    ref: Mapped[str] = mapped_column(String(255))
    pushed: Mapped[datetime]


class RefRow(Base):
    """A branch (`refs/heads/x`), tag (`refs/tags/x`) or pull request (`refs/pr/n`)."""

    __tablename__ = "refs"

    model_key: Mapped[int] = mapped_column(ForeignKey("models.key", ondelete="CASCADE"), primary_key=True)
    ref: Mapped[str] = mapped_column(String(255), primary_key=True)
    sha: Mapped[str] = mapped_column(String(40))
    message: Mapped[str] = mapped_column(Text, default="")


class EdgeRow(Base):
    """A lineage edge of one revision of a child to a parent named by id."""

    __tablename__ = "lineage_edges"

    key: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    model_key: Mapped[int] = mapped_column(ForeignKey("models.key", ondelete="CASCADE"), index=True)
    sha: Mapped[str] = mapped_column(String(40))
    parent: Mapped[str] = mapped_column(String(200))
    parent_folded: Mapped[str] = mapped_column(String(600), index=True)
    parent_revision: Mapped[str | None] = mapped_column(String(40))
    relation: Mapped[str] = mapped_column(String(32))
    status: Mapped[str] = mapped_column(String(16))
    asserted_by: Mapped[str] = mapped_column(String(96))
    evidence: Mapped[str] = mapped_column(Text)
    terms: Mapped[str | None] = mapped_column(String(400))
    made_from: Mapped[date | None] = mapped_column(Date)
    made_until: Mapped[date | None] = mapped_column(Date)
    word_id: Mapped[str | None] = mapped_column(ForeignKey("edge_words.id", ondelete="SET NULL"), index=True)
    word: Mapped["EdgeWordRow | None"] = relationship(lazy="joined", viewonly=True)


class EdgeWordRow(Base):
    """An administrator's word on the edges from a model to a parent; in force once it is approved.

    A rejection holds for the revisions whose weights have this `digest` (empty: none), a confirmation for all.
    """

    __tablename__ = "edge_words"

    id: Mapped[str] = mapped_column(String(24), primary_key=True)
    model_key: Mapped[int] = mapped_column(ForeignKey("models.key", ondelete="CASCADE"), index=True)
    sha: Mapped[str] = mapped_column(String(40))
    digest: Mapped[str] = mapped_column(String(64))
    parent: Mapped[str] = mapped_column(String(200))
    parent_folded: Mapped[str] = mapped_column(String(600))
    parent_key: Mapped[int | None] = mapped_column(ForeignKey("models.key", ondelete="SET NULL"))
    relation: Mapped[str] = mapped_column(String(32))
    word: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str] = mapped_column(Text)
    created: Mapped[datetime]
    created_by: Mapped[str] = mapped_column(String(96))
    approved: Mapped[datetime | None]
    approved_by: Mapped[str | None] = mapped_column(String(96))


class GeneratedFileRow(Base):
    """A file of a data set that was made of answers, by a hash under which a copy of it may come back: sha256, and the
    git id of a small file."""

    __tablename__ = "generated_files"

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    model_key: Mapped[int] = mapped_column(ForeignKey("models.key", ondelete="CASCADE"), primary_key=True)


class MeasurementRow(Base):
    __tablename__ = "measurements"

    key: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    folded: Mapped[str] = mapped_column(String(200), index=True)
    model: Mapped[str] = mapped_column(String(200))
    revision: Mapped[str] = mapped_column(String(40))
    suite: Mapped[str] = mapped_column(String(64))
    result: Mapped[dict[str, Any]]
    actor: Mapped[str] = mapped_column(String(96))
    created: Mapped[datetime]


class AccessRequestRow(Base):
    """What a user asked of a gated repository's owners, and what became of it."""

    __tablename__ = "access_requests"
    __table_args__ = (UniqueConstraint("model_key", "user"),)

    key: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(String(24), unique=True)
    model_key: Mapped[int] = mapped_column(ForeignKey("models.key", ondelete="CASCADE"))
    user: Mapped[str] = mapped_column(String(96))
    status: Mapped[str] = mapped_column(String(16))
    asked: Mapped[datetime]
    handled: Mapped[datetime | None]
    handled_by: Mapped[str | None] = mapped_column(String(96))
    reason: Mapped[str] = mapped_column(String(500), default="")


class CollectionRow(Base):
    """A list of repositories and other collections. `id` ends its slug; nobody has two of one title in a namespace."""

    __tablename__ = "collections"
    __table_args__ = (
        UniqueConstraint("owner_folded", "created_by", "title_folded"),
        Index("ix_collections_listing", "updated", "key"),
    )

    key: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(String(24), unique=True)
    owner: Mapped[str] = mapped_column(String(96))
    owner_folded: Mapped[str] = mapped_column(String(96))
    title: Mapped[str] = mapped_column(String(100))
    title_folded: Mapped[str] = mapped_column(String(300))
    description: Mapped[str] = mapped_column(String(500), default="")
    theme: Mapped[str] = mapped_column(String(16))
    private: Mapped[bool]
    position: Mapped[int] = mapped_column(default=0)
    created: Mapped[datetime]
    created_by: Mapped[str] = mapped_column(String(96))
    updated: Mapped[datetime]


class CollectionItemRow(Base):
    """A place in a collection; `target` is `repo:KEY` or `collection:ID`, so that nothing stands in one twice."""

    __tablename__ = "collection_items"
    __table_args__ = (UniqueConstraint("collection_key", "target"),)

    key: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(String(24), unique=True)
    collection_key: Mapped[int] = mapped_column(ForeignKey("collections.key", ondelete="CASCADE"))
    target: Mapped[str] = mapped_column(String(40), index=True)
    note: Mapped[str] = mapped_column(String(500), default="")
    position: Mapped[int]


class LikeRow(Base):
    __tablename__ = "likes"

    model_key: Mapped[int] = mapped_column(ForeignKey("models.key", ondelete="CASCADE"), primary_key=True)
    user: Mapped[str] = mapped_column(String(96), primary_key=True)
    created: Mapped[datetime]
