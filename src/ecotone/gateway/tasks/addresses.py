"""What a path of Hugging Face's inference names: a model, a task or an endpoint. Pure."""

import re
from typing import Final
from urllib.parse import unquote

import msgspec

from ecotone.gateway.answers import Refusal

TASKS: Final = "tasks"
"""The face under which tasks are counted and recorded."""

AUTO: Final = "auto"
INFO: Final = "info"
HEALTH: Final = "health"
_ENDPOINTS: Final = {"/v1/chat/completions": "chat", "/v1/completions": "completions", "/v1/embeddings": "embeddings"}
_LOOKS: Final = frozenset({INFO, HEALTH})
_TASK: Final = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_MOST_NAME: Final = 256


class Called(msgspec.Struct, frozen=True):
    """What is called: `face` is tasks, chat, completions, embeddings, info or health; `task` auto where none is named.

    `model` may end with `@` and a revision.
    """

    face: str
    model: str
    task: str = AUTO


def called(method: bytes, path: str) -> Called:
    """What a request's method and path call.

    Args:
        path: raw or decoded, without its query: `/models/MODEL`, `/models/MODEL/pipeline/TASK`,
            `/pipeline/TASK/MODEL`, each also below `/hf-inference`, and with an endpoint behind it.

    Raises:
        Refusal: 404 for what is no such path, 405 for another method.
    """
    rest = unquote(path).removeprefix("/hf-inference").rstrip("/")
    face, task = TASKS, ""
    if method == b"POST":
        for end, name in _ENDPOINTS.items():
            if rest.endswith(end):
                face, rest = name, rest.removesuffix(end)
                break
        rest = rest.removesuffix("/v1")  # a client whose base address ends so sends its tasks there
    elif method in (b"GET", b"HEAD"):
        rest, _, look = rest.rpartition("/")
        if look not in _LOOKS:
            raise _no_path(path)
        face = look
    else:
        raise Refusal(405, "method_not_allowed", f"{path[:200]} takes POST.", headers={"allow": "POST"})
    if rest.startswith("/pipeline/"):
        task, _, model = rest.removeprefix("/pipeline/").partition("/")
    elif rest.startswith("/models/"):
        model = rest.removeprefix("/models/")
        if "/pipeline/" in model:
            model, _, task = model.rpartition("/pipeline/")
    else:
        raise _no_path(path)
    if not model or len(model) > _MOST_NAME or not model.isprintable():
        raise _no_path(path)
    if task and not _TASK.fullmatch(task):
        raise Refusal(404, "not_found", f"There is no task {task[:64]!r}; its name is written like fill-mask.")
    return Called(face, model, task.replace("_", "-") or AUTO)


def _no_path(path: str) -> Refusal:
    text = (
        f"There is no endpoint {path[:200]!r}; tasks are sent by POST to /models/NAMESPACE/NAME, or to "
        "/models/NAMESPACE/NAME/pipeline/TASK, chat to /models/NAMESPACE/NAME/v1/chat/completions."
    )
    return Refusal(404, "not_found", text)
