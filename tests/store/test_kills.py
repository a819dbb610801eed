"""Writers that are killed: what was acknowledged is there, once, whatever the moment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

from scripts import load_script

from tgqformer.store import make_store, open_store
from tgqformer.store.ledger import VersionSpec


def test_what_was_acknowledged_is_there_once(place: Callable[[], str]) -> None:
    assert load_script("faults_store").upserts(place(), 3) >= 3


BUILDER = """
import sys, numpy as np
from tgqformer.store import open_store
from tgqformer.store.base import StoreRow
from tgqformer.store.ledger import VersionSpec
store = open_store(sys.argv[1])
print("ready", flush=True)
vectors = np.random.default_rng(1).normal(size=(60_000, 16)).astype(np.float32)
store.serve(store.create(VersionSpec("m2", 16), (StoreRow(f"n{i}", v) for i, v in enumerate(vectors))).name)
print("served", flush=True)
"""


def test_a_build_that_is_killed_leaves_what_is_served(place: Callable[[], str]) -> None:
    where = place()
    store = make_store(where)
    store.serve(store.create(VersionSpec("m1", 16), []).name)
    for after in (0.1, 0.6):
        job = subprocess.Popen([sys.executable, "-c", BUILDER, where], stdout=subprocess.PIPE, text=True)
        assert job.stdout is not None and job.stdout.readline() == "ready\n"
        time.sleep(after)
        os.kill(job.pid, signal.SIGKILL)
        finished = "served" in job.stdout.read()
        job.wait()
        job.stdout.close()
        again = open_store(where)
        assert again.served is not None and (again.served.name == "v1" or finished)
        assert again.table().count() == (60_000 if finished else 0)
    assert len(open_store(where).unfinished()) <= 1, "the second build cleared away what the first one left"
