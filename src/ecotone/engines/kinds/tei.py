"""A server of text-embeddings-inference that somebody else runs, for a model of the hub."""

from ecotone.engines.kinds.relayed import Elsewhere


class Tei(Elsewhere):
    name = "tei"


KIND = Tei()
