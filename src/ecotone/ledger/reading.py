"""Reading a ledger from its files, while it is being written or long after."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from itertools import takewhile
from pathlib import Path
from typing import Any, BinaryIO, Final

from ecotone.ledger import records
from ecotone.ledger.records import Head
from ecotone.ledger.rulings import content_of
from ecotone.ledger.segments import head_of_chain, segments
from ecotone.ledger.spilling import NAME, NOWHERE, number_of, spilled
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
        for line in self.lines(newest_first=newest_first, writer=writer):
            if not wanted or any(word in line for word in wanted):
                found = records.decoded(line)
                if found is not None and (not kinds or found["kind"] in kinds):
                    yield found

    def lines(self, *, newest_first: bool = False, writer: str | None = None) -> Iterator[bytes]:
        """Whole lines as they stand, chain by chain, each once; arguments as of `records`."""
        for chain in self.chains():
            if writer is None or chain.name == writer:
                for _, lines in self.pieces(chain, newest_first=newest_first):
                    yield from lines

    def opened(self, chain: Path, *, newest_first: bool = False) -> Iterator[tuple[Path, BinaryIO]]:
        """The files of a chain in order, each open.

        That of the second folder is opened before the others are looked for, so that what is moved meanwhile is in both
        and never in neither. A segment that is removed meanwhile, after its export, is passed over.
        """
        with contextlib.ExitStack() as stack:
            beyond = []
            for path in self._beyond(chain):
                with contextlib.suppress(FileNotFoundError):
                    beyond.append((path, stack.enter_context(path.open("rb"))))
            files = segments(chain)
            if newest_first:
                yield from beyond
            for segment in reversed(files) if newest_first else files:
                try:
                    file = segment.open("rb")
                except FileNotFoundError:
                    continue
                with file:
                    yield segment, file
            if not newest_first:
                yield from beyond

    def pieces(self, chain: Path, *, newest_first: bool = False) -> Iterator[tuple[Path, Iterable[bytes]]]:
        """The files of a chain in order, each with its whole lines; a record that is in two of them comes once."""
        seen = [0]
        behind: list[bytes] = []
        beyond = chain
        for path, file in self.opened(chain, newest_first=newest_first):
            lines: Iterator[bytes] = takewhile(_is_whole, file)  # one that is being written is for the next reading
            if not newest_first:
                yield path, _behind(lines, seen[0]) if path.name == NAME else _noted(lines, seen, chain)
            elif path.name == NAME:
                beyond, behind = path, list(lines)
            else:
                if behind and (here := list(_noted(lines, seen, chain))):
                    yield beyond, reversed(list(_behind(behind, seen[0])))
                    lines, behind = iter(here), []
                yield path, _backwards(lines)
        if behind:
            yield beyond, reversed(behind)

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
            for _, file in self.opened(chain, newest_first=True):
                content = file.read()
                if needle not in content:
                    if _is_complete(found):
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
            for _, file in self.opened(chain, newest_first=True):
                for line in file:
                    if needle in line and (found := content_of(line, ruling)) is not None:
                        return found
        return None

    def heads(self, *, besides: str = "") -> dict[str, Head]:
        """Length and last hash of every chain but one, as their files say."""
        heads = {chain.name: self._head(chain) for chain in self.chains() if chain.name != besides}
        return {writer: head for writer, head in heads.items() if head.records}

    def _head(self, chain: Path) -> Head:
        beyond = [last for file in self._beyond(chain) if (last := _last_head(file)) is not None]
        return max(head_of_chain(chain), *beyond, key=lambda h: h.records) if beyond else head_of_chain(chain)

    def holds(self, writer: str, head: Head) -> bool:
        """Whether a chain has the record that a head names, with its hash."""
        needle = f',"hash":"{head.hash}"}}\n'.encode()
        start = f'{{"n":{head.records},'.encode()
        chain = self._folder / writer
        opened = self.opened(chain, newest_first=True)
        return any(line.startswith(start) and line.endswith(needle) for _, file in opened for line in file)

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


def _is_whole(line: bytes) -> bool:
    return line.endswith(b"\n")


def _noted(lines: Iterable[bytes], seen: list[int], chain: Path) -> Iterator[bytes]:
    """Lines, the last of which is noted by its number once all were taken."""
    line = b""
    for line in lines:
        yield line
    if line:
        number = number_of(line)
        seen[0] = number if number != NOWHERE else head_of_chain(chain).records


def _behind(lines: Iterable[bytes], number: int) -> Iterator[bytes]:
    return (line for line in lines if number_of(line) > number)


def _backwards(lines: Iterable[bytes]) -> Iterator[bytes]:
    yield from reversed(list(lines))


def _is_complete(found: list[dict[str, Any]]) -> bool:
    """Whether these end a request's records: each end has its beginning, however many segments lie between."""
    kinds = [record.get("kind") for record in found]
    return bool(found) and kinds.count("opened") >= kinds.count("settled") + kinds.count("failed")


def _last_head(file: Path) -> Head | None:
    """The last whole record of a file; None when there is none, or the file is gone: what was in it was moved."""
    try:
        lines = file.read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return None
    return next((head for line in reversed(lines) if (head := records.head_of(line)) is not None), None)
