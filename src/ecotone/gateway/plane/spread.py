"""Several places with the same model: each request goes to the one with the fewest under way."""

from collections import Counter
from collections.abc import Sequence

from ecotone.gateway.plane.upstreams import Place, Unreachable, Upstream


class Spread:
    """Replicas of an engine, for all that asks for one place. They differ in their sockets alone."""

    def __init__(self, places: Sequence[Place]) -> None:
        self.places = list(places)
        self.path = places[0].path
        self.authority = places[0].authority
        self._dialled: Counter[Place] = Counter()
        self.plain: dict[str, float] = {}
        self._turn = 0

    def take(self) -> Upstream | None:
        """A connection that waits at the place with the fewest requests."""
        return self._by_load()[0].take()

    async def connect(self, seconds: float) -> Upstream:
        """A new connection to the place with the fewest requests; one that cannot be reached is passed over.

        Raises:
            Unreachable: none of them can be.
        """
        failed = Unreachable("no replica")
        for place in self._by_load():
            self._dialled[place] += 1
            try:
                return await place.connect(seconds)
            except Unreachable as error:
                failed = error
            finally:
                self._dialled[place] -= 1
        raise failed

    def _by_load(self) -> list[Place]:
        """Those with the fewest requests first; of several with as few, each has its turn."""
        self._turn += 1
        count = len(self.places)
        turned = [self.places[(self._turn + i) % count] for i in range(count)]
        return sorted(turned, key=lambda place: place.open - len(place.idle) + self._dialled[place])
