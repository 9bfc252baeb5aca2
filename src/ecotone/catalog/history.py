"""Revisions, files, branches and tags; the one transaction in which a revision becomes visible."""

import unicodedata
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ecotone.accounts import Actor
from ecotone.catalog import discussion_rows
from ecotone.catalog.cards import tags_of, texts, title_of
from ecotone.catalog.discussion import Merging, Proposal, number_of
from ecotone.catalog.entities import DEFAULT_BRANCH, File, Folder, LineageEdge, Model, NewRevision, Ref, Refs, Revision
from ecotone.catalog.errors import EntryDeleted, EntryNotFound, RefExists, RevisionNotFound, StaleParent
from ecotone.catalog.events import RefChange
from ecotone.catalog.gitformat import build_trees
from ecotone.catalog.manifests import ManifestCache, encode
from ecotone.catalog.models import EdgeRow, ModelRow, RefRow, RevisionRow
from ecotone.catalog.names import check_ref, is_sha, key_of
from ecotone.catalog.objects import deleted_since, keep_objects
from ecotone.catalog.settled import settled, with_word
from ecotone.catalog.telling import Telling
from ecotone.catalog.weight_rows import keep_weights
from ecotone.database import Database, batches, utc_now
from ecotone.licences import KnowledgeBase
from ecotone.settings import Settings
from ecotone.storage import GONE, Storage
from ecotone.vocabulary import EdgeStatus, Invalid, Relation, RepoType

MOST_FOLDER_LISTS = 128
MAIN = f"refs/heads/{DEFAULT_BRANCH}"


