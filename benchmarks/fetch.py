"""Fetch pictures from a server that misbehaves in every way, and kill the job again and again (SIGKILL).

    python benchmarks/fetch.py --pictures 10000 --kills 20

Of the addresses nine in ten are good, some of them at the second try or through a redirect. At the end every good
picture must be there, once and whole, and every bad one must be explained by the right kind.
"""

from __future__ import annotations

import argparse
import csv
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "helpers"))
from bad_pictures import BAD, GOOD_AFTER_ALL, bad_server, picture

RATE = 300
WEIGHTS = [1 if way == "429-first" else 40 for way in GOOD_AFTER_ALL]  # it lets the whole host rest for a second


def main() -> None:
    """Draw the addresses, kill and start again, count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    luck = random.Random(given.seed)
    with bad_server() as server, tempfile.TemporaryDirectory() as place:
        shop, to = Path(place, "shop.csv"), Path(place, "photos")
        bad, good, kinds = draw(given.pictures, luck, server.url)
        every = [*bad, *good]
        luck.shuffle(every)
        shop.write_text("id,title,image_link\n" + "".join(f"{n},Tee,{url}\n" for n, url in enumerate(every)))
        words = [sys.executable, "-c", "from tgqformer.cli import main; main()", "pictures", "fetch", str(shop)]
        words += ["--to", str(to), "--allow-host", "127.0.0.1", "--rate", str(RATE), "--at-once", "16"]
        words += ["--timeout", "3", "--tries", "3", "--pause", "0.2", "--max-mb", "1"]
        began = time.monotonic()
        asked = luck.sample(range(given.pictures // 50, given.pictures), given.kills)
        killed = sum(kill(words, lambda at=at: sum(server.asked.values()) >= at) for at in sorted(asked))
        done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
        seconds = time.monotonic() - began
        print(
            f"{done.stdout.splitlines()[0]}; {killed} kills, {sum(server.asked.values()):,} requests, {seconds:.0f} s"
        )
        report(to, bad, good, kinds)


def draw(
    count: int, luck: random.Random, url: Callable[[str, int], str]
) -> tuple[dict[str, str], dict[str, int], Counter[str]]:
    """Return bad addresses with the kind of their failure, good ones with their picture, and how many of each way."""
    bad, good, kinds = dict[str, str](), dict[str, int](), Counter[str]()
    for number in range(count):
        way = luck.choice(list(BAD)) if luck.random() < 0.1 else luck.choices(GOOD_AFTER_ALL, WEIGHTS)[0]
        kinds[way] += 1
        (bad if way in BAD else good)[url(way, 2 * number)] = BAD.get(way, 2 * number)
    return bad, good, kinds


def kill(words: list[str], enough: Callable[[], bool]) -> bool:
    """Start the job, kill it when enough was asked for; say whether it was killed before its end."""
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not enough():
        time.sleep(0.005)
    process.kill()
    return process.wait() != 0


def report(to: Path, bad: dict[str, str], good: dict[str, int], kinds: Counter[str]) -> None:
    """Compare what is there with what was asked for; raise AssertionError where they differ."""
    files = Counter(file.read_bytes() for file in to.glob("??/*"))
    wanted = Counter(map(picture, good.values()))
    with (to / "failures.csv").open(newline="") as file:
        told = {row["address"]: row["kind"] for row in csv.DictReader(file)}
    wrong = Counter((bad[url], told.get(url)) for url in bad if told.get(url) != bad[url])
    print(f"good: {wanted.total():,}, there {(files & wanted).total():,}, too many {(files - wanted).total():,}")
    print(f"bad: {len(bad):,}, explained {len(told):,}, of another kind than meant {dict(wrong)}")
    print("ways: " + ", ".join(f"{way} {count}" for way, count in kinds.most_common()))
    assert files == wanted and told.keys() == bad.keys()


if __name__ == "__main__":
    main()
