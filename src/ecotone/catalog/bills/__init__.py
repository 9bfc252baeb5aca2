"""Bills of materials and openness of models: what the catalogue or a folder knows, handed to `licences`.

cards     card and configuration as facts
starter   what the starter catalogue knows of a model, its parents included
folders   a hub folder on this machine, without server or database
models    a model of the catalogue
"""

from ecotone.catalog.bills.folders import bill_of_folder, openness_of_folder
from ecotone.catalog.bills.models import bill_of_model, known_model, openness_of_model
from ecotone.catalog.bills.starter import known_starter
from ecotone.catalog.bills.writing import FORMATS, written

__all__ = [
    "FORMATS",
    "bill_of_folder",
    "bill_of_model",
    "known_model",
    "known_starter",
    "openness_of_folder",
    "openness_of_model",
    "written",
]
