"""The withdrawal drill: what there is of a model whose licence ended, kept with a proof, and checked off later.

A drill lists and changes nothing. It is kept as a file that the installation signed, and the ledger knows its hash: so
what was listed, when and by whom can be shown to others, and whoever changes the file is found out. Checking off reads
the installation again and says of each item whether it is gone or where it still is; what cannot be seen from here
(copies outside) is settled by hand.
"""

import os
import re
import secrets
from pathlib import Path
from typing import Any

import msgspec

from ecotone.accounts import SYSTEM, Actor
from ecotone.app.withdrawal_items import BY_HAND, MOST_ITEMS, Inventory, Item
from ecotone.catalog import Catalog, Clan
from ecotone.database import utc_now
from ecotone.ledger import public_key
from ecotone.ledger.documents import Proof, problem_of, proof_of, read_document
from ecotone.licences import KnowledgeBase
from ecotone.licences.decision import NOTICE
from ecotone.storage.files import flush_folder, room_on_disk
from ecotone.vocabulary import Conflict, Invalid, NotFound

FORMAT = 1
MOST_DRILLS = 1000
_LONGEST_REASON = 500
_ID = re.compile(r"w[0-9a-f]{16}\Z")
_BEYOND = (
    "copies that were downloaded, backups, exports, and caches of clients (huggingface_hub's among them)",
    "models of other hubs, and models here whose lineage nobody has declared or found",
    "gateways on other machines, which follow within seconds while they reach this server",
    "answers that the model gave and that somebody keeps outside",
)


class Drill(msgspec.Struct, frozen=True, kw_only=True):
    """What was found. `ends` are clauses by which the licence ends, `beyond` what no list of ours can hold."""

    withdrawal: int = FORMAT
    id: str
    made: str
    by: str
    model: str
    revision: str | None
    known: bool
    deleted: bool
    reason: str
    licences: tuple[str, ...]
    ends: tuple[dict[str, str], ...]
    items: tuple[Item, ...]
    counts: dict[str, int]
    cut: bool
    beyond: tuple[str, ...] = _BEYOND
    notice: str = NOTICE
    proof: Proof | None = None


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """An item of a drill, later: `gone`, `still there` (where), or `by hand`."""

    item: Item
    state: str
    where: str = ""


