"""The gateway against nginx, the fastest Rust gateways and LiteLLM, all in one run on the same two cores.

    make bench-gateway                                        all of it, of the gateway compiled as in a wheel
    python benchmarks/gateway/run.py --only requests --rounds 1 --seconds 2 --no-peers

One core is the gateway's, another that of load (`wrk`) and provider (`provider.c`). Ecotone runs with everything on:
keys, decisions, limits, budgets, prices, the ledger; texts are scanned where a line says `scanned`. The last line is
JSON: rates as ratios (more is better), delays as what we add over what nginx adds (less is better). Rates are worth
something only where `core_busy`, the least share of its core that nginx or the gateway had, is 0.95 or more; on a
machine that does other work, `requests_cpu_vs_nginx` (nginx's time on a core for a request over ours) still tells
something, and `--ahead` gets the core.
"""

import argparse
import json
import os
import platform
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import delays
import memory
from ground import GATEWAY_CORE, LOAD_CORE, Place, answered, check_machine, go_ahead, load, program, provider, tree
from house import (
    MODEL,
    NEAR,
    House,
    ecotone,
    gateway,
    has_gateway,
    house,
    is_compiled,
    restarted,
    used_requests,
    wait_for_sums,
)
from peers import PEERS, RUST, nginx
from rounds import Rounds, cpu_ratio, median, put_to_sleep, rates, ratio, table, wake_up
from texts import TEXT_BYTES, chat

Found = dict[str, float | None]


@dataclass
class Sitting:
    """What is up during the run, and how long each thing is measured."""

    folder: Path
    provider: Place
    nginx: Place
    plain: Place
    scanned: Place
    made: House
    at: Place
    rounds: int
    seconds: float
    requests: int
    peers: list[str]


def requests(s: Sitting) -> Found:
    """Requests a second, 64 connections, a body of 750 bytes."""
    with ExitStack() as opened:
        places = [s.nginx, s.plain, s.scanned]
        for name in s.peers:
            place = opened.enter_context(PEERS[name](s.folder, s.provider))
            put_to_sleep(place)
            opened.callback(wake_up, place)
            places.append(place)
        found = rates(places, lambda place: chat(place.model), 64, s.rounds, s.seconds, s.folder)
    table("requests/s on one core, 64 connections, 750-byte body", found)
    rust = [value for name in RUST if (value := ratio(found, "ecotone", name)) is not None]
    return {
        "requests_vs_nginx": ratio(found, "ecotone", "nginx"),
        "requests_vs_best_rust": min(rust, default=None),
        "requests_vs_litellm": ratio(found, "ecotone", "litellm"),
        "pii_vs_nginx": ratio(found, "scanned", "nginx"),
        "requests_cpu_vs_nginx": cpu_ratio(found, "ecotone", "nginx"),
        "core_busy": min(median([w.busy for w in found[name]]) for name in ("nginx", "ecotone")),
        "rss_mb": s.at.memory_mb(),
    }


def metering(s: Sitting) -> Found:
    """Whether each call that reached the provider stands in the ledger."""
    before, counted = answered(s.provider), used_requests(s.made)
    rates([s.plain], lambda place: chat(place.model), 64, 1, 1, s.folder)
    called, written = answered(s.provider) - before, used_requests(s.made) - counted
    print(f"metering: the provider was called {called:,} times, the ledger has {written:,} more calls\n", flush=True)
    return {"unmetered_calls": max(0, called - written)}


def body64k(s: Sitting) -> Found:
    """Requests a second, 16 connections, 64 KB of text."""
    places = [s.nginx, s.plain, s.scanned]
    found = rates(places, lambda p: chat(p.model, size=TEXT_BYTES), 16, s.rounds, s.seconds, s.folder)
    table("requests/s on one core, 16 connections, 64 KB of text", found)
    return {
        "body64k_vs_nginx": ratio(found, "ecotone", "nginx"),
        "body64k_pii_mb_s": median([window.rate for window in found["scanned"]]) * TEXT_BYTES / 1e6,
    }


