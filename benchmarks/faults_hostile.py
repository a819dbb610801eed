"""Hostile requests against a running service: no 5xx but 503 with Retry-After, and other clients hardly notice.

    python benchmarks/faults_hostile.py --requests 5000

Windows with and without an attack take turns in one run. In an attack four clients send pictures that cost seconds of
processor time, each as soon as its last one is answered; others send broken forms, bombs and mutated pictures at a
fixed rate, drip bodies and hold idle connections. Meanwhile ordinary clients ask at a fixed rate, and their 99th
percentile in the attack is compared with that outside of it.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import uvloop
from PIL import Image

from _shop import CATEGORIES, Line, Process, add_version, environment, form, item_id, request, tiny_models
from _shop import write_neighbours as write_table

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "helpers"))
from hostile import scans, uploads

ITEMS, BURNERS = 2000, 4
ASKED, SENT = 40, 25  # requests a second, of ordinary and of hostile clients
IDLE, DRIPPING = 200, 40  # connections of an attack


def burning() -> list[bytes]:
    """Draw pictures that are taken, within all limits, and cost much."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (1500, 2000, 3), np.uint8)).resize((5600, 4200))
    made = [scans(3000, (1200, 900))]
    for kind, options in (("JPEG", {"progressive": True, "quality": 70}), ("WEBP", {"quality": 40}), ("PNG", {})):
        file, source = BytesIO(), noise if kind != "PNG" else Image.new("RGB", (6000, 3990), "red")
        source.save(file, kind, **options)
        made.append(file.getvalue())
    assert all(len(data) < 15 << 20 for data in made), [len(data) for data in made]
    return made


def ordinary(luck: random.Random) -> bytes:
    """Write what an ordinary client asks."""
    name, kind = item_id(luck.randrange(ITEMS)), luck.random()
    if kind < 0.7:
        return request("GET", f"/items/{name}/similar?k=10")
    if kind < 0.9:
        return request("GET", f"/items/{name}/similar?k=10&category={luck.choice(CATEGORIES)}")
    return form("POST", "/search?k=10", title=f"red {luck.choice(CATEGORIES)}")


async def one(port: int, raw: bytes) -> tuple[int, bytes]:
    """Send a request on a connection of its own; 0 where that is closed without an answer."""
    try:
        line = await Line.open(port)
        try:
            return await asyncio.wait_for(line.ask(raw), 120)
        finally:
            line.close()
    except OSError:
        return 0, b""


async def ask_steadily(port: int, until: float, luck: random.Random, seconds: list[float], said: Counter[int]) -> None:
    """Ask at a fixed rate, whether or not earlier answers are there; note how long each took."""

    async def ask(raw: bytes) -> None:
        began = time.perf_counter()
        status, _ = await one(port, raw)
        seconds.append(time.perf_counter() - began)
        said[status] += 1

    await at_rate(ASKED, until, lambda: ask(ordinary(luck)))


async def at_rate(rate: float, until: float, work: Callable[[], Awaitable[None]]) -> int:
    """Begin work so often a second, and wait for all of it; return how often."""
    begun, jobs = time.monotonic(), list[asyncio.Future[None]]()
    while (now := time.monotonic()) < until:
        jobs.append(asyncio.ensure_future(work()))
        await asyncio.sleep(max(0.0, begun + len(jobs) / rate - now))
    await asyncio.gather(*jobs)
    return len(jobs)


async def attack(port: int, until: float, sent: Iterator[bytes], burners: list[bytes], said: Counter[int]) -> None:
    """Burn, break, drip and idle until the window ends."""
    holding = [await Line.open(port) for _ in range(IDLE + DRIPPING)]
    for line in holding[:DRIPPING]:
        line._transport.write(form("POST", "/search", title="x" * 100)[:-50])

    async def burn(data: bytes) -> None:
        while time.monotonic() < until:
            said[(await one(port, data))[0]] += 1

    async def break_() -> None:
        said[(await one(port, next(sent)))[0]] += 1

    await asyncio.gather(at_rate(SENT, until, break_), *map(burn, burners))
    for line in holding:
        line.close()


