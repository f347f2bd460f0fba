"""Take each defence out of a copy of the package, and see the tests of its row fail.

    python tests/defences.py            # all rows
    python tests/defences.py 14 42      # some
    python tests/defences.py 24-37      # a range

The copy lies in a temporary folder; the checkout is not touched. Exits with 1 when tests pass without their defence.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from acceptance import ROWS, Removal, Row

ROOT = Path(__file__).parent.parent
LONGEST_S = 180
TESTS_FAILED = 1  # pytest's exit status; 2 and more: interrupted, broken, or nothing was run


def chosen(words: list[str]) -> set[int]:
    """The numbers of rows that `words` name; all when there is none."""
    numbers: set[int] = set()
    for word in words:
        first, _, last = word.partition("-")
        numbers.update(range(int(first), int(last or first) + 1))
    return numbers or {row.number for row in ROWS}


def is_missed(row: Row, removal: Removal) -> tuple[bool, str]:
    """Whether the row's tests fail once the defence is gone, and what they said."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in ("aichat_magic", "tests", "notebooks", ".github"):
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("pyproject.toml", "README.md"):
            shutil.copy(ROOT / name, copy / name)
        file = copy / removal.file
        text = file.read_text(encoding="utf-8")
        if text.count(removal.old) != 1:
            return False, f"{removal.old!r} stands {text.count(removal.old)} times in {removal.file}"
        file.write_text(text.replace(removal.old, removal.new), encoding="utf-8")
        tests = [f"tests/{test}" for test in removal.tests or row.tests]
        limits = ["--timeout=60", "-p", "no:cacheprovider"]
        command = [sys.executable, "-m", "pytest", "-x", "-q", "--tb=line", *limits, *tests]
        # The copy comes before the installed package, here and in the kernels that the tests start.
        environ = os.environ | {"PYTHONPATH": os.pathsep.join((str(copy), str(copy / "tests")))}
        try:
            done = subprocess.run(
                command, cwd=copy, env=environ, capture_output=True, text=True, check=False, timeout=LONGEST_S
            )
        except subprocess.TimeoutExpired:
            return True, ""  # a test that hangs does not pass, and its threads may not let the program end
        return done.returncode == TESTS_FAILED, done.stdout[-2_000:]


def main(words: list[str]) -> int:
    wanted = chosen(words)
    pairs = [(row, removal) for row in ROWS if row.number in wanted for removal in row.removals]
    began = time.monotonic()
    useless = 0
    with ThreadPoolExecutor(max_workers=2) as pool:
        for (row, removal), (missed, said) in zip(pairs, pool.map(lambda pair: is_missed(*pair), pairs), strict=True):
            useless += not missed
            first_line = removal.old.strip().splitlines()[0]
            print(f"{'red ' if missed else 'GREEN'} row {row.number:2}  {removal.file}: {first_line[:70]}", flush=True)
            if not missed:
                print(said)
    print(f"{len(pairs)} defences taken out in {time.monotonic() - began:.0f} s; {useless} of them went unnoticed")
    return 1 if useless or not pairs else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
