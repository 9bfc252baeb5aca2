"""Any server of OpenAI's dialect that somebody else runs, for a model of the hub."""

from ecotone.engines.errors import NotServable
from ecotone.engines.kinds.kind import Hear, Options, Running, Spec
from ecotone.engines.kinds.relayed import Relayed, check_arguments, check_url, key_of, refuse

_ARGUMENTS = frozenset({"task"})
_TASKS = ("text-generation", "feature-extraction")


class OpenAI:
    takes_files = False
    spreads = True
    libraries: tuple[str, ...] = ()
    extra = ""

    def check(self, options: Options) -> None:
        check_url(options)
        refuse(options, "quantise", "slots", "threads", "device", "replicas", "most_replicas", kind="openai")
        check_arguments(options, _ARGUMENTS, "openai")
        if options.arguments.get("task", _TASKS[0]) not in _TASKS:
            raise NotServable(f"The argument task is {options.arguments['task']!r}; {' or '.join(_TASKS)} is expected.")

    def start(self, spec: Spec, hear: Hear) -> Running:
        return Relayed("openai", spec, hear, more={"key": key_of(spec.options)})


KIND = OpenAI()
