"""Changing files in the browser: upload of small files, edit of a text, delete. Everything goes through `publishing`.

Each form works without script. A refusal comes back on the form, with the clause, and nothing of it was made.
"""

from collections.abc import Awaitable, Callable
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from ecotone.accounts import ANONYMOUS, Actor
from ecotone.catalog import EntryNotFound, File, Model, Revision
from ecotone.catalog.names import check_path
from ecotone.publishing import AddRegular, Commit, Delete, in_turn
from ecotone.publishing.received import Received, operations_of
from ecotone.vocabulary import Conflict, EcotoneError, Invalid, TooLarge, Unauthenticated
from ecotone.web.endpoint import Visit, address, refuse_keys
from ecotone.web.failures import failure_page, status_of
from ecotone.web.files import place, trail
from ecotone.web.form_bodies import MOST_TEXT, Form, sent_form
from ecotone.web.previews import as_text

MOST_EDIT = MOST_TEXT - 1024
MOST_ATTRIBUTES = 256 * 1024
NOTHING = Form(ANONYMOUS)

Shown = Callable[[Visit, Form, EcotoneError | None], Response]
Acting = Callable[[Visit, Form], Response]


def form(show: Shown, act: Acting) -> Callable[[Request], Awaitable[Response]]:
    """An endpoint that shows a form, acts on what it sends, and shows it again with what went wrong."""

    async def endpoint(request: Request) -> Response:
        try:
            refuse_keys(request.state.actor)
            if request.method != "POST":
                return await run_in_threadpool(show, Visit(request), NOTHING, None)
            visit = Visit(request)
            async with sent_form(request, lambda actor: writable(visit, actor)) as sent:
                request.state.actor = visit.actor = sent.actor
                return await in_turn(sent.actor, _acted, show, act, visit, sent)
        except ClientDisconnect:
            return Response(status_code=400)
        except TooLarge as error:  # the body was not read: the form is shown as it was, to a sender who may write
            return await run_in_threadpool(_again, show, visit, error)
        except EcotoneError as error:
            return await run_in_threadpool(failure_page, request, error)

    return endpoint


def _again(show: Shown, visit: Visit, error: EcotoneError) -> Response:
    visit.request.state.actor = visit.actor
    answer = show(visit, NOTHING, error) if show is show_upload else failure_page(visit.request, error)
    answer.status_code = status_of(error)
    return answer


def _acted(show: Shown, act: Acting, visit: Visit, sent: Form) -> Response:
    try:
        return act(visit, sent)
    except EcotoneError as error:
        answer = show(visit, sent, error)
        answer.status_code = status_of(error)
        return answer


def writable(visit: Visit, actor: Actor | None = None) -> Model:
    """The repository that the path names, when the visitor (or the user given) may commit to it.

    Raises:
        ModelNotFound, EntryNotFound: when it is absent or not visible, or an entry without files.
        Unauthenticated, Forbidden: when the visitor may see it, but not write.
    """
    visit.actor = actor or visit.actor
    model = visit.stored_model()
    if visit.actor.kind != "user":
        raise Unauthenticated("Changing files needs a login with a token that may write.")
    visit.catalog.check_writer(model, visit.actor)
    return model


def _branch(visit: Visit, model: Model, name: str) -> Revision:
    """The head of a branch. Raises Invalid for what is none."""
    if all(ref.name != name for ref in visit.catalog.refs(model).branches):
        raise Invalid(f"{name[:200]!r} is no branch of {model.id}; files are changed on a branch, such as main.")
    return visit.catalog.revision(model, f"refs/heads/{name}")


def _publish(visit: Visit, model: Model, branch: str, head: Revision, changes: Commit) -> Response:
    made = visit.services.publishing.commit(
        model.id, f"refs/heads/{branch}", changes, actor=visit.actor, repo_type=model.repo_type
    )
    if made.revision_id == head.id:
        raise Invalid(f"{branch} holds just this already, so there is nothing to commit.")
    visit.services.changed()
    return visit.redirect(f"{address(model)}/commit/{made.revision_id}")


# -- upload ----------------------------------------------------------------------------------------------------------
def show_upload(visit: Visit, sent: Form, problem: EcotoneError | None) -> Response:
    """GET /{id}/upload/{branch}[/{folder}]"""
    model = writable(visit)
    rev = visit.path["rev"]
    _branch(visit, model, rev)
    settings = visit.services.settings
    return visit.page(
        "upload.html",
        **place(visit, model, rev, visit.catalog.refs(model)),
        folder=sent["folder"] if problem else visit.path.get("path", "").strip("/"),
        message=sent["message"],
        description=sent["description"],
        chosen=sent["branch"] or rev,
        most_bytes=settings.upload_form_bytes,
        most_files=settings.upload_form_files,
        problem=problem.message if problem else "",
    )


