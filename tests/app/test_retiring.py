"""Old segments of the ledger leave once, whoever asks for it at the same time."""

import threading
from pathlib import Path
from typing import Any

import pytest

from ecotone.app import keeping
from ecotone.app.keeping import Due, Keeping


def test_what_the_clock_and_somebody_remove_at_once_is_removed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The later one failed at a file that was gone, or counted its usage twice."""
    segment = tmp_path / "server" / "1.jsonl"
    segment.parent.mkdir()
    segment.touch()
    told = Due(writer="server", segment=segment.name, bytes=0, exported=True)
    monkeypatch.setattr(Keeping, "due", lambda *_, **__: [told] if segment.exists() else [])
    monkeypatch.setattr(keeping, "leave", lambda _file: None)
    monkeypatch.setattr(keeping, "retire", lambda _folder, files, _seed: [file.unlink() for file in files])

    class Part:
        """The ledger, and the tables of usage."""

        folder = tmp_path
        apart: list[Path] = []  # noqa: RUF012  of one test

        def set_apart(self, file: Path) -> None:
            self.apart.append(file)

    part: Any = Part()
    found = Keeping(part, part, part, seed=lambda: b"", sign=lambda: None, keep_days=1)
    removed: list[list[str]] = []
    other = threading.Thread(target=lambda: removed.append(found.retire(intend=lambda _names: None)))

    def while_another_asks(_names: list[str]) -> None:
        other.start()
        other.join(1)  # it has ended by then, unless it waits for us

    assert found.retire(intend=while_another_asks) == ["server/1.jsonl"]
    other.join(90)
    assert removed == [[]] and part.apart == [segment]
