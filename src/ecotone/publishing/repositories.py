"""Publishing of whole repositories: a history squashed into one commit, a copy under another name.

Both make a revision of files that a revision has already, so that nothing is read again; both are judged like a commit.
"""

from collections.abc import Mapping

from ecotone.accounts import Actor
from ecotone.catalog import File, LineageEdge, Model, Revision, RevisionNotFound, asserter
from ecotone.catalog.gitformat import build_trees
from ecotone.catalog.history import MAIN
from ecotone.publishing import services
from ecotone.publishing.changes import Published
from ecotone.publishing.contents import contents_of
from ecotone.publishing.drafts import Draft, Making
from ecotone.publishing.services import full_ref, title_of
from ecotone.storage import GONE, ObjectMissing
from ecotone.vocabulary import EdgeStatus, Relation, RepoType


class Publishing(services.Publishing):
    """The service as others use it."""

    def squash(self, model: Model, branch: str, message: str, *, actor: Actor) -> Published:
        """One commit without parents in place of a branch's history. Other refs, and commits by their id, stay.

        Raises:
            Forbidden: when the caller is not the repository's author.
            RevisionNotFound: when there is no such branch.
            StaleParent: when somebody wrote to it meanwhile.
        """
        self._catalog.check_author(model, actor)
        ref = full_ref(branch)
        with self.turn(model, ref):
            head = self._catalog.ref_target(model, ref)
            if head is None:
                raise RevisionNotFound(model.id, branch)
            base = self._catalog.revision(model, head)
            files = {p: File(p, f.content, "") for p, f in self._catalog.manifest(base).items()}
            making = _making(ref, base, files, (), parents=(), title=title_of(message))
            return self.show(model, making, contents_of(base), actor)

    def duplicate(self, source: Model, to_id: str, *, actor: Actor, private: bool | None = None) -> Model:
        """A new repository with what main of another one holds, in one commit; no large file is copied.

        The caller must be let in to the source's files, which is for whoever calls to see. The copy keeps the source's
        gate, is private where that is unless told otherwise, and descends from it: its terms bind the copy, whatever
        card it is given later.

        Raises:
            RepoExists, ReservedId, Forbidden, BadName: as making a repository does.
            Refused: when licence or policy forbids it; then nothing is left of the copy.
        """
        base = self._catalog.revision(source)
        before = self._catalog.manifest(base)
        hidden = source.private if private is None else private
        made = self._catalog.create(to_id, repo_type=source.repo_type, private=True, gated=source.gated, actor=actor)
        try:
            self._fill(source, base, before, made, actor)
            self._catalog.update(made, actor=actor, private=hidden, gated=source.gated or False)
        except BaseException:
            self._catalog.delete(made, actor)
            raise
        return self._catalog.model(made.id, viewer=actor, repo_type=made.repo_type)

    def _fill(self, source: Model, base: Revision, before: Mapping[str, File], target: Model, actor: Actor) -> None:
        files = {p: File(p, f.content, "") for p, f in before.items()}
        if source.namespace != target.namespace:
            large = {p: f.content.sha256 for p, f in before.items() if f.content.sha256 and f.content.kind != GONE}
            shared = self._storage.share(source.namespace, target.namespace, large.values())
            missing = next((path for path, sha256 in large.items() if sha256 not in shared), None)
            if missing is not None:
                raise ObjectMissing(missing)
            files |= {path: File(path, shared[sha256], "") for path, sha256 in large.items()}
        edge = LineageEdge(
            child=target.id,
            parent=source.id,
            parent_revision=base.id,
            relation=Relation.MIRROR_OF,
            status=EdgeStatus.VERIFIED,
            asserted_by=asserter(actor.name),
            evidence="duplicated on this hub",
        )
        of_models = target.repo_type is RepoType.MODEL
        contents = contents_of(base, extra=(edge,) if of_models else ())
        with self.turn(target, MAIN):
            head = self._catalog.revision(target)
            making = _making(MAIN, head, files, tuple(files), parents=(head.id,), title=f"Duplicate from {source.id}")
            self.show(target, making, contents, actor)


def _making(
    ref: str,
    head: Revision,
    files: Mapping[str, File],
    changed: tuple[str, ...],
    *,
    parents: tuple[str, ...],
    title: str,
) -> Making:
    """A revision of files that are here already, in place of `head`."""
    return Making(
        ref=ref,
        expected=head.id,
        base=head,
        before={},
        made=Draft(dict(files), changed),
        tree=build_trees({path: file.content.git_oid for path, file in files.items()}),
        parents=parents,
        title=title,
    )
