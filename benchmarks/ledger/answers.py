"""A data set out of a large ledger: rows a second and the most memory, in a process of its own.

    python -m benchmarks.ledger.answers 100000

Two out of three answers have kept texts of some 600 characters, one of a hundred repeats another. The ledger and the
texts are written first and count neither; the last line is JSON.
"""

import json
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from ecotone.accounts import SYSTEM, Accounts
from ecotone.accounts.projects import Bounds
from ecotone.app import tables as _tables
from ecotone.app.answers import AnswerSets
from ecotone.catalog import Catalog
from ecotone.database import Database
from ecotone.jobs import Jobs
from ecotone.ledger import Ledger, LedgerWriter
from ecotone.ledger.texts import Texts
from ecotone.licences import KnowledgeBase
from ecotone.policy import Policy
from ecotone.publishing import Publishing
from ecotone.settings import Settings
from ecotone.storage import Storage
from ecotone.vocabulary import Mode, Purpose

_WORDS = [
    "the",
    "order",
    "was",
    "sent",
    "on",
    "monday",
    "and",
    "comes",
    "within",
    "three",
    "days",
    "to",
    "the",
    "shop",
    "around",
    "the",
    "corner",
]


def _write(settings: Settings, count: int) -> LedgerWriter:
    writer = LedgerWriter(settings.folder("ledger"), "bench")
    texts = Texts.of(settings)
    for number in range(count):
        name = f"req-bench-{number:011x}"
        told = {"request_id": name, "project": "shop", "model": "openai/gpt", "backend": "openai", "face": "chat"}
        terms = "openai-services-agreement-2026-01-01"
        kept = {"texts": "kept"} if number % 3 else {}
        writer.append("opened", {**told, "terms": terms, "data_class": "public", "ruling": "d" * 32})
        writer.append("settled", {**told, "status": "done", "prompt_tokens": 90, "completion_tokens": 60, **kept})
        if kept:
            turn = number - 1 if number % 100 == 0 else number
            said = " ".join(_WORDS[(turn * 7 + i * i) % len(_WORDS)] for i in range(110)) + f" {turn}"
            choice = {"index": 0, "message": {"role": "assistant", "content": said[300:]}, "finish_reason": "stop"}
            request = {"model": "openai/gpt", "messages": [{"role": "user", "content": said[:300]}]}
            body = json.dumps({"model": "gpt", "choices": [choice]})
            while not texts.keep("shop", name, json.dumps({"request": request, "answer": body}).encode()):
                time.sleep(0.05)
    texts.close()
    return writer


def _sets(settings: Settings, writer: LedgerWriter) -> tuple[AnswerSets, Jobs]:
    assert _tables.METADATA.tables
    database = Database(settings.sql_url)
    database.migrate()
    accounts = Accounts(database, settings)
    accounts.ensure_admin()
    bounds = Bounds(keep_days=30)
    accounts.create_project("shop", mode=Mode.RUN, purpose=Purpose.INTERNAL_COMMERCIAL, bounds=bounds, actor=SYSTEM)
    knowledge = KnowledgeBase.load()
    storage = Storage(database, settings)
    catalog = Catalog(database, storage, knowledge, settings)
    policy = Policy(database, catalog, knowledge, accounts)
    jobs = Jobs(database, settings)
    sets = AnswerSets(
        accounts=accounts,
        catalog=catalog,
        ledger=Ledger(settings.folder("ledger")),
        texts=Texts.of(settings),
        storage=storage,
        publishing=Publishing(catalog, storage, policy, knowledge, writer),
        policy=policy,
        jobs=jobs,
        folder=settings.folder("jobs") / "answers",
        intend=_nothing,
        note=_nothing,
    )
    return sets, jobs


def _nothing(*_: Any, **__: Any) -> None:
    """Acts are not measured."""


def _made(sets: AnswerSets, jobs: Jobs) -> tuple[dict[str, Any], float, float]:
    began, used = time.perf_counter(), time.process_time()
    job = sets.start(dataset="team/answers", project="shop", actor=SYSTEM)
    while not (found := jobs.get(job.id)).state.ended:
        time.sleep(0.02)
    if found.result is None:
        raise SystemExit(f"{found.state}: {found.error}")
    return found.result, time.perf_counter() - began, time.process_time() - used


def _megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(count: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(data=Path(folder))
        writer = _write(settings, count)
        sets, jobs = _sets(settings, writer)
        jobs.start()
        before = _megabytes()
        first, seconds, used = _made(sets, jobs)
        after = _megabytes()
        again, idle, _ = _made(sets, jobs)
        jobs.stop()
        writer.close()
    assert again["revision"] == first["revision"] and again["new_rows"] == 0
    print(
        json.dumps(
            {
                "answers": count,
                "rows": first["rows"],
                "duplicates": first["duplicates"],
                "answers_s": round(count / seconds),
                "answers_per_cpu_s": round(count / used),
                "seconds": round(seconds, 2),
                "second_run_s": round(idle, 2),
                "mb_before": round(before),
                "mb_most": round(after),
            }
        )
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