def latency(s: Sitting) -> Found:
    """What is added to an answer, a first token and a chunk, for one client alone."""
    found = delays.measure([s.provider, s.nginx, s.plain], s.rounds, s.seconds, s.folder)
    print("added to the provider called directly, median, us")
    for kind, values in found.items():
        shown = "  ".join(f"{name} {delays.added(values, name):,.0f}" for name in ("nginx", "ecotone"))
        print(f"  {kind:<8}{shown}")
    print(flush=True)
    names = {"answer": "added_p50_vs_nginx", "first": "ttft_vs_nginx", "chunk": "chunk_vs_nginx"}
    return {name: delays.added_ratio(found[kind], "ecotone", "nginx") for kind, name in names.items()}


def chunks(s: Sitting) -> Found:
    """Chunks a second, 16 streams of 200 chunks each, with and without the client asking for usage."""
    told: Found = {}
    for usage, name in ((True, "chunks_per_s_vs_nginx"), (False, "chunks_per_s_no_usage_vs_nginx")):

        def body(place: Place, usage: bool = usage) -> bytes:
            return chat(place.model, stream=True, usage=usage, directive="chunks=200")

        found = rates([s.nginx, s.plain], body, 16, s.rounds, s.seconds, s.folder)
        asked = "asks" if usage else "does not ask"
        table(f"chunks/s, 16 streams of 200; the client {asked} for usage", found, times=200, unit="chunks/s")
        told[name] = ratio(found, "ecotone", "nginx")
    return told


def workers(s: Sitting) -> Found:
    """CPU of a request with two workers against one at the same load; requests/s where there are cores for both."""
    if not has_gateway():
        return {"workers2_cpu": None}
    roomy = (os.cpu_count() or 1) >= 4
    cores = f"{GATEWAY_CORE},{GATEWAY_CORE + 1}" if roomy else str(GATEWAY_CORE)
    paced: Rounds = {"one": [], "two": []}
    full: Rounds = {"one": [], "two": []}
    with house(s.folder / "workers", s.provider, core=LOAD_CORE) as made:
        for turn in range(s.rounds):
            for count, name in ((1, "one"), (2, "two")) if turn % 2 == 0 else ((2, "two"), (1, "one")):
                with gateway(made, workers=count, core=cores) as at:
                    place = [made.place(at, "plain", name)]
                    # the provider's 20 ms hold both to the same load, 16,600 requests/s here
                    paced[name] += rates(place, _paced, 384, 1, s.seconds, s.folder)[name]
                    if roomy:
                        full[name] += rates(place, lambda p: chat(p.model), 128, 1, s.seconds, s.folder)[name]
    table("two workers against one, 384 connections, answers after 20 ms", paced, against="one")
    told: Found = {"workers2_cpu": median([b.cpu_us / a.cpu_us for a, b in zip(*paced.values(), strict=True)])}
    if roomy:
        table("two workers against one, as fast as they can", full, against="one")
        told["workers2_rate"] = ratio(full, "two", "one")
    return told


def _paced(place: Place) -> bytes:
    return chat(place.model, directive="first=20")


def health(s: Sitting) -> Found:
    """`/health` while eight clients post 10 MB; with the scan and without, the worse of both."""
    print("/health while eight clients post 10 MB each")
    found = [delays.health(place, NEAR, s.seconds * 2, s.folder) for place in (s.plain, s.scanned)]
    print(flush=True)
    return {"health_p99_ms": max(found)}