class Attackers:
    """A process of its own that attacks when it is told to, and gives way to all others: they are other machines."""

    def __init__(self, port: int) -> None:
        command = [sys.executable, __file__, "--attack", str(port)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._ask("0")

    def attack(self, seconds: float) -> Counter[int]:
        """Attack for so long; return what was answered."""
        return Counter({int(status): count for status, count in json.loads(self._ask(str(seconds))).items()})

    def end(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()

    def _ask(self, line: str) -> str:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        return self._process.stdout.readline()


def attack_when_told(port: int) -> None:
    """Attack for as many seconds as each line of standard input says, and print what was answered."""
    os.nice(19)
    hostile = itertools.cycle([request("POST", "/search", one.body, one.kind) for one in uploads(600)])
    burners = [form("POST", "/search", data) for data in burning()]
    for line in sys.stdin:
        said = Counter[int]()
        if float(line):
            uvloop.run(attack(port, time.monotonic() + float(line), hostile, burners, said))
        print(json.dumps(said), flush=True)


async def run(port: int, given: argparse.Namespace) -> tuple[dict[bool, list[float]], Counter[int], Counter[int]]:
    """Take turns until so many hostile requests are answered; return seconds by turn, and what was answered to whom."""
    luck, said, theirs = random.Random(given.seed), Counter[int](), Counter[int]()
    seconds: dict[bool, list[float]] = {False: [], True: []}
    attackers = await asyncio.to_thread(Attackers, port)
    await ask_steadily(port, time.monotonic() + given.window, luck, [], Counter())  # warm
    for attacked in itertools.cycle((False, True)):
        if sum(said.values()) >= given.requests:
            break
        asking = ask_steadily(port, time.monotonic() + given.window, luck, seconds[attacked], theirs)
        if attacked:
            _, answered = await asyncio.gather(asking, asyncio.to_thread(attackers.attack, given.window))
            said += answered
        else:
            await asking
    attackers.end()
    return seconds, said, theirs


def main() -> None:
    """Serve, attack, report; exits with an error where a bar is missed."""
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--requests", type=int, default=5000)
    options.add_argument("--window", type=float, default=10.0, help="seconds of one turn")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--attack", type=int, metavar="PORT", help="be the attackers")
    given = options.parse_args()
    if given.attack:
        attack_when_told(given.attack)
        return
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        [model] = tiny_models(folder, 1)
        version = add_version(folder / "store", model, ITEMS, serve=True)
        write_table(folder / "neighbours", version.model_version, ITEMS)
        more = ("--neighbours", str(folder / "neighbours"), "--model", str(model), "--log-level", "error")
        served = Process.serve(folder / "store", folder / "log", *more)
        try:
            seconds, said, theirs = uvloop.run(run(served.port, given))
            code = served.stop()
        finally:
            served.kill()
    middle = {attacked: np.quantile(found, [0.5, 0.99]) * 1000 for attacked, found in seconds.items()}
    for attacked, (half, most) in middle.items():
        when = "attack" if attacked else "no attack"
        print(f"{when}: {len(seconds[attacked])} answers, p50 {half:.1f} ms, p99 {most:.1f} ms")
    ratio = middle[True][1] / middle[False][1]
    print(f"hostile requests: {sum(said.values())}, answered {dict(said)}; ordinary ones {dict(theirs)};"
          f" p99 {ratio:.2f} times that without attack; {environment()}")  # fmt: skip
    assert not {status for status in said | theirs if status >= 500} - {503}, "a 5xx that is not 503"
    assert code == 0, f"it ended with {code} after SIGTERM"
    assert ratio <= 2, "others waited more than twice as long"


if __name__ == "__main__":
    main()
