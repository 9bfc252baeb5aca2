"""The services that data sets of answers need, a ledger to write into, and models that answer."""

import json
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from ecotone.accounts import SYSTEM, Accounts
from ecotone.accounts.projects import Bounds
from ecotone.app.answers import AnswerSets
from ecotone.jobs import Job, Jobs
from ecotone.jobs import models as _jobs
from ecotone.ledger.texts import Texts
from ecotone.publishing import AddRegular, Commit
from ecotone.vocabulary import Mode, Purpose, RepoType

__all__ = ["OPENAI", "_jobs", "answers", "answers_house", "card", "content", "said"]

OPENAI = "openai-services-agreement-2026-01-01"


@pytest.fixture
def answers_house(house: SimpleNamespace) -> Iterator[SimpleNamespace]:
    """The house with the project `shop`, which keeps texts, and `sets`."""
    accounts = Accounts(house.database, house.settings)
    accounts.ensure_admin()
    accounts.create_project(
        "shop", mode=Mode.RUN, purpose=Purpose.INTERNAL_COMMERCIAL, bounds=Bounds(keep_days=30), actor=SYSTEM
    )
    house.accounts = accounts
    house.jobs = Jobs(house.database, house.settings)
    house.texts = Texts.of(house.settings)
    house.acts = []
    house.sets = AnswerSets(
        accounts=accounts,
        catalog=house.catalog,
        ledger=house.ledger,
        texts=house.texts,
        storage=house.storage,
        publishing=house.publishing,
        policy=house.policy,
        jobs=house.jobs,
        folder=house.settings.folder("jobs") / "answers",
        intend=lambda kind, actor, **what: house.acts.append((kind, what)),
        note=lambda kind, actor, **what: house.acts.append((kind, what)),
    )
    house.jobs.start()
    yield house
    house.jobs.stop()
    house.texts.close()


def said(
    house: SimpleNamespace,
    number: int,
    answer: str | None = "Yes.",
    *,
    prompt: str = "Is it so?",
    opened: dict[str, Any] | None = None,
    **more: Any,
) -> str:
    """An answer in the ledger, with its text where there is one."""
    name = f"req-test-{number:011x}"
    told = {"project": "shop", "model": "far/gpt", "backend": "far", "face": "chat", **more}
    begun = {"terms": OPENAI, "data_class": "public", "ruling": "d" * 32, "knowledge_base": "2026", **(opened or {})}
    house.writer.append("opened", {"request_id": name, **told, **begun})
    house.writer.append(
        "settled",
        {"request_id": name, "status": "done", "prompt_tokens": 3, "completion_tokens": 2, **told},
    )
    if answer is not None:
        choice = {"index": 0, "message": {"role": "assistant", "content": answer}, "finish_reason": "stop"}
        request = {"model": told["model"], "messages": [{"role": "user", "content": prompt}]}
        body = json.dumps({"model": "gpt-2026", "choices": [choice]})
        house.texts.keep("shop", name, json.dumps({"request": request, "answer": body}).encode())
    return name


def answers(house: SimpleNamespace, dataset: str = "team/answers", **how: Any) -> Job:
    """Make or continue a data set; the job when it has ended."""
    house.texts.close()
    job = house.sets.start(**{"dataset": dataset, "project": "shop", "actor": SYSTEM, **how})
    end = time.monotonic() + 120
    while not (found := house.jobs.get(job.id)).state.ended:
        assert time.monotonic() < end
        time.sleep(0.02)
    return found


def content(house: SimpleNamespace, dataset: str, path: str) -> bytes:
    model = house.catalog.model(dataset, viewer=SYSTEM, repo_type=RepoType.DATASET)
    files = house.catalog.manifest(house.catalog.revision(model))
    return b"".join(map(bytes, house.storage.read(files[path].content)))


def card(house: SimpleNamespace, name: str, front: dict[str, Any], repo_type: RepoType = RepoType.MODEL) -> str:
    """A repository with a card, made when absent; its new revision."""
    from ecotone.catalog import ModelNotFound

    try:
        house.catalog.model(name, viewer=SYSTEM, repo_type=repo_type)
    except ModelNotFound:
        house.catalog.create(name, repo_type=repo_type, private=False, actor=SYSTEM)
    text = f"---\n{json.dumps(front)}\n---\n# M\n".encode()
    change = Commit(message="Card", operations=(AddRegular("README.md", text),))
    return house.publishing.commit(name, "main", change, actor=SYSTEM, repo_type=repo_type).revision_id
