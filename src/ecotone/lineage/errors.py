"""Reasons for which weights cannot be read."""

from ecotone.vocabulary import Invalid


class BrokenWeights(Invalid):
    """A weight file whose header contradicts itself, the file or the format; the finding of a scan, never a crash."""

    code = "broken_weights"
