"""What something costs, in units that every machine counts alike; and how long a test waits before it calls it a hang.

A test that compares a clock with a constant knows the machine it was written on, and fails on a slower one. So: count
(`calls_of`, `peak_bytes_of`), or compare with something else in the same run (`times_as_much_cpu`). What a clock must
tell about real machines is told by `benchmarks/`.
"""

from __future__ import annotations

import gc
import sys
import time
import tracemalloc
from collections.abc import Callable
from types import FrameType
from typing import Any

PATIENCE_S = 60.0
"""What is awaited comes at once, on a slow and busy machine within seconds; what is not there by then is lost."""

Work = Callable[[], object]


def calls_of(work: Work) -> int:
    """How many functions are called, Python's own and those written in C."""
    count = 0

    def note(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count


def peak_bytes_of(work: Work) -> int:
    """How much memory is taken at most beyond what was taken before; numpy's counts, too."""
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        work()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


def times_as_much_cpu(work: Work, other: Work, *, rounds: int = 3) -> float:
    """How many times the CPU of `other` `work` takes: the least of each, measured in turn, so that load meets both."""
    least = [float("inf"), float("inf")]
    for _ in range(rounds):
        for place, one in enumerate((work, other)):
            begin_s = time.process_time()
            one()
            least[place] = min(least[place], time.process_time() - begin_s)
    return least[0] / max(least[1], 1e-6)
