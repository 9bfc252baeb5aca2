"""The parents of a model among a few candidates, best first, merges included."""

from collections.abc import Callable, Mapping

from ecotone.lineage.comparing.answers import Comparison, Finding, Related
from ecotone.lineage.comparing.comparing import compare
from ecotone.lineage.comparing.merging import MOST, recover
from ecotone.lineage.comparing.thresholds import thresholds
from ecotone.lineage.fingerprint import Fingerprint
from ecotone.lineage.sources import Source
from ecotone.vocabulary import Relation

_CLOSEST = (Relation.MIRROR_OF, Relation.CONVERTED, Relation.QUANTISED, Relation.ADAPTER_MERGED)


def explain(
    child: Source,
    candidates: Mapping[str, Source],
    *,
    prints: tuple[Fingerprint, Mapping[str, Fingerprint]] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Finding]:
    """What a child was made from, of at most eight candidates; empty when it descends from none.

    Args:
        child: the model in question.
        candidates: possible parents by id.
        prints: the child's fingerprint and those of candidates, where they are known.
        progress: is told candidates done and candidates in all.

    Returns:
        a merge first where one explains the child as no single parent does, then single parents by likeness.

    Raises:
        ValueError: there are more than eight candidates.
    """
    if len(candidates) > MOST:
        raise ValueError(f"{len(candidates)} candidates were given; at most {MOST} are compared.")
    single: list[Finding] = []
    for done, (name, source) in enumerate(candidates.items()):
        known = (prints[0], prints[1][name]) if prints is not None and name in prints[1] else None
        found = compare(child, source, prints=known)
        if found.related is not Related.NO:
            single.append(Finding({name: 1.0}, found.related, found.relation, comparison=found))
        if progress is not None:
            progress(done + 1, len(candidates))
    single.sort(key=_order)
    if len(candidates) > 1 and single and not _is_closest(single[0].comparison):
        least = thresholds().merge_weight
        mix = recover(child, candidates)
        if mix.merged:
            parents = {n: w for n, w in sorted(mix.weights.items(), key=lambda i: -i[1]) if w > least}
            single.insert(0, Finding(parents, Related.YES, Relation.MERGE, round(mix.residual, 6)))
    return single


def _is_closest(found: Comparison | None) -> bool:
    """Whether one parent explains the child so fully that no second is looked for."""
    return found is not None and found.relation in _CLOSEST


def _order(finding: Finding) -> tuple[bool, bool, float]:
    found = finding.comparison
    return (finding.related is not Related.YES, not _is_closest(found), -(found.likeness if found is not None else 0.0))
