"""Hostile input against a running service: no 5xx, no file outside its folders read, memory bounded.

    python benchmarks/fuzz.py --uploads 400 --examples 100

Sends broken forms, bombs, polyglots and mutated pictures to every route that takes an upload, then examples drawn by
schemathesis from the OpenAPI document. The server runs in a thread of this process, so that Python's audit events tell
every file that it opens, every connection and every program that it starts.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import psutil
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import positive_data_acceptance

from _shop import Line, add_version, environment, request, tiny_models, write_neighbours

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "helpers"))
import asyncio

from hostile import Upload, uploads, watched

import tgqformer
from tgqformer.service.app import make_app
from tgqformer.service.places import find_places
from tgqformer.service.server import listen, make_server
from tgqformer.service.settings import ServiceSettings
from tgqformer.service.site import open_site

ROUTES = (("POST", "/search"), ("PUT", "/items/x%2F..%2Fy"), ("POST", "/embed"))
BOUND = 1024  # MB: one picture of 24 million pixels, decoded and turned, takes about 400


def main() -> None:
    """Serve, attack, report; exits with 1 where a bar is missed."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--uploads", type=int, default=400)
    options.add_argument("--examples", type=int, default=100, help="of each route, by schemathesis")
    given_options = options.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        [model] = tiny_models(folder, 1)
        version = add_version(folder / "store", model, 2000, serve=True)
        write_neighbours(folder / "neighbours", version.model_version, 2000)
        places = find_places(str(folder / "store"), models=[model], neighbours=[folder / "neighbours"])
        limits = ServiceSettings(explorer=False)
        server = make_server(make_app(open_site(places, limits), limits), limits)
        with listen("127.0.0.1", 0) as address:
            thread = threading.Thread(target=server.run, kwargs={"sockets": [address]})
            thread.start()
            while not server.started:
                time.sleep(0.05)
            try:
                held = attack(address.getsockname()[1], folder, given_options.uploads, given_options.examples)
            finally:
                server.should_exit = True
                thread.join()
    raise SystemExit(0 if held else 1)


def attack(port: int, folder: Path, count: int, examples: int) -> bool:
    """Send everything; say whether all bars hold."""
    process, most = psutil.Process(os.getpid()), 0.0
    before, statuses = process.memory_info().rss / (1 << 20), Counter[int]()
    hostile = list(uploads(max(0, count - 75)))
    with watched() as seen:
        for n, upload in enumerate(hostile):
            status = asyncio.run(send(port, upload, *ROUTES[n % 3]))
            statuses[status] += 1
            if status >= 500:
                print(f"{upload.name}: {status}")
            most = max(most, process.memory_info().rss / (1 << 20) - before)
    print(f"{len(hostile)} uploads, answered {dict(sorted(statuses.items()))}; {environment()}")
    print(f"memory: {before:.0f} MB before, {most:.0f} MB more at most")
    own = str(Path(tgqformer.__file__).parent)  # FastAPI reads a route's source to name it in an error
    allowed = (str(folder), own, sys.prefix, sys.base_prefix, tempfile.gettempdir(), "/proc/self", "/dev/null")
    opened = [what.split(" ", 1)[1] for what in seen if what.startswith("open ")]
    outside = [name for name in opened if not name.isdigit() and not name.startswith(allowed)]
    outside += [what for what in seen if not what.startswith(("open ", "os."))]
    print(f"{len(opened)} files opened, outside the service's folders and Python's: {outside or 'none'}")
    drawn = draw(port, examples)
    held = {"no 5xx": max(statuses) < 500, "memory": most < BOUND, "nothing outside": not outside, "OpenAPI": drawn}
    print(", ".join(f"{name}: {'ok' if fine else 'MISSED'}" for name, fine in held.items()))
    return all(held.values())


async def send(port: int, upload: Upload, method: str, path: str) -> int:
    """Send one upload on a connection of its own."""
    line = await Line.open(port)
    try:
        head = request(method, path).removesuffix(b"\r\n")
        head += f"content-type: {upload.kind}\r\ncontent-length: {len(upload.body)}\r\n\r\n".encode("latin-1")
        return (await line.ask(head + upload.body))[0]
    finally:
        line.close()


def draw(port: int, examples: int) -> bool:
    """Ask what schemathesis draws from the OpenAPI document; say whether every answer is as it promises."""
    schema = schemathesis.openapi.from_url(f"http://127.0.0.1:{port}/openapi.json")
    fine, asked = True, 0
    for found in schema.get_all_operations():
        operation = found.ok()

        @settings(
            max_examples=examples, deadline=None, derandomize=True, database=None, phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(case=operation.as_strategy())
        def check(case: schemathesis.Case) -> None:
            nonlocal asked
            asked += 1
            case.call_and_validate(excluded_checks=[positive_data_acceptance])

        try:
            check()
        except FailureGroup as group:
            fine = False
            print(f"{operation.label}: {group.exceptions[0]}")
    print(f"{asked} requests drawn by schemathesis: {'all answers are as documented' if fine else 'see above'}")
    return fine


if __name__ == "__main__":
    main()
