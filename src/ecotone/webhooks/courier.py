"""Carries deliveries out of the outbox: a task of the server process.

One delivery of each webhook at a time, the oldest first, so that order holds; several webhooks at once, few of them of
one user, so that a target that never answers holds up nobody else. Nothing is kept here: what was not settled when the
process ends is delivered after the next start, with the same id.
"""

import asyncio
import contextlib
import logging
import time
from collections import Counter

import aiohttp
from yarl import URL

from ecotone import __version__
from ecotone.vocabulary import EcotoneError
from ecotone.webhooks.entities import Parcel
from ecotone.webhooks.services import Webhooks
from ecotone.webhooks.signing import HEADER, signature
from ecotone.webhooks.targets import Targets, host_of

log = logging.getLogger("ecotone.webhooks")

ANSWER_SECONDS = 10.0
AT_ONCE = 16
AT_ONCE_OF_ONE = 4
_CLEAN_SECONDS = 3600.0
_PROBLEM_SECONDS = 5.0


class Courier:
    """Delivers until it is cancelled."""

    def __init__(self, webhooks: Webhooks, targets: Targets) -> None:
        self._webhooks = webhooks
        self._targets = targets
        self._carrying: dict[int, tuple[str, asyncio.Task[None]]] = {}

    async def run(self) -> None:
        """The task. Ends by cancellation only; an error of the database is logged and the round tried again."""
        woken, loop = asyncio.Event(), asyncio.get_running_loop()

        def wake() -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(woken.set)

        self._webhooks.on_waiting(wake)
        cleaned = 0.0
        try:
            while True:
                woken.clear()
                pause = _PROBLEM_SECONDS
                try:
                    pause = await self._round(woken)
                    if time.monotonic() - cleaned > _CLEAN_SECONDS:
                        cleaned = time.monotonic()
                        await asyncio.to_thread(self._webhooks.forget_old)
                except Exception:
                    log.exception("the outbox could not be read; it is tried again")
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await woken.wait()
        finally:
            await self._stop()

    async def _round(self, woken: asyncio.Event) -> float:
        """Begin what is due; returns the seconds until more is."""
        if len(self._carrying) >= AT_ONCE:
            return _CLEAN_SECONDS
        carried = Counter(user for user, _ in self._carrying.values())
        busy = tuple(user for user, count in carried.items() if count >= AT_ONCE_OF_ONE)
        parcels, pause = await asyncio.to_thread(self._webhooks.due, but=tuple(self._carrying), but_of=busy)
        for parcel in parcels:
            if len(self._carrying) >= AT_ONCE:
                break
            if carried[parcel.user] >= AT_ONCE_OF_ONE:
                pause = 0.0
                continue
            carried[parcel.user] += 1
            task = asyncio.create_task(self._carry(parcel, woken), name=f"webhook {parcel.webhook_id}")
            self._carrying[parcel.webhook_key] = (parcel.user, task)
        return max(pause, 0.05)

    async def _carry(self, parcel: Parcel, woken: asyncio.Event) -> None:
        try:
            if await asyncio.to_thread(self._webhooks.may_send, parcel):
                status, problem = await self._sent(parcel)
                await asyncio.to_thread(self._webhooks.settle, parcel, status=status, problem=problem)
                if problem:
                    log.info("delivery %s of webhook %s failed: %s", parcel.id, parcel.webhook_id, problem)
        except Exception:
            log.exception("delivery %s could not be settled; it is made again", parcel.id)
            await asyncio.sleep(_PROBLEM_SECONDS)
        finally:
            self._carrying.pop(parcel.webhook_key, None)
            woken.set()

    async def _sent(self, parcel: Parcel) -> tuple[int | None, str]:
        """Post a delivery once and read the head of the answer: its status, and why it failed, if it did."""
        try:
            self._targets.check_url(parcel.url)
            async with asyncio.timeout(ANSWER_SECONDS):
                return await self._post(parcel)
        except TimeoutError:
            return None, f"no answer within {ANSWER_SECONDS:g} seconds"
        except EcotoneError as error:
            return None, error.message
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return None, _told(error)

    async def _post(self, parcel: Parcel) -> tuple[int | None, str]:
        host = host_of(parcel.url)
        connector = aiohttp.TCPConnector(
            resolver=self._targets.resolver(host),
            socket_factory=self._targets.socket_factory(host),
            use_dns_cache=False,
            force_close=True,
            happy_eyeballs_delay=None,
        )
        async with (
            aiohttp.ClientSession(
                connector=connector, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False
            ) as session,
            session.post(
                URL(parcel.url),
                data=parcel.body,
                headers=_headers(parcel),
                allow_redirects=False,
                max_line_size=8190,
                max_field_size=8190,
            ) as answer,
        ):
            if 200 <= answer.status < 300:
                return answer.status, ""
            moved = "; redirects are not followed, set the url to where it leads" if 300 <= answer.status < 400 else ""
            return answer.status, f"the target answered {answer.status}{moved}"

    async def _stop(self) -> None:
        tasks = [task for _, task in self._carrying.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _headers(parcel: Parcel) -> dict[str, str]:
    headers = {
        "content-type": "application/json",
        "user-agent": f"Ecotone/{__version__}",
        "x-webhook-id": parcel.webhook_id,
        "x-webhook-delivery": parcel.id,
    }
    if parcel.secret is not None:
        headers["x-webhook-secret"] = parcel.secret
        headers[HEADER] = signature(parcel.secret, int(time.time()), parcel.body)
    return headers


def _told(error: Exception) -> str:
    """A connection's error without what a target says of itself: that is not ours to show."""
    text = getattr(error, "strerror", None) or type(error).__name__
    return f"no answer: {text}"[:200]
