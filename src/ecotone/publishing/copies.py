"""Files that are byte for byte those of a data set of answers: what made them is told of the copy too."""

from collections.abc import Iterable, Mapping

import msgspec

from ecotone.catalog import Catalog, File, LineageEdge, Model
from ecotone.vocabulary import RepoType

ASSERTED_BY = "ecotone"


def generated_edges(
    catalog: Catalog, model: Model, files: Mapping[str, File], changed: Iterable[str]
) -> tuple[LineageEdge, ...]:
    """Edges to what made the files that a commit brings to a data set. Whole files alone are recognised."""
    if model.repo_type is not RepoType.DATASET:
        return ()
    paths = {files[path].content.sha256 or files[path].content.git_oid: path for path in changed}
    found: dict[tuple[str, ...], LineageEdge] = {}
    for digest, edge in catalog.generated(paths, besides=model):
        evidence = f"{paths[digest][:200]} is byte for byte a file of a data set with this provenance"
        told = msgspec.structs.replace(edge, child_revision=None, asserted_by=ASSERTED_BY, evidence=evidence)
        found.setdefault(told.identity, told)
    return tuple(found.values())