def grown(s: Sitting) -> Found:
    """Memory over a million requests and ten thousand cut streams."""
    print(f"memory of a worker over {s.requests:,} requests and {max(1, s.requests // 100):,} cut streams")
    rss, by_requests = memory.growth_by_requests(s.plain, s.provider, s.requests // 10, s.requests, s.folder)
    by_streams = memory.growth_by_cut_streams(s.plain, s.requests // 100)
    print(flush=True)
    return {"rss_mb": rss, "rss_growth_100k_1m": by_requests, "rss_growth_cut_streams": by_streams}


def start(s: Sitting) -> Found:
    """Seconds from the start of the process to its first answer, on data that is there."""
    with house(s.folder / "start", s.provider, core=LOAD_CORE) as made:
        found = [restarted(made) for _ in range(s.rounds)]
    print(f"start to first answer: {', '.join(f'{value:.2f}' for value in found)} s\n", flush=True)
    return {"start_s": median(found)}


def restart(s: Sitting) -> Found:
    """Seconds from the start of the process to its first answer, when the ledger is long."""
    if not has_gateway():
        return {"restart_s": None}
    found = []
    with house(s.folder / "restart", s.provider, core=LOAD_CORE) as made:
        for _ in range(s.rounds):
            with gateway(made) as at:
                found.append(at.started)
                load(made.place(at, "plain", "ecotone"), chat(MODEL), 64, s.seconds, s.folder)
        calls = used_requests(made)
    print(f"start after ever more requests, {calls:,} in the end: {', '.join(f'{value:.2f}' for value in found)} s\n")
    return {"restart_s": found[-1]}


def crash(s: Sitting) -> Found:
    """Seconds from start to first answer after `kill -9` under load, when the ledger is long."""
    if not has_gateway():
        return {"crash_s": None}
    with house(s.folder / "crash", s.provider, core=LOAD_CORE) as made:
        with gateway(made) as at:
            place = made.place(at, "plain", "ecotone")
            load(place, chat(MODEL), 64, s.rounds * s.seconds, s.folder)
            wait_for_sums(made)
            under_load = threading.Thread(target=load, args=(place, chat(MODEL), 64, 2, s.folder))
            under_load.start()
            time.sleep(1)
            for pid in tree(at.pid):
                os.kill(pid, signal.SIGKILL)
            under_load.join()
        with gateway(made) as at:
            took = at.started
        calls = used_requests(made)
    print(f"start after kill -9 under load, behind {calls:,} requests: {took:.2f} s\n", flush=True)
    return {"crash_s": took}


PARTS: dict[str, Callable[[Sitting], Found]] = {
    "requests": requests,
    "metering": metering,
    "body64k": body64k,
    "latency": latency,
    "chunks": chunks,
    "workers": workers,
    "memory": grown,
    "health": health,
    "start": start,
    "restart": restart,
    "crash": crash,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=PARTS, action="append", help="one part; repeatable")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4, help="of each window")
    parser.add_argument("--requests", type=int, default=1_000_000, help="over which memory is watched")
    parser.add_argument("--ahead", action="store_true", help="go ahead of what else runs on the machine (root)")
    parser.add_argument("--peers", action=argparse.BooleanOptionalAction, default=True, help="the other gateways")
    args = parser.parse_args()
    check_machine()
    if args.ahead:
        go_ahead()
    version = subprocess.run([program("nginx", "nginx-light"), "-v"], capture_output=True, text=True).stderr.strip()
    form = "compiled" if is_compiled() else "interpreted"
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, {version}"
    print(f"the gateway is {form}; {machine}", flush=True)
    found: Found = {}
    with tempfile.TemporaryDirectory() as name, ExitStack() as opened:
        folder = Path(name)
        upstream = opened.enter_context(provider(folder))
        reference = opened.enter_context(nginx(folder, upstream))
        made, at = opened.enter_context(ecotone(folder, upstream))
        if made.missing:
            print(f"NOT ON in this version: {', '.join(made.missing)}", flush=True)
        plain, scanned = made.place(at, "plain", "ecotone"), made.place(at, "scanned", "scanned")
        sitting = Sitting(
            folder=folder,
            provider=upstream,
            nginx=reference,
            plain=plain,
            scanned=scanned,
            made=made,
            at=at,
            rounds=args.rounds,
            seconds=args.seconds,
            requests=args.requests,
            peers=list(PEERS) if args.peers else [],
        )
        for part, measure in PARTS.items():
            if args.only is None or part in args.only:
                found |= measure(sitting)
    print(json.dumps({key: None if value is None else round(value, 4) for key, value in found.items()}))


if __name__ == "__main__":
    main()
