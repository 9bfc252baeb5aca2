"""Two sets of weights compared, and what they say of descent.

Pure: works on fingerprints and on weights read tensor by tensor, in bounded memory. In reading order: `pairing` finds
which tensor answers to which, `differences` what lies between them, `aligning` and `views` undo permutations and
rotations, `concluding` and `directing` say what the figures mean, `merging` finds the shares of several parents.
"""

from ecotone.lineage.comparing.adapters import against_base, is_adapter
from ecotone.lineage.comparing.answers import UNSEEN, Check, Comparison, Direction, Finding, Likeness, Related
from ecotone.lineage.comparing.comparing import compare
from ecotone.lineage.comparing.explaining import explain
from ecotone.lineage.comparing.merging import Recovered, recover
from ecotone.lineage.comparing.prints import compare_prints

__all__ = [
    "UNSEEN",
    "Check",
    "Comparison",
    "Direction",
    "Finding",
    "Likeness",
    "Recovered",
    "Related",
    "against_base",
    "compare",
    "compare_prints",
    "explain",
    "is_adapter",
    "recover",
]
