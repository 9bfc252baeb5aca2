"""Reading a ledger from its files, while it is being written or long after."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ecotone.ledger import records
from ecotone.ledger.records import Head
from ecotone.ledger.segments import head_of_chain, segments
from ecotone.ledger.verifying import Report, verify


class Ledger:
    """All chains below a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

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
            files = segments(chain)
            for segment in reversed(files) if newest_first else files:
                with segment.open("rb") as file:
                    lines = reversed(file.readlines()) if newest_first else file
                    for line in lines:
                        if not wanted or any(word in line for word in wanted):
                            found = records.decoded(line)
                            if found is not None and (not kinds or found["kind"] in kinds):
                                yield found

    def find(self, request_id: str) -> list[dict[str, Any]]:
        """All records of one request, in the order in which they were written."""
        needle = f'"request_id":"{request_id}"'.encode()
        writer = records.writer_of(request_id)
        found: list[dict[str, Any]] = []
        chains = self.chains()
        for chain in [c for c in chains if c.name == writer] or chains:
            for segment in reversed(segments(chain)):
                content = segment.read_bytes()
                if needle not in content:
                    if found:
                        break
                    continue
                lines = [line for line in content.splitlines() if needle in line]
                found = [r for line in lines if (r := records.decoded(line)) is not None] + found
        return [r for r in found if r.get("request_id") == request_id]

    def heads(self, *, besides: str = "") -> dict[str, Head]:
        """Length and last hash of every chain but one, as their files say."""
        heads = {chain.name: head_of_chain(chain) for chain in self.chains() if chain.name != besides}
        return {writer: head for writer, head in heads.items() if head.records}

    def holds(self, writer: str, head: Head) -> bool:
        """Whether a chain has the record that a head names, with its hash."""
        needle = f',"hash":"{head.hash}"}}\n'.encode()
        start = f'{{"n":{head.records},'.encode()
        for segment in reversed(segments(self._folder / writer)):
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
        return verify(self.chains(), heads or {}, key)
