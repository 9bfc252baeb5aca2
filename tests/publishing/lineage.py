"""The edges that a model's newest revision has, whole and in short."""

from types import SimpleNamespace

from ecotone.accounts import SYSTEM
from ecotone.catalog import LineageEdge
from ecotone.vocabulary import EdgeStatus, Relation


def edges(house: SimpleNamespace, name: str) -> tuple[LineageEdge, ...]:
    found: tuple[LineageEdge, ...] = house.catalog.revision(house.catalog.model(name, viewer=SYSTEM)).edges
    return found


def told(house: SimpleNamespace, name: str) -> list[tuple[str, Relation, EdgeStatus]]:
    return [(e.parent, e.relation, e.status) for e in edges(house, name)]
