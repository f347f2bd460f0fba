"""Take each defence out of the package, and see the tests of its row fail.

    python tests/defences.py            # all rows
    python tests/defences.py 14 42      # some
    python tests/defences.py 24-37      # a range
    python tests/defences.py --part 1/2 # every second defence of all rows, beginning with the first

No file is changed: Python leaves a defence out while it imports the package (`acceptance/removals.py`). Exits with 1
when tests pass without their defence. So it does when a test takes too long with its defence, too, because a hang says
nothing then: a slow machine wants more seconds in the variable AICHAT_TEST_PATIENCE_S.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from acceptance import ROWS, Removal, Row
from acceptance.removals import VARIABLE

ROOT = Path(__file__).parent.parent
# A test that hangs does not pass: after so many seconds one of them is broken off, and after three times as many all.
LONGEST_S = float(os.environ.get("AICHAT_TEST_PATIENCE_S", "100"))
TESTS_FAILED = 1  # pytest's exit status; 2 and more: interrupted, broken, or nothing was run
# What stands in the place of a defence must run, and so must the test: these tell of what does not.
_BROKEN = re.compile(r"\b(?:NameError|UnboundLocalError|ImportError|ModuleNotFoundError|NothingToRemoveError)\b")


def chosen(words: list[str]) -> set[int]:
    """Return the numbers of rows that `words` name; all when there is none."""
    numbers: set[int] = set()
    for word in words:
        first, _, last = word.partition("-")
        numbers.update(range(int(first), int(last or first) + 1))
    return numbers or {row.number for row in ROWS}


def part_of(words: list[str]) -> tuple[int, int, list[str]]:
    """Return which part of how many is wanted (``--part 1/2``), and the other words; the one whole without it."""
    if "--part" not in words:
        return 1, 1, words
    at = words.index("--part")
    part, _, parts = words[at + 1].partition("/")
    return int(part), int(parts), words[:at] + words[at + 2 :]


def is_missed(row: Row, removal: Removal) -> tuple[bool, str]:
    """Return whether the row's tests fail once the defence is gone, and what they said."""
    tests = removal.tests or row.tests
    has_failed, is_late, said = fails(tests, removal)
    if is_late:
        # What is slow with the defence, too, tells nothing of it.
        has_failed, is_late, said = fails(tests, None)
        return not has_failed, f"fails, or takes longer than {LONGEST_S:g} s, with its defence in place\n{said}"
    return has_failed, said


def fails(tests: tuple[str, ...], removal: Removal | None) -> tuple[bool, bool, str]:
    """Return whether tests fail, whether they do because one took too long, and what they said."""
    options = ["-x", "-q", "--tb=line", f"--timeout={LONGEST_S:g}", "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", *options, *(f"tests/{test}" for test in tests)]
    # The checkout comes before the installed package, here and in the kernels that the tests start.
    path = [ROOT, ROOT / "tests", ROOT / "tests" / "removals_site"]
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, path))}
    environ.pop(VARIABLE, None)
    if removal is not None:
        environ[VARIABLE] = removal.as_json()
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False, timeout=3 * LONGEST_S
        )
    except subprocess.TimeoutExpired:
        return True, True, ""  # the threads of a test that hangs may not let the program end
    # pytest-timeout says "Timeout >60.0s", or "Timeout (>60.0s)", by what it ends a test with.
    is_late = "Timeout >" in done.stdout + done.stderr or "Timeout (>" in done.stdout + done.stderr
    has_failed = done.returncode == TESTS_FAILED and not _BROKEN.search(done.stdout)
    return has_failed, is_late, (done.stdout + done.stderr)[-2_000:]


def main(words: list[str]) -> int:
    """Take out the defences of the chosen rows, two at a time, and return the exit status."""
    part, parts, words = part_of(words)
    wanted = chosen(words)
    pairs = [(row, removal) for row in ROWS if row.number in wanted for removal in row.removals][part - 1 :: parts]
    began = time.monotonic()
    useless = 0
    with ThreadPoolExecutor(max_workers=2) as pool:
        for (row, removal), (missed, said) in zip(pairs, pool.map(lambda pair: is_missed(*pair), pairs), strict=True):
            useless += not missed
            print(f"{'red ' if missed else 'GREEN'} row {row.number:2}{row.part}  {removal}", flush=True)
            if not missed:
                print(said)
    print(f"{len(pairs)} defences taken out in {time.monotonic() - began:.0f} s; {useless} of them went unnoticed")
    return 1 if useless or not pairs else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
