"""Any server of OpenAI's dialect that somebody else runs, for a model of the hub."""

from ecotone.engines.errors import NotServable
from ecotone.engines.kinds.kind import Options
from ecotone.engines.kinds.relayed import Elsewhere

_TASKS = ("text-generation", "feature-extraction")


class OpenAI(Elsewhere):
    name = "openai"
    arguments = frozenset({"task"})

    def check(self, options: Options) -> None:
        super().check(options)
        if options.arguments.get("task", _TASKS[0]) not in _TASKS:
            raise NotServable(f"The argument task is {options.arguments['task']!r}; {' or '.join(_TASKS)} is expected.")


KIND = OpenAI()
