"""Reasons for which weights cannot be read."""

from ecotone.vocabulary import Invalid


class BrokenWeights(Invalid):
    """A weight file whose header contradicts itself, the file or the format; the finding of a scan, never a crash."""

    code = "broken_weights"


class BrokenIndex(Invalid):
    """An index of sharded weights that names what lies not beside it."""

    code = "broken_index"


class TooManyTensors(BrokenWeights):
    """A header far beyond that of any model; reading it would only cost time."""

    code = "too_many_tensors"


class PickledWeights(BrokenWeights):
    """Weights in a pickle: opening one runs what its maker wrote in it."""

    code = "pickled_weights"