class History(Telling):
    """Services over revisions and refs."""

    def __init__(
        self,
        database: Database,
        storage: Storage,
        knowledge: KnowledgeBase,
        settings: Settings,
        starter: Mapping[str, Model],
    ) -> None:
        super().__init__(database, storage, knowledge, settings, starter)
        self._manifests = ManifestCache()
        self._folders: dict[tuple[int, str], list[Folder]] = {}

    # -- reading -----------------------------------------------------------------------------------------------------
    def revision(self, model: Model, rev: str = DEFAULT_BRANCH) -> Revision:
        """The revision that a branch, tag, full ref or 40-hex commit names.

        Raises:
            RevisionNotFound: when there is none, also for a commit of another repository.
        """
        with self._database.reading() as session:
            sha = self._resolve(session, model, rev)
            row = session.get(RevisionRow, (model.key, sha)) if sha else None
            if row is None:
                raise RevisionNotFound(model.id, rev)
            edges = self._edges(session, row)
        return revision_of(model, row, edges)

    def _resolve(self, session: Session, model: Model, rev: str) -> str | None:
        if not model.key or not rev or "\0" in rev:
            return None
        if is_sha(rev):
            return rev
        names = [rev] if rev.startswith("refs/") else [f"refs/heads/{rev}", f"refs/tags/{rev}"]
        for name in names:
            found = session.get(RefRow, (model.key, name))
            if found is not None:
                return found.sha
        return None

    def _edges(self, session: Session, row: RevisionRow) -> tuple[LineageEdge, ...]:
        wanted = sa.select(EdgeRow).where(EdgeRow.model_key == row.model_key, EdgeRow.sha == row.sha)
        child = session.get(ModelRow, row.model_key)
        name = f"{child.namespace}/{child.name}" if child else ""
        return tuple(edge_of(edge, name) for edge in session.scalars(wanted.order_by(EdgeRow.key)))

    def manifest(self, revision: Revision) -> Mapping[str, File]:
        """All files of a revision by path."""

        def load() -> bytes:
            with self._database.reading() as session:
                wanted = sa.select(RevisionRow.manifest).where(
                    RevisionRow.model_key == revision.model_key, RevisionRow.sha == revision.id
                )
                found = session.scalars(wanted).first()
            if found is None:  # history was written anew meanwhile
                raise RevisionNotFound(revision.model_id, revision.id)
            return found

        return self._manifests.get((revision.model_key, revision.id), load)

    def files(self, revision: Revision) -> list[File]:
        """All files of a revision, ordered by path."""
        return list(self.manifest(revision).values())

    def heads(self, models: Iterable[Model]) -> dict[int, Revision]:
        """The newest revision of main of each of some repositories, by their key; for lists."""
        wanted = {(model.key, model.head): model for model in models if model.key and model.head}
        found: dict[int, Revision] = {}
        pairs = list(wanted)
        with self._database.reading() as session:
            for some in batches(pairs, 200):
                edges: dict[int, list[LineageEdge]] = {}
                at = sa.tuple_(EdgeRow.model_key, EdgeRow.sha)
                for edge in session.scalars(sa.select(EdgeRow).where(at.in_(some)).order_by(EdgeRow.key)):
                    name = wanted[edge.model_key, edge.sha].id
                    edges.setdefault(edge.model_key, []).append(edge_of(edge, name))
                of = sa.tuple_(RevisionRow.model_key, RevisionRow.sha)
                for row in session.scalars(sa.select(RevisionRow).where(of.in_(some))):
                    model = wanted[row.model_key, row.sha]
                    found[model.key] = revision_of(model, row, tuple(edges.get(model.key, ())))
        return found

    def file(self, revision: Revision, path: str) -> File:
        """One file.

        Raises:
            EntryNotFound: carrying path and commit; EntryDeleted when its bytes were deleted for good.
        """
        found = self.manifest(revision).get(unicodedata.normalize("NFC", path))
        if found is None:
            raise EntryNotFound(revision.model_id, path, revision.id)
        if found.content.kind == GONE:
            raise EntryDeleted(revision.model_id, path, revision.id)
        return found

    def folders(self, revision: Revision) -> list[Folder]:
        """All folders of a revision with their git tree ids, ordered by path."""
        known = self._folders.get((revision.model_key, revision.id))
        if known is not None:
            return known
        files = self.manifest(revision)
        dates = self._titles(revision.model_key, {file.last_commit for file in files.values()})
        gone = datetime.min.replace(tzinfo=UTC)  # commits that were written anew meanwhile
        age = {f.last_commit: (gone, False) for f in files.values()}
        age |= {sha: (date, sha == revision.id) for sha, (_, date) in dates.items()}
        last: dict[str, str] = {}
        for path, file in files.items():
            folder = path.rpartition("/")[0]
            while folder and (folder not in last or age[file.last_commit] > age[last[folder]]):
                last[folder] = file.last_commit
                folder = folder.rpartition("/")[0]
        trees = build_trees({path: file.content.git_oid for path, file in files.items()}).folders
        found = [Folder(path, trees[path], last[path]) for path in sorted(trees)]
        if len(self._folders) >= MOST_FOLDER_LISTS:
            self._folders.clear()
        self._folders[revision.model_key, revision.id] = found
        return found

    def commits(self, model: Model, rev: str = DEFAULT_BRANCH, *, start: int = 0, limit: int = 50) -> list[Revision]:
        """The history of a revision, newest first, along first parents."""
        found: list[Revision] = []
        sha: str | None = self.revision(model, rev).id
        with self._database.reading() as session:
            skipped = 0
            while sha is not None and len(found) < limit:
                row = session.get(RevisionRow, (model.key, sha))
                if row is None:
                    break
                if skipped >= start:
                    found.append(revision_of(model, row, ()))
                skipped += 1
                sha = row.parents[0] if row.parents else None
        return found

    def titles(self, model: Model, shas: Iterable[str]) -> dict[str, tuple[str, datetime]]:
        """Title and date of commits, for listings."""
        return self._titles(model.key, shas)

    def _titles(self, model_key: int, shas: Iterable[str]) -> dict[str, tuple[str, datetime]]:
        found: dict[str, tuple[str, datetime]] = {}
        wanted = sorted(set(shas))
        with self._database.reading() as session:
            for i in range(0, len(wanted), 500):
                rows = sa.select(RevisionRow.sha, RevisionRow.title, RevisionRow.date).where(
                    RevisionRow.model_key == model_key, RevisionRow.sha.in_(wanted[i : i + 500])
                )
                found |= {sha: (title, date) for sha, title, date in session.execute(rows)}
        return found

    def refs(self, model: Model) -> Refs:
        """Branches, tags and pull requests."""
        with self._database.reading() as session:
            rows = list(session.scalars(sa.select(RefRow).where(RefRow.model_key == model.key).order_by(RefRow.ref)))

        def under(prefix: str) -> tuple[Ref, ...]:
            return tuple(Ref(r.ref[len(prefix) :], r.ref, r.sha) for r in rows if r.ref.startswith(prefix))

        return Refs(under("refs/heads/"), under("refs/tags/"), under("refs/pr/"))

    def ref_target(self, model: Model, ref: str) -> str | None:
        """The commit a full ref points at, None when it does not exist."""
        with self._database.reading() as session:
            row = session.get(RefRow, (model.key, ref))
            return row.sha if row else None

    def materialise(self, model: Model, revision: Revision) -> AbstractContextManager[Path]:
        """A folder with the revision's files as plain files, kept while the context lasts."""
        files = {path: file.content for path, file in self.manifest(revision).items()}
        return self._storage.materialise(f"{revision.model_key}-{revision.id}", files)

    # -- branches and tags -------------------------------------------------------------------------------------------
    def create_branch(self, model: Model, name: str, *, actor: Actor, start: str | None = None) -> Ref:
        """A new branch at `start` (default: main's head)."""
        return self._create_ref(model, "refs/heads/", name, start or DEFAULT_BRANCH, actor, "")

    def create_tag(self, model: Model, name: str, *, actor: Actor, rev: str = DEFAULT_BRANCH, message: str = "") -> Ref:
        return self._create_ref(model, "refs/tags/", name, rev, actor, message)

    def delete_branch(self, model: Model, name: str, *, actor: Actor) -> None:
        if name == DEFAULT_BRANCH:
            raise Invalid(
                "The branch main stays as long as its repository; delete the files on it, or the repository.",
                param="branch",
            )
        self._delete_ref(model, f"refs/heads/{name}", actor)

    def delete_tag(self, model: Model, name: str, *, actor: Actor) -> None:
        self._delete_ref(model, f"refs/tags/{name}", actor)

    def _create_ref(self, model: Model, prefix: str, name: str, start: str, actor: Actor, message: str) -> Ref:
        check_ref(name)
        with self._database.writing() as session:
            row = self._locked(session, model)
            self._check_namespace(session, row.namespace, actor)
            sha = self._resolve(session, model, start)
            if sha is None or session.get(RevisionRow, (model.key, sha)) is None:
                raise RevisionNotFound(model.id, start)
            if session.get(RefRow, (model.key, prefix + name)) is not None:
                raise RefExists(f"{model.id} has {prefix + name} already; delete it first or choose another name.")
            session.add(
                RefRow(model_key=model.key, ref=prefix + name, sha=sha, message=message.replace("\0", "\ufffd"))
            )
            self._tell_of_ref(session, row, actor.name, RefChange(prefix + name, None, sha))
        return Ref(name, prefix + name, sha)

    def _delete_ref(self, model: Model, ref: str, actor: Actor) -> None:
        with self._database.writing() as session:
            repository = self._locked(session, model)
            self._check_namespace(session, repository.namespace, actor)
            row = session.get(RefRow, (model.key, ref))
            if row is None:
                raise RevisionNotFound(model.id, ref)
            session.delete(row)
            self._tell_of_ref(session, repository, actor.name, RefChange(ref, row.sha, None))

    # -- a revision becomes visible ----------------------------------------------------------------------------------
    def add_revision(
        self,
        model: Model,
        ref: str,
        new: NewRevision,
        *,
        expected: str | None,
        proposal: Proposal | None = None,
        merging: Merging | None = None,
        before_visible: Callable[[], None] = lambda: None,
    ) -> Revision:
        """Make a verified, decided revision visible, in one transaction. Publishing alone calls this.

        Args:
            ref: the full ref that moves to it.
            expected: what the ref must still point at; None when it must not exist yet.
            proposal: the pull request that is opened with it; `ref` names the number that comes next.
            merging: the pull request that it merges.
            before_visible: called last before the transaction ends; what it raises undoes everything.

        Raises:
            StaleParent: when the ref points elsewhere by now, or a file that the revision takes over was since deleted
                for good.
            WrongStatus: when its pull request, or the one that it merges, was closed or merged.
            ModelNotFound: when the model was deleted meanwhile.
        """
        revision = new.revision
        with self._database.writing() as session:
            row = self._locked(session, model)
            at = session.get(RefRow, (model.key, ref), with_for_update=True)
            if (at.sha if at else None) != expected:
                raise StaleParent(ref, at.sha if at else None)
            if (since := deleted_since(session, model.key, new, expected)) is not None:
                self._manifests.drop((model.key, since))
                raise StaleParent(ref, expected)
            if proposal is not None:
                made = discussion_rows.opened(session, model.key, proposal)
                if made.num != number_of(ref):
                    raise StaleParent(ref, None)
                self._tell_of_opened(session, row, proposal.author, made)
            if session.get(RevisionRow, (model.key, revision.id)) is None:
                session.add(_revision_row(model, new))
                digest = new.weights.digest if new.weights is not None else ""
                edges = settled(session, row, revision.id, digest, revision.edges)
                session.add_all(edge_row(model.key, revision.id, edge) for edge in edges)
                changed = [new.files[path] for path in new.changed]
                keep_objects(session, model.key, changed, ref=ref, pushed=revision.date)
                self._storage.hold(session, row.namespace, [file.content for file in changed])
                if new.weights is not None:
                    keep_weights(session, model.key, revision.id, new.weights)
            if at is None:
                session.add(RefRow(model_key=model.key, ref=ref, sha=revision.id, message=""))
            else:
                at.sha = revision.id
            if ref == MAIN:
                describe(row, revision, new.files)
            discussion_rows.committed(session, model.key, ref, revision)
            if merging is not None:
                ended, said = discussion_rows.merged(session, model.key, merging, revision.id)
                if said is not None:
                    self._tell_of_discussion(session, row, merging.author, ended, "create", said)
                self._tell_of_discussion(session, row, merging.author, ended, "update")
            self._tell_of_ref(session, row, revision.author, RefChange(ref, expected, revision.id))
            session.flush()
            before_visible()
        return revision

    def fingerprint(self, model: Model, sha: str) -> tuple[str, datetime]:
        """What tells a repeated commit from a new one, and when the commit was made."""
        with self._database.reading() as session:
            row = session.get(RevisionRow, (model.key, sha))
            if row is None:
                raise RevisionNotFound(model.id, sha)
            return row.fingerprint, row.date


