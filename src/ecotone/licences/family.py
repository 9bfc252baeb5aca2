"""What is asked about: a use, and the family of the model with the instruments (licences, terms) of each node."""

import datetime
from typing import Any

import msgspec

from ecotone.vocabulary import EdgeStatus, Mode, Purpose, Relation


class Use(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody wants to do.

    `variables` holds further facts by the dotted names of the knowledge base, such as `org.mau`, `account.tier` or
    `org.mau_at.2024-06`. What is not there is unknown, never guessed. `date` is the day of the use; today when absent.
    """

    mode: Mode
    purpose: Purpose
    modified: bool = False
    declared_licence: str | None = None
    date: datetime.date | None = None
    variables: dict[str, Any] = {}


class Node(msgspec.Struct, frozen=True):
    """A model, API model or dataset. `instruments` are knowledge-base ids; `unknown` and `none` are entries too.

    `facts` are what is known of the node itself by the dotted names of the knowledge base, such as `model.modality`:
    they count for its own instruments, here and in its descendants, before what the use says of all.
    A node with `visible=False` binds its descendants without its id or clauses being told.
    """

    id: str
    revision: str | None = None
    instruments: tuple[str, ...] = ()
    kind: str = "weights"
    visible: bool = True
    facts: dict[str, Any] = {}


class Edge(msgspec.Struct, frozen=True):
    child: str
    parent: str
    relation: Relation
    status: EdgeStatus = EdgeStatus.DECLARED


class Family(msgspec.Struct, frozen=True):
    """The subject with all its ancestors. A parent named by an edge and absent from `nodes` has unknown instruments."""

    subject: str
    nodes: dict[str, Node]
    edges: tuple[Edge, ...] = ()

    def node(self, node_id: str) -> Node:
        return self.nodes.get(node_id) or Node(node_id, instruments=("unknown",))
