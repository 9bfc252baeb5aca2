"""One person who sends a great deal to be written keeps nobody else waiting."""

import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import httpx

from ecotone.accounts import SYSTEM
from ecotone.publishing.reviews import MAIN, NUMBERS
from tests.hub.test_wire import add, commit

MANY = 42


def test_pull_requests_that_wait_for_their_turn_keep_nobody_else_waiting(
    server: SimpleNamespace, as_admin: httpx.Client, people: dict[str, httpx.Client], repo: str
) -> None:
    publishing, made = server.services.publishing, 0
    model = server.services.catalog.model(repo, viewer=SYSTEM)
    while publishing.turn(model, NUMBERS) is publishing.turn(model, MAIN):  # several share one, as chance has it
        made += 1
        assert as_admin.post("/api/repos/create", json={"name": f"{repo}-{made}"}).status_code == 200
        model = server.services.catalog.model(f"{repo}-{made}", viewer=SYSTEM)
    repo = model.id

    def propose(number: int) -> Any:
        token = {"authorization": "Bearer ect_reader"}
        with httpx.Client(base_url=server.url, headers=token, timeout=250) as rita:
            return commit(rita, repo, add(f"{number}.txt", b"%d" % number), rev="main?create_pr=1").status_code

    with ThreadPoolExecutor(MANY) as clients:
        with publishing.turn(model, NUMBERS):  # as while a large one is made
            waiting = [clients.submit(propose, number) for number in range(MANY)]
            time.sleep(2)
            assert people["will"].get(f"/api/models/{repo}", timeout=60).status_code == 200
            assert commit(people["wanda"], repo, add("own.txt")).status_code == 200, "other writers go on too"
            assert not any(future.done() for future in waiting)
        assert [future.result() for future in waiting] == [200] * MANY
