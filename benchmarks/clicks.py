"""Simulated clicks with a known difference: how often the report finds it, and how often its interval covers it.

    python benchmarks/clicks.py --runs 100 --visitors 24000 --lift 0.1

Each run is an A/B test from visitors to the report: visitors are split between two versions by their stable hash, look
at 4 items one to some twenty times and click, each as gladly as he or she is. The report works out the lift of one
version over the other. The bar: the difference is found, and the interval covers it in 95 of 100 runs.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from math import sqrt

import numpy as np

from tgqformer.pairs.splits import stable_uniform
from tgqformer.service.events import Event
from tgqformer.service.sales import sales_of

BASE, K = 0.1, 4


def events(seed: int, visitors: int, lift: float) -> Iterator[Event]:
    """Draw the views and clicks of one test."""
    rng, marks = np.random.default_rng(seed), tuple(range(K))
    views = rng.geometric(0.3, visitors)
    gladly = rng.beta(4, 4 / BASE - 4, visitors)
    for number in range(visitors):
        who = f"visitor-{seed}-{number}"
        version = "new" if stable_uniform("share", "old", "new", who) < 0.5 else "old"
        rate = gladly[number] * (1 + lift if version == "new" else 1)
        for _ in range(views[number]):
            yield Event(0.0, "view", version, "rules", "query", who, None, None, marks)
            if rng.random() < rate:
                yield Event(0.0, "click", version, "rules", "query", who, "item", int(rng.integers(1, K + 1)), marks)


def main() -> None:
    """Run the tests and count."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--runs", type=int, default=100)
    options.add_argument("--visitors", type=int, default=24_000)
    options.add_argument("--lift", type=float, default=0.1)
    asked = options.parse_args()
    covered = found = 0
    widths = list[float]()
    for seed in range(asked.runs):
        sold = {one.version: one for one in sales_of(events(seed, asked.visitors, asked.lift), {}, {})}
        lift, truth = sold["new"].lift, asked.lift
        if lift is None:  # it was seen more often, so the other one is measured against it
            lift, truth = sold["old"].lift, 1 / (1 + asked.lift) - 1
        assert lift is not None
        covered += lift.low <= truth <= lift.high
        found += lift.low > 0 if truth > 0 else lift.high < 0
        widths.append(lift.half)
    slack = 2 * sqrt(0.95 * 0.05 / asked.runs)
    print(f"{asked.runs} tests of {asked.visitors:,} visitors, lift {asked.lift:+.0%}: found in {found}")
    print(f"the interval covers the truth in {covered} of {asked.runs} (95 +- {100 * slack:.0f} in 100 by chance)")
    print(f"half of its width: {100 * np.mean(widths):.1f} points")


if __name__ == "__main__":
    main()
