"""The memory that a model needs, and the memory that is free."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

from ...text.numbers import byte_size
from ...text.words import shorten
from .hub_names import parts_of


def model_size(path: Path) -> int:
    """Return the size of a model file in bytes, with the other parts of a model that is split."""
    return sum(part.stat().st_size for part in parts_of(path) if part.is_file())


def memory_warning(path: Path, *, proc: Path = Path("/proc"), cgroup: Path = Path("/sys/fs/cgroup")) -> str:
    """Return a line that warns of a model that is larger than the free memory; empty if it fits or nothing is known.

    Args:
        path: The model file, or the first of its parts.
        proc: Folder of the system's counters, as Linux has them.
        cgroup: Folder of the limits of a container.
    """
    need, free = model_size(path), free_memory(proc=proc, cgroup=cgroup)
    if free is None or need <= free:
        return ""
    return (
        f"{shorten(path.name, 80)} has {byte_size(need)}, and only {byte_size(free)} of memory are free: it may be "
        f"very slow, or fail to load. Close other programs, or choose a smaller file."
    )


def free_memory(*, proc: Path = Path("/proc"), cgroup: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Return the bytes of memory that this process may still take, or None where the system does not say.

    Args:
        proc: Folder of the system's counters.
        cgroup: Folder of the limits of a container.
    """
    known: list[int] = []
    with contextlib.suppress(OSError, ValueError):
        if found := re.search(r"^MemAvailable:\s*(\d+) kB", (proc / "meminfo").read_text(), re.MULTILINE):
            known.append(int(found[1]) * 1024)
    with contextlib.suppress(OSError, ValueError):
        most = int((cgroup / "memory.max").read_text())  # "max" without a limit
        used = int((cgroup / "memory.current").read_text())
        # Pages of files that nobody has used for a while are given up when memory runs short.
        cached = re.search(r"^inactive_file (\d+)", (cgroup / "memory.stat").read_text(), re.MULTILINE)
        known.append(max(0, most - used + int(cached[1] if cached else 0)))
    return min(known, default=None)