class CheckOff(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a drill. `new` was not there when the drill was made. `done`: nothing is left here."""

    drill: str
    model: str
    checked: str
    by: str
    gone: int
    there: int
    by_hand: int
    done: bool
    items: tuple[Checked, ...]
    new: tuple[Item, ...]
    drill_sha256: str
    beyond: tuple[str, ...] = _BEYOND
    proof: Proof | None = None


class DrillNotFound(NotFound):
    code = "drill_not_found"

    def __init__(self, drill_id: str) -> None:
        super().__init__(f"There is no drill {drill_id[:40]!r}; `ecotone lineage withdrawals` lists them.", param="id")


class Withdrawals:
    """Drills of one installation.

    Args:
        folder: where drills are kept.
        seed: of the installation's signing key.
    """

    def __init__(
        self, *, catalog: Catalog, knowledge: KnowledgeBase, inventory: Inventory, folder: Path, seed: bytes
    ) -> None:
        self._catalog, self._knowledge, self._inventory = catalog, knowledge, inventory
        self._folder, self._seed = folder, seed

    def look(self, model: str, *, revision: str | None = None, reason: str = "", actor: Actor) -> Drill:
        """What a drill would list, kept nowhere.

        Raises:
            ModelNotFound: when nothing is known under that name.
            Invalid: for a revision that neither is the newest nor named by a child.
        """
        clan = self._catalog.clan(model, viewer=SYSTEM)
        selves = _selves(clan, revision)
        subject = clan.members[clan.subject]
        licences = tuple(dict.fromkeys(i for key in selves for i in clan.members[key].instruments))
        items = self._inventory.find(clan, selves, revision)
        counts: dict[str, int] = {}
        for item in items:
            counts[item.kind] = counts.get(item.kind, 0) + 1
        return Drill(
            id="w" + secrets.token_hex(8),
            made=utc_now().isoformat(timespec="seconds"),
            by=actor.name,
            model=subject.name,
            revision=revision,
            known=subject.known,
            deleted=subject.deleted,
            reason=reason.strip()[:_LONGEST_REASON],
            licences=licences,
            ends=tuple(self._ends(licences)),
            items=tuple(items),
            counts=counts,
            cut=clan.cut or len(items) >= MOST_ITEMS,
        )

    def _ends(self, licences: tuple[str, ...]) -> list[dict[str, str]]:
        """Clauses by which a text ends, where the knowledge base has them."""
        return [
            {"entry": entry.id, "clause": fact.clause.sec, "means": fact.means}
            for entry in (self._knowledge.entries[i] for i in licences if i in self._knowledge.entries)
            for fact in entry.facts
            if fact.modality == "terminate"
        ]

    def make(self, model: str, *, revision: str | None = None, reason: str = "", actor: Actor) -> Drill:
        """The same, signed and kept.

        Raises:
            Conflict: when as many are kept as may be.
        """
        if sum(1 for _ in self._folder.glob("w*.json")) >= MOST_DRILLS:
            raise Conflict(
                f"{MOST_DRILLS} drills are kept in the folder `withdrawals` of the data folder; move old ones away."
            )
        drill = self.look(model, revision=revision, reason=reason, actor=actor)
        drill = msgspec.structs.replace(drill, proof=proof_of(msgspec.to_builtins(drill), self._seed))
        names = ("id", "made", "by", "model", "revision")
        line = {name: getattr(drill, name) for name in names} | {"items": len(drill.items)}
        self._write(f"{drill.id}.json", msgspec.json.encode(drill))
        self._write(f"{drill.id}.line", msgspec.json.encode(line))
        return drill

    def _write(self, name: str, content: bytes) -> None:
        draft = self._folder / f".{name}"
        with room_on_disk(), open(draft, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.rename(self._folder / name)
        flush_folder(self._folder)

    def kept(self) -> list[dict[str, Any]]:
        """Drills, newest first, each in a line."""
        lines = [line for path in self._folder.glob("w*.line") if (line := self._read(path)) is not None]
        return sorted(lines, key=lambda line: (str(line.get("made")), str(line.get("id"))), reverse=True)

    def get(self, drill_id: str) -> Drill:
        """A kept drill. Raises DrillNotFound; Conflict when its file is not what was signed."""
        found = self._read(self._folder / f"{drill_id}.json") if _ID.match(drill_id) else None
        if found is None:
            raise DrillNotFound(drill_id)
        problem = problem_of(found, public_key(self._seed))
        if problem:
            raise Conflict(f"The kept drill {drill_id} is not what was signed: {problem}.", param="id")
        return msgspec.convert(found, Drill)

    @staticmethod
    def _read(path: Path) -> dict[str, Any] | None:
        try:
            return read_document(path.read_bytes())
        except (OSError, ValueError):
            return None

    def check(self, drill_id: str, *, actor: Actor) -> CheckOff:
        """What is gone of a drill, and where the rest still is.

        Raises:
            DrillNotFound, Conflict: as `get`.
        """
        drill = self.get(drill_id)
        still = self._inventory.still(drill.items)
        items = tuple(_checked(item, still) for item in drill.items)
        known = {item.mark for item in drill.items}
        new = tuple(item for item in self._again(drill) if item.mark not in known and item.kind not in BY_HAND)
        states = [one.state for one in items]
        found = CheckOff(
            drill=drill.id,
            model=drill.model,
            checked=utc_now().isoformat(timespec="seconds"),
            by=actor.name,
            gone=states.count("gone"),
            there=states.count("still there"),
            by_hand=states.count("by hand"),
            done="still there" not in states and not new,
            items=items,
            new=new,
            drill_sha256=drill.proof.sha256 if drill.proof else "",
        )
        return msgspec.structs.replace(found, proof=proof_of(msgspec.to_builtins(found), self._seed))

    def _again(self, drill: Drill) -> list[Item]:
        try:
            clan = self._catalog.clan(drill.model, viewer=SYSTEM)
            return self._inventory.find(clan, _selves(clan, drill.revision), drill.revision)
        except (NotFound, Invalid):  # nothing is known of it any more
            return []


def _checked(item: Item, still: dict[str, str]) -> Checked:
    if item.kind in BY_HAND:
        return Checked(item=item, state="by hand", where=item.where)
    where = still.get(item.mark)
    return Checked(item=item, state="gone" if where is None else "still there", where=where or "")


def _selves(clan: Clan, revision: str | None) -> tuple[str, ...]:
    found = tuple(key for key in clan.selves if revision is None or clan.members[key].revision == revision)
    if not found:
        raise Invalid(
            f"{(revision or '')[:60]!r} is neither the newest revision of {clan.subject} nor one that a child names; "
            "leave it out to mean all.",
            param="revision",
        )
    return found
