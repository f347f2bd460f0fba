"""What `%load_ext aichat_magic` costs: CPU time, memory and packages, against bare IPython.

    python benchmarks/load.py

Each figure is the median of 15 fresh processes, bare and loaded in turn.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys

RUNS = 15
PROGRAM = """
import json, sys, time, resource
from IPython.terminal.interactiveshell import TerminalInteractiveShell
shell = TerminalInteractiveShell.instance()
def rss():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()
before = (time.process_time(), rss(), len(sys.modules))
if %r:
    shell.run_line_magic("load_ext", "aichat_magic")
    assert "aichat" in shell.magics_manager.magics["cell"]
after = (time.process_time(), rss(), len(sys.modules))
print(json.dumps([b - a for a, b in zip(before, after)]))
"""


def measure(is_loaded: bool) -> list[float]:
    """CPU seconds, bytes and modules that loading adds in one fresh process."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM % is_loaded], capture_output=True, text=True, check=True, timeout=60
    )
    values: list[float] = json.loads(done.stdout.splitlines()[-1])
    return values


def main() -> None:
    """Measure and print the table."""
    pairs = [(measure(False), measure(True)) for _ in range(RUNS)]
    bare, loaded = ([statistics.median(run[side][n] for run in pairs) for n in range(3)] for side in range(2))
    print(f"%load_ext aichat_magic, median of {RUNS} fresh processes, Python {sys.version.split()[0]}")
    print(f"{'':<14}{'bare':>10}{'loaded':>10}{'goal':>10}")
    print(f"{'CPU, ms':<14}{bare[0] * 1e3:>10.1f}{loaded[0] * 1e3:>10.1f}{'<= 50':>10}")
    print(f"{'memory, MB':<14}{bare[1] / 1e6:>10.2f}{loaded[1] / 1e6:>10.2f}{'<= 6':>10}")
    print(f"{'modules':<14}{bare[2]:>10.0f}{loaded[2]:>10.0f}")


if __name__ == "__main__":
    main()
