"""Tuning: a model and private data become a private revision with lineage, licence and card.

`data` says which rows can be used, `recipes` what a run does, `masking` and `training` do it inside the child process
`lora_child`, `licensing` and `cards` say what the result may carry; `services` ties them to catalogue and jobs.
"""

from ecotone.tuning.data import BrokenRow
from ecotone.tuning.errors import BrokenData, NotTunable, TargetTaken, TuningNotInstalled
from ecotone.tuning.recipes import Recipe
from ecotone.tuning.services import Tuning

__all__ = ["BrokenData", "BrokenRow", "NotTunable", "Recipe", "TargetTaken", "Tuning", "TuningNotInstalled"]