def describe(row: ModelRow, revision: Revision, files: Mapping[str, File]) -> None:
    """Bring what the catalogue shows of a model in line with the newest revision of main."""
    card = revision.card
    row.head = revision.id
    row.updated = utc_now()
    row.title = (texts(card.get("model_name") or card.get("pretty_name")) or (title_of(revision.card_text),))[0][:200]
    row.tags = list(tags_of(card, set(files), revision.config))
    row.parameters = revision.weights.get("total")
    row.small_bytes = sum(file.content.size for file in files.values() if file.content.sha256 is None)
    row.pipeline_tag = (texts(card.get("pipeline_tag")) or (None,))[0]
    library = (texts(card.get("library_name")) or (None,))[0]
    row.library = library or ("transformers" if "transformers" in row.tags else None)
    row.pipeline_tag = row.pipeline_tag[:100] if row.pipeline_tag else None
    row.library = row.library[:100] if row.library else None
    row.licence = revision.declared_licence
    row.instruments = list(revision.instruments)
    folded = [tag.casefold() for tag in row.tags]
    shown = [row.folded, row.title.casefold(), *(tag for tag in folded if not tag.startswith("region:"))]
    row.searched = "\n" + "\n".join(shown) + "\n"
    row.tagged = "\n" + "\n".join(folded) + "\n"


