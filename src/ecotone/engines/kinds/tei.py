"""A server of text-embeddings-inference that somebody else runs, for a model of the hub."""

from ecotone.engines.kinds.kind import Hear, Options, Running, Spec
from ecotone.engines.kinds.relayed import Relayed, check_arguments, check_url, key_of, refuse


class Tei:
    takes_files = False
    spreads = True
    libraries: tuple[str, ...] = ()
    extra = ""

    def check(self, options: Options) -> None:
        check_url(options)
        refuse(options, "quantise", "slots", "threads", "device", "replicas", "most_replicas", kind="tei")
        check_arguments(options, frozenset(), "tei")

    def start(self, spec: Spec, hear: Hear) -> Running:
        return Relayed("tei", spec, hear, more={"key": key_of(spec.options)})


KIND = Tei()
