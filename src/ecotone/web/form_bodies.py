"""Forms with files or long texts: who sent them, their fields and files, all within bounds.

The sender is known from the session before a byte of the body is read, and vouched for by the form's own token before
anything is done. Files are spooled to unnamed temporary files, so that a lost connection leaves nothing.
"""

import contextlib
import hmac
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import BinaryIO

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from ecotone.accounts import Actor
from ecotone.vocabulary import Forbidden, Invalid, TooLarge
from ecotone.web.forms import COOKIE, bound_token
from ecotone.web.rendering import size
from ecotone.web.sessions import session_actor

MOST_FIELDS = 20
MOST_TEXT = 512 * 1024
MOST_DRAINED = 64 * 1024 * 1024
_OVERHEAD = MOST_TEXT + 64 * 1024


@dataclass(frozen=True, slots=True)
class SentFile:
    """A file of a form. `name` is what the browser called it, without folders."""

    name: str
    file: BinaryIO
    size: int


@dataclass(frozen=True, slots=True)
class Form:
    """What was sent, and by whom."""

    actor: Actor
    fields: dict[str, str] = field(default_factory=dict)
    files: tuple[SentFile, ...] = ()

    def __getitem__(self, name: str) -> str:
        return self.fields.get(name, "")


@contextlib.asynccontextmanager
async def sent_form(request: Request, check: Callable[[Actor], object]) -> AsyncIterator[Form]:
    """A multipart form of ours; its files are closed when the context ends.

    Args:
        check: raises for a sender from whom no body is read; called in a worker thread.

    Raises:
        Forbidden: when nobody vouches for the sender.
        TooLarge: when files or texts pass the bounds of the settings.
        Invalid: when the body is no form.
    """
    settings = request.app.state.services.settings
    actor = await session_actor(request)
    await run_in_threadpool(check, actor)
    most = settings.upload_form_bytes + _OVERHEAD
    length = request.headers.get("content-length", "")
    try:
        if length.isdigit() and int(length) > most:
            raise _too_large(settings.upload_form_bytes)
        data = await _parsed(request, most, settings.upload_form_bytes, settings.upload_form_files)
    except TooLarge:
        await _drain(request)
        raise
    try:
        _check_vouched(request, data)
        fields = {name: value for name, value in data.multi_items() if isinstance(value, str)}
        files = tuple(_sent(value) for _, value in data.multi_items() if isinstance(value, UploadFile))
        named = tuple(f for f in files if f.name)
        if sum(f.size for f in named) > settings.upload_form_bytes:
            raise _too_large(settings.upload_form_bytes)
        yield Form(actor, fields, named)
    finally:
        await data.close()


async def _parsed(request: Request, most: int, shown: int, most_files: int) -> FormData:
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise Invalid("The body is not a form with files; send it as multipart/form-data.")

    async def bounded() -> AsyncGenerator[bytes, None]:
        size = 0
        async for part in request.stream():
            size += len(part)
            if size > most:
                raise _too_large(shown)
            yield part

    parser = MultiPartParser(
        request.headers, bounded(), max_files=most_files, max_fields=MOST_FIELDS, max_part_size=MOST_TEXT
    )
    try:
        return await parser.parse()
    except MultiPartException as error:
        raise TooLarge(
            f"The form could not be taken: {error.message} At most {most_files} files, and {size(MOST_TEXT)} of text, "
            "go in one form; for more use `hf upload`."
        ) from None


def _too_large(most: int) -> TooLarge:
    return TooLarge(
        f"The files of one form may have {size(most)} in all; send fewer at a time, or use `hf upload`, which takes "
        "files of any size."
    )


async def _drain(request: Request) -> None:
    """Read on a little, so that a browser in the midst of sending sees the answer and not a reset."""
    size = 0
    with contextlib.suppress(ClientDisconnect, RuntimeError):
        async for part in request.stream():
            size += len(part)
            if size > MOST_DRAINED:
                break


def _check_vouched(request: Request, data: FormData) -> None:
    if request.state.actor.kind == "user":  # by a header, which no other site can make a browser send
        return
    expected = bound_token(request.app.state.services, request.cookies.get(COOKIE, ""))
    sent = data.get("form_token")
    if not hmac.compare_digest((sent if isinstance(sent, str) else "").encode(), expected.encode()):
        raise Forbidden("The form had expired or came from elsewhere. Please log in and send it once more.")


def _sent(value: UploadFile) -> SentFile:
    name = (value.filename or "").replace("\\", "/").rpartition("/")[2]
    return SentFile(name, value.file, value.size or 0)