def edge_of(row: EdgeRow, child: str) -> LineageEdge:
    edge = LineageEdge(
        child=child,
        child_revision=row.sha,
        parent=row.parent,
        parent_revision=row.parent_revision,
        relation=Relation(row.relation),
        status=EdgeStatus(row.status),
        asserted_by=row.asserted_by,
        evidence=row.evidence,
        terms=tuple(row.terms.split()) if row.terms else (),
        made_from=row.made_from,
        made_until=row.made_until,
    )
    return edge if row.word is None else with_word(edge, row.word)


def edge_row(model_key: int, sha: str, edge: LineageEdge) -> EdgeRow:
    return EdgeRow(
        model_key=model_key,
        sha=sha,
        parent=edge.parent,
        parent_folded=key_of(edge.parent),
        parent_revision=edge.parent_revision,
        relation=edge.relation.value,
        status=(edge.said.found if edge.said is not None else edge.status).value,
        word_id=edge.said.id if edge.said is not None else None,
        asserted_by=edge.asserted_by,
        evidence=edge.evidence,
        terms=" ".join(edge.terms) or None,
        made_from=edge.made_from,
        made_until=edge.made_until,
    )


def _revision_row(model: Model, new: NewRevision) -> RevisionRow:
    r = new.revision
    return RevisionRow(
        model_key=model.key,
        sha=r.id,
        tree=r.tree,
        parents=list(r.parents),
        title=r.title,
        message=r.message,
        author=r.author,
        date=r.date,
        card=r.card,
        card_text=r.card_text,
        config=r.config,
        weights=r.weights,
        findings=list(r.findings),
        instruments=list(r.instruments),
        declared_licence=r.declared_licence,
        detected=list(r.detected),
        size=r.size,
        fingerprint=new.fingerprint,
        manifest=encode(new.files),
    )


def revision_of(model: Model, row: RevisionRow, edges: tuple[LineageEdge, ...]) -> Revision:
    return Revision(
        id=row.sha,
        model_id=model.id,
        tree=row.tree,
        parents=tuple(row.parents),
        title=row.title,
        message=row.message,
        author=row.author,
        date=row.date,
        card=row.card,
        card_text=row.card_text,
        config=row.config,
        weights=row.weights,
        findings=tuple(row.findings),
        instruments=tuple(row.instruments),
        declared_licence=row.declared_licence,
        detected=tuple(row.detected),
        edges=edges,
        size=row.size,
        repo_type=RepoType(model.repo_type),
        model_key=row.model_key,
    )
