"""Reading a ledger from its files, while it is being written or long after."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from ecotone.ledger import records
from ecotone.ledger.records import Head
from ecotone.ledger.rulings import content_of
from ecotone.ledger.segments import head_of_chain, segments
from ecotone.ledger.spilling import NAME, spilled
from ecotone.ledger.verifying import Report, verify

_TRIES: Final = 4


class Ledger:
    """All chains below a folder.

    Args:
        folder: of the ledger.
        spill: the second folder, where the ends of chains lie while there is no room in the first.
    """

    def __init__(self, folder: Path, *, spill: Path | None = None) -> None:
        self._folder = folder
        self._spill = spill

    @property
    def folder(self) -> Path:
        return self._folder

    def chains(self) -> list[Path]:
        return sorted(f for f in self._folder.iterdir() if f.is_dir()) if self._folder.is_dir() else []

    def records(self, *kinds: str, newest_first: bool = False, writer: str | None = None) -> Iterator[dict[str, Any]]:
        """Records of these kinds (all when none is named), chain by chain; torn and foreign lines are passed over.

        Args:
            kinds: what they are: opened, settled, ...
            newest_first: from the end of each chain.
            writer: one chain alone.
        """
        wanted = [f'"kind":"{kind}"'.encode() for kind in kinds]
        for chain in self.chains():
            if writer is not None and chain.name != writer:
                continue
            files = self.files(chain)
            for segment in reversed(files) if newest_first else files:
                least = head_of_chain(chain).records if segment.name == NAME else 0
                with segment.open("rb") as file:
                    lines = reversed(file.readlines()) if newest_first else file
                    for line in lines:
                        if not wanted or any(word in line for word in wanted):
                            found = records.decoded(line)
                            if found is None or (kinds and found["kind"] not in kinds):
                                continue
                            if not least or found.get("n", 0) > least:
                                yield found

    def files(self, chain: Path) -> list[Path]:
        """The files of a chain in order. A record that is being moved lies in the last two."""
        return [*segments(chain), *self._beyond(chain)]

    def _beyond(self, chain: Path) -> list[Path]:
        """The file with a chain's end that lies outside of its folder."""
        found = spilled(self._spill, chain.name)
        return [found] if found is not None else []

    def find(self, request_id: str) -> list[dict[str, Any]]:
        """All records of one request, in the order in which they were written."""
        needle = f'"request_id":"{request_id}"'.encode()
        writer = records.writer_of(request_id)
        found: list[dict[str, Any]] = []
        chains = self.chains()
        for chain in [c for c in chains if c.name == writer] or chains:
            for segment in reversed(self.files(chain)):
                content = segment.read_bytes()
                if needle not in content:
                    if found:
                        break
                    continue
                lines = [line for line in content.splitlines() if needle in line]
                found = [r for line in lines if (r := records.decoded(line)) is not None] + found
        once = {(r.get("n"), r.get("hash")): r for r in found}  # what is being moved lies in two places
        return [r for r in once.values() if r.get("request_id") == request_id]

    def ruling(self, ruling: str, *, writer: str | None = None) -> bytes | None:
        """A decision by its id, as JSON; the chain that names it is looked through first.

        None when it is nowhere, or its content is not what its id says.
        """
        needle = f'"id":"{ruling}","ruling":'.encode()
        chains = self.chains()
        for chain in sorted(chains, key=lambda c: c.name != writer):
            for segment in reversed(self.files(chain)):
                with segment.open("rb") as file:
                    for line in file:
                        if needle in line and (found := content_of(line, ruling)) is not None:
                            return found
        return None

    def heads(self, *, besides: str = "") -> dict[str, Head]:
        """Length and last hash of every chain but one, as their files say."""
        heads = {chain.name: self._head(chain) for chain in self.chains() if chain.name != besides}
        return {writer: head for writer, head in heads.items() if head.records}

    def _head(self, chain: Path) -> Head:
        head = head_of_chain(chain)
        for file in self._beyond(chain):
            lines = file.read_bytes().splitlines(keepends=True)
            last = next((h for line in reversed(lines) if (h := records.head_of(line)) is not None), head)
            head = max(head, last, key=lambda h: h.records)
        return head

    def holds(self, writer: str, head: Head) -> bool:
        """Whether a chain has the record that a head names, with its hash."""
        needle = f',"hash":"{head.hash}"}}\n'.encode()
        start = f'{{"n":{head.records},'.encode()
        chain = self._folder / writer
        for segment in reversed(self.files(chain)):
            with segment.open("rb") as file:
                if any(line.startswith(start) and line.endswith(needle) for line in file):
                    return True
        return False

    def verify(self, heads: Mapping[str, Head] | None = None, key: bytes | None = None) -> Report:
        """Check every hash, every link, every number, the signed checkpoints, and the heads known from elsewhere.

        Args:
            heads: lengths and hashes that the chains must at least have, from the database: a cut tail fails.
            key: public signing key (32 bytes); without it signatures are not checked.
        """
        for _ in range(_TRIES):
            with contextlib.suppress(FileNotFoundError):  # its records were exported, or moved to the chain
                return self._verified(heads or {}, key)
        return self._verified(heads or {}, key)

    def _verified(self, heads: Mapping[str, Head], key: bytes | None) -> Report:
        chains = self.chains()
        return verify(chains, heads, key, beyond={chain.name: self._beyond(chain) for chain in chains})
