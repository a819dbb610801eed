"""Packages that only some users need."""

from __future__ import annotations

import subprocess
import sys

TOGETHER = """
from concurrent.futures import ThreadPoolExecutor
from time import sleep
import numpy as np
from tgqformer.packages import cv2
def first(n):
    sleep(n / 400)  # into the others' import
    return cv2.erode(np.ones((4, 4), np.uint8), np.ones((2, 2), np.uint8)).sum()
with ThreadPoolExecutor(80) as pool:
    print(*pool.map(first, range(80)))
"""


def test_threads_that_first_need_a_package_in_one_moment_all_get_it() -> None:
    said = subprocess.run([sys.executable, "-c", TOGETHER], check=True, capture_output=True, text=True)
    assert said.stdout.split() == ["16"] * 80
