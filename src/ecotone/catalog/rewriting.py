"""Large files deleted for good: out of the whole history, or with history as it is and their bytes gone.

The new history is computed beside the old one and put in its place in one transaction, when nobody wrote meanwhile.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.orm import Session, undefer

from ecotone.accounts import Actor
from ecotone.catalog.entities import File, Model
from ecotone.catalog.errors import HistoryChanged
from ecotone.catalog.gitformat import build_commit, build_trees
from ecotone.catalog.history import MAIN, History, describe, revision_of
from ecotone.catalog.manifests import decode, encode
from ecotone.catalog.models import EdgeRow, LargeFileRow, ModelRow, ObjectRow, RefRow, RevisionRow
from ecotone.database import batches
from ecotone.storage import GONE

_COPIED = (
    *("title", "message", "author", "date", "card", "card_text", "config", "findings", "instruments"),
    *("declared_licence", "detected"),
)


class Rewritten(msgspec.Struct, frozen=True):
    """What a deletion did: the new commit of each old one that named a deleted file or stood on such a one."""

    deleted: tuple[str, ...]
    commits: dict[str, str]


class _Plan(msgspec.Struct):
    """New rows by the ids of those they replace, manifests to write anew, and the names that nothing holds then."""

    known: frozenset[str]
    refs: dict[str, str]
    rows: dict[str, Any] = {}
    manifests: dict[str, bytes] = {}
    names: set[str] = set()


class Rewriting(History):
    """Services that take large files out of a repository."""

    def delete_large(self, model: Model, shas: Collection[str], *, actor: Actor, rewrite: bool = True) -> Rewritten:
        """Take large files out of a repository for good; whether anything uses it is the caller's matter.

        Args:
            shas: sha256 of the files; those that the repository does not have are passed over.
            rewrite: whether commits that name them are made anew without them, on every branch, tag and pull request.
                Else they stay as they are and name files that can no longer be read.

        Raises:
            Forbidden: when the caller is not its author.
            HistoryChanged: when somebody wrote meanwhile; nothing was changed then.
        """
        self.check_author(model, actor)
        plan = self._plan(model, frozenset(shas), rewrite)
        with self._database.writing() as session:
            row = self._locked(session, model)
            self._check_author(session, row, actor)
            if plan.known != _shas(session, model) or plan.refs != _refs(session, model):
                raise HistoryChanged(model.id)
            deleted = _forget(session, model, frozenset(shas), plan.names)
            for sha, manifest in plan.manifests.items():
                at = (RevisionRow.model_key == model.key, RevisionRow.sha == sha)
                session.execute(sa.update(RevisionRow).where(*at).values(manifest=manifest))
            if plan.rows:
                self._replace(session, row, model, plan)
        for sha in plan.manifests:
            self._manifests.drop((model.key, sha))
        return Rewritten(deleted, {old: new.sha for old, new in plan.rows.items()})

    def _plan(self, model: Model, shas: frozenset[str], rewrite: bool) -> _Plan:
        with self._database.reading() as session:
            plan = _Plan(known=_shas(session, model), refs=_refs(session, model))
        for row in self._oldest_first(model, plan.known):
            files = decode(row.manifest)
            doomed = {path: file for path, file in files.items() if file.content.sha256 in shas}
            plan.names |= {n for f in doomed.values() for n in (f.content.sha256, f.content.xet_hash) if n}
            if not rewrite:
                if doomed:
                    plan.manifests[row.sha] = encode(files | {path: _gone(file) for path, file in doomed.items()})
            elif doomed or any(parent in plan.rows for parent in row.parents):
                kept = {path: file for path, file in files.items() if path not in doomed}
                plan.rows[row.sha] = self._made_anew(row, kept, plan.rows)
        return plan

    def _oldest_first(self, model: Model, known: frozenset[str]) -> Iterator[RevisionRow]:
        """All revisions, each behind its parents, one at a time."""
        with self._database.reading() as session:
            pairs = sa.select(RevisionRow.sha, RevisionRow.parents).where(RevisionRow.model_key == model.key)
            parents = {sha: [p for p in above if p in known] for sha, above in session.execute(pairs)}
        for sha in _behind_parents(parents):
            with self._database.reading() as session:
                wanted = sa.select(RevisionRow).where(RevisionRow.model_key == model.key, RevisionRow.sha == sha)
                found = session.scalars(wanted.options(undefer(RevisionRow.manifest))).first()
            if found is None:  # another one writes history anew
                raise HistoryChanged(model.id)
            yield found

    def _made_anew(self, row: RevisionRow, files: Mapping[str, File], new: Mapping[str, RevisionRow]) -> RevisionRow:
        """The row of a commit with other files or parents. Its git objects are orphans until the row is there."""
        tree = build_trees({path: file.content.git_oid for path, file in files.items()})
        parents = [new[p].sha if p in new else p for p in row.parents]
        said = f"{row.title}\n\n{row.message}" if row.message else row.title
        commit = build_commit(tree.root, parents, row.author, row.date, said)
        self._storage.put_git_objects((one.kind, one.data) for one in (*tree.objects, commit))
        moved = {old: made.sha for old, made in new.items()} | {row.sha: commit.oid}
        kept = {p: File(p, f.content, moved.get(f.last_commit, f.last_commit)) for p, f in files.items()}
        return RevisionRow(
            model_key=row.model_key,
            sha=commit.oid,
            tree=tree.root,
            parents=parents,
            weights=_weights_of(row.weights, files),
            size=sum(file.content.size for file in files.values()),
            fingerprint="",
            manifest=encode(kept),
            **{name: getattr(row, name) for name in _COPIED},
        )

    def _replace(self, session: Session, row: ModelRow, model: Model, plan: _Plan) -> None:
        moved = {old: new.sha for old, new in plan.rows.items()}
        edges = sa.select(EdgeRow).where(EdgeRow.model_key == model.key)
        found = [e for some in batches(sorted(moved)) for e in session.scalars(edges.where(EdgeRow.sha.in_(some)))]
        for edge in found:
            edge.sha = moved[edge.sha]
        for some in batches(sorted(moved)):
            session.execute(sa.delete(RevisionRow).where(RevisionRow.model_key == model.key, RevisionRow.sha.in_(some)))
        left = plan.known - set(moved)
        session.add_all({new.sha: new for new in plan.rows.values() if new.sha not in left}.values())
        for ref in session.scalars(sa.select(RefRow).where(RefRow.model_key == model.key)):
            ref.sha = moved.get(ref.sha, ref.sha)
        session.flush()
        head = next((new for old, new in plan.rows.items() if old == plan.refs.get(MAIN)), None)
        if head is not None:
            describe(row, revision_of(model, head, ()), decode(head.manifest))


def _behind_parents(parents: Mapping[str, list[str]]) -> Iterator[str]:
    children: dict[str, list[str]] = {}
    waiting = {sha: len(above) for sha, above in parents.items()}
    for sha, above in parents.items():
        for parent in above:
            children.setdefault(parent, []).append(sha)
    ready = [sha for sha, count in waiting.items() if count == 0]
    while ready:
        sha = ready.pop()
        yield sha
        for child in children.get(sha, ()):
            waiting[child] -= 1
            if waiting[child] == 0:
                ready.append(child)


def _gone(file: File) -> File:
    return File(file.path, msgspec.structs.replace(file.content, kind=GONE, xet_hash=None), file.last_commit)


def _weights_of(weights: dict[str, Any], files: Mapping[str, File]) -> dict[str, Any]:
    """Totals of weights without those of files that are no longer there."""
    held = {path: counts for path, counts in (weights.get("files") or {}).items() if path in files}
    if not held:
        return {}
    totals: dict[str, int] = {}
    for counts in held.values():
        for dtype, number in counts.items():
            totals[dtype] = totals.get(dtype, 0) + number
    return {"parameters": totals, "total": sum(totals.values()), "files": held}


def _shas(session: Session, model: Model) -> frozenset[str]:
    return frozenset(session.scalars(sa.select(RevisionRow.sha).where(RevisionRow.model_key == model.key)))


def _refs(session: Session, model: Model) -> dict[str, str]:
    rows = session.execute(sa.select(RefRow.ref, RefRow.sha).where(RefRow.model_key == model.key))
    return {ref: sha for ref, sha in rows}  # noqa: C416  rows are no pairs to `dict` in its types


def _forget(session: Session, model: Model, shas: frozenset[str], names: set[str]) -> tuple[str, ...]:
    """Nothing of the files may be read in the repository's name from here on; returns those that it had."""
    deleted: list[str] = []
    for some in batches(sorted(shas)):
        of = (LargeFileRow.model_key == model.key, LargeFileRow.sha256.in_(some))
        deleted += session.scalars(sa.select(LargeFileRow.sha256).where(*of))
        session.execute(sa.delete(LargeFileRow).where(*of))
    for some in batches(sorted(names | set(deleted))):
        session.execute(sa.delete(ObjectRow).where(ObjectRow.model_key == model.key, ObjectRow.name.in_(some)))
    return tuple(deleted)