def upload(visit: Visit, sent: Form) -> Response:
    """POST /{id}/upload/{branch}[/{folder}]"""
    model = writable(visit)
    branch = sent["branch"] or visit.path["rev"]
    head = _branch(visit, model, branch)
    if not sent.files:
        raise Invalid("No file was chosen; choose one or more and send the form again.")
    folder = sent["folder"].strip().strip("/")
    start = f"{check_path(folder)}/" if folder else ""
    received = [Received(start + file.name, file.file, file.size) for file in sent.files]
    storage = visit.services.storage
    operations = operations_of(received, storage, model.namespace, _attributes(visit, head))
    names = sent.files[0].name if len(sent.files) == 1 else f"{len(sent.files)} files"
    message = sent["message"].strip() or f"Upload {names}"
    changes = Commit(message=message, description=sent["description"], operations=operations)
    return _publish(visit, model, branch, head, changes)


def _attributes(visit: Visit, revision: Revision) -> str:
    file = visit.catalog.manifest(revision).get(".gitattributes")
    if file is None or file.content.size > MOST_ATTRIBUTES:
        return ""
    return b"".join(visit.services.storage.read(file.content)).decode("utf-8", "replace")


# -- edit ------------------------------------------------------------------------------------------------------------
def show_edit(visit: Visit, sent: Form, problem: EcotoneError | None) -> Response:
    """GET /{id}/edit/{branch}/{path}: an absent file is begun empty"""
    model = writable(visit)
    rev, path = visit.path["rev"], check_path(visit.path["path"])
    file = visit.catalog.manifest(_branch(visit, model, rev)).get(path)
    return visit.page(
        "edit.html",
        **place(visit, model, rev, visit.catalog.refs(model)),
        path=path,
        trail=trail(path),
        is_new=file is None,
        text=sent["text"] if problem else _editable(visit, file).replace("\r\n", "\n"),
        message=sent["message"],
        was=file.content.git_oid if file else "",
        most_bytes=MOST_EDIT,
        problem=problem.message if problem else "",
    )


def edit(visit: Visit, sent: Form) -> Response:
    """POST /{id}/edit/{branch}/{path}"""
    model = writable(visit)
    rev, path = visit.path["rev"], check_path(visit.path["path"])
    head = _branch(visit, model, rev)
    file = visit.catalog.manifest(head).get(path)
    if (file.content.git_oid if file else "") != sent["was"]:
        raise Conflict(
            f"{path} was changed by somebody else since you began; your text stands below. Look at the newer one "
            "first: saving now replaces it."
        )
    text = sent["text"].replace("\r\n", "\n")
    if text and not text.endswith("\n"):
        text += "\n"
    if "\r\n" in _editable(visit, file):
        text = text.replace("\n", "\r\n")
    data = text.encode("utf-8", "replace")
    if len(data) > MOST_EDIT:
        raise TooLarge(f"The text has {len(data)} bytes; a form takes {MOST_EDIT}. Upload the file instead.")
    message = sent["message"].strip() or f"{'Change' if file else 'Add'} {path}"
    changes = Commit(message=message, parent=head.id, operations=(AddRegular(path, data),))
    return _publish(visit, model, rev, head, changes)


def _editable(visit: Visit, file: File | None) -> str:
    """The text of a file that a form can hold; empty for an absent one. Raises Invalid for any other."""
    if file is None:
        return ""
    if file.content.sha256 is None and file.content.size <= MOST_EDIT:
        data = b"".join(visit.services.storage.read(file.content))
        if as_text(data) is not None:
            return data.decode("utf-8", "replace")
    raise Invalid(f"{file.path} is no small text, so it cannot be edited in a form; upload a new one instead.")


# -- delete ----------------------------------------------------------------------------------------------------------
def show_delete(visit: Visit, sent: Form, problem: EcotoneError | None) -> Response:
    """GET /{id}/delete/{branch}/{path}: asks before it is done"""
    model = writable(visit)
    rev = visit.path["rev"]
    file = visit.catalog.file(_branch(visit, model, rev), visit.path["path"])
    return visit.page(
        "confirm.html",
        **place(visit, model, rev, visit.catalog.refs(model)),
        title=f"Delete {file.path}?",
        told=f"A new commit on {rev} takes the file away. Earlier commits keep it.",
        back=f"{visit.root}{address(model)}/blob/{quote(rev, safe='')}/{quote(file.path)}",
        word="Delete the file",
        asks_message=True,
        message=sent["message"],
        hidden={"was": file.content.git_oid},
        problem=problem.message if problem else "",
    )


def delete(visit: Visit, sent: Form) -> Response:
    """POST /{id}/delete/{branch}/{path}"""
    model = writable(visit)
    rev, path = visit.path["rev"], visit.path["path"]
    head = _branch(visit, model, rev)
    file = visit.catalog.manifest(head).get(path)
    if file is None:
        raise EntryNotFound(model.id, path, head.id)
    if file.content.git_oid != sent["was"]:
        raise Conflict(f"{path} was changed by somebody else since you looked at it; look again before you delete it.")
    message = sent["message"].strip() or f"Delete {path}"
    changes = Commit(message=message, parent=head.id, operations=(Delete(path),))
    return _publish(visit, model, rev, head, changes)
