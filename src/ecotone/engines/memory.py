"""How much memory engines may have, what one needs, and who has how much. Starts and ends no engine."""

import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from ecotone.engines.errors import NoRoom
from ecotone.engines.server.folders import json_file

SHARE = 0.8
"""Of the machine's memory, that engines may have where no setting says otherwise."""
_PROCESS = 450 << 20  # an engine's own: Python, torch, transformers; 382 MiB measured with a model of 0.1 MB
_DOUBLED_UP_TO = 4 << 30  # weights of 16 bits are loaded as 32 up to here (loading._FULL_PRECISION_BYTES)
_WORKING = 0.15  # of the weights, for caches and activations
_HALVES = ("bfloat16", "float16")
_CGROUPS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def of_machine() -> int:
    """Bytes of memory of this machine, or of the container that we run in."""
    found = [1 << 62]
    try:
        total = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal:"))
        found.append(int(total.split()[1]) * 1024)
    except (OSError, StopIteration, ValueError):
        found.append(8 << 30)
    for name in _CGROUPS:
        try:
            found.append(int(Path(name).read_text()))
        except (OSError, ValueError):  # no such group, or "max"
            continue
    return min(found)


def need_of(folder: Path, adapter: Path | None = None) -> int:
    """Bytes that an engine needs at most for the weights in `folder`, while it loads them and after."""
    weights = _weights(folder)
    config = json_file(folder / "config.json")
    stored = str(config.get("dtype") or config.get("torch_dtype") or "")
    if stored.removeprefix("torch.") in _HALVES and weights <= _DOUBLED_UP_TO:
        weights *= 2
    return _PROCESS + int(weights * (1 + _WORKING)) + (2 * _weights(adapter) if adapter is not None else 0)


def _weights(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))


def told(count: int) -> str:
    """Bytes for people."""
    return f"{count / (1 << 30):.1f} GiB" if count >= 1 << 30 else f"{count / (1 << 20):.0f} MiB"


@dataclass(frozen=True)
class Claim:
    """Memory that one engine has or will have: as estimated, and as measured once it has loaded (else None)."""

    model: str
    need: int
    measured: Callable[[], int | None]
    owner: object = None
    """Whose it is: claims of one owner are given up together."""

    @property
    def bytes(self) -> int:
        return self.measured() or self.need


class Memory:
    """The claims of the engines that run. Thread-safe.

    Args:
        most: bytes for all of them.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._claims: set[Claim] = set()
        self._lock = threading.Lock()

    def claim(self, claim: Claim) -> bool:
        """Take room where there is enough; False where there is not."""
        with self._lock:
            if self._used() + claim.need > self.most:
                return False
            self._claims.add(claim)
            return True

    def leave(self, claim: Claim) -> None:
        with self._lock:
            self._claims.discard(claim)

    def could(self, claim: Claim, without: Collection[object]) -> bool:
        """Whether there would be enough, if these owners gave theirs up."""
        with self._lock:
            left = sum(other.bytes for other in self._claims if other.owner not in without)
            return left + claim.need <= self.most

    def refusal(self, claim: Claim, kept: Mapping[object, str]) -> NoRoom:
        """Why there is no room; `kept` says of owners why they are not unloaded. Names no model but the claim's: who
        reads this may not know of the others."""
        with self._lock:
            used = self._used()
            has: dict[str, int] = {}
            for other in self._claims:
                why = kept.get(other.owner, "in use")
                has[why] = has.get(why, 0) + other.bytes
        others = ", ".join(f"{told(count)} {why}" for why, count in sorted(has.items(), key=lambda each: -each[1]))
        free = max(0, self.most - used)
        return NoRoom(
            f"{claim.model} needs about {told(claim.need)} of memory, and {told(free)} of {told(self.most)} are free"
            + (f"; other engines have {others}" if others else "")
            + ". Stop a model with `ecotone stop MODEL`, or let engines have more with ECOTONE_ENGINE_MEMORY.",
            retry_after=15,
        )

    def _used(self) -> int:
        return sum(claim.bytes for claim in self._claims)
