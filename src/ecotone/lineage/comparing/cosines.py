"""The cosine of two tables of one shape."""

from typing import Any

import numpy as np
import numpy.typing as npt


def cosine(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> float:
    """-1 to 1, in the precision of the tables; 0 where one of them is all zeros."""
    scale = float(np.linalg.norm(a)) * float(np.linalg.norm(b))
    return float((a * b).sum()) / scale if scale > 0 else 0.0
