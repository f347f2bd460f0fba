"""What `%load_ext` costs: CPU time, memory, packages and megabytes installed; ours, the peers and bare IPython.

    python benchmarks/load.py
    python benchmarks/load.py --only aichat_magic --runs 15

Each figure is the median of fresh processes, everybody in turn, each in an environment of its own that holds nothing
else. CPU and memory are what the extension adds to a terminal shell that is already there; packages and megabytes are
what it adds to an environment with IPython, without pip.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path

from environments import Environment, PeerError, cache_dir
from report import Report, Table, arguments

# The name of the extension, and its environment.
EXTENSIONS = {
    "bare IPython": ("", "ipython"),
    "aichat_magic": ("aichat_magic", "ours"),
    "jupyter-ai-magics": ("jupyter_ai_magics", "jupyter-ai-magics"),
    "jupyter-ai-magic-commands": ("jupyter_ai_magic_commands", "jupyter-ai-magic-commands"),
    "ipython-gpt": ("ipython_gpt", "ipython-gpt"),
    "genai": ("genai", "genai"),
}
GOALS = (50, 6)
PROGRAM = """
import json, os, sys, time
from IPython.terminal.interactiveshell import TerminalInteractiveShell
shell = TerminalInteractiveShell.instance()
def rss():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
def now():
    return time.process_time(), rss(), len(sys.modules)
name, before = sys.argv[1], now()
if name:
    known = sum(map(len, shell.magics_manager.magics.values()))
    shell.extension_manager.load_extension(name)
    assert sum(map(len, shell.magics_manager.magics.values())) > known, "no magic came with it"
after = now()
print("\\n" + json.dumps([b - a for a, b in zip(before, after)]))
"""
INSTALLED = """
import importlib.metadata, json, pathlib, sysconfig
left_out = {"pip", "setuptools", "wheel"}
found = {d.name.lower(): d for d in importlib.metadata.distributions() if d.name.lower() not in left_out}
def size(d):
    return sum(f.stat().st_size for f in map(d.locate_file, d.files or ()) if f.suffix != ".pyc" and f.is_file())
print(json.dumps({name: size(d) for name, d in found.items()}))
"""


def measured(environment: Environment, extension: str) -> list[float]:
    """CPU seconds, bytes and modules that loading adds in one fresh process."""
    values: list[float] = json.loads(environment.run("-c", PROGRAM, extension, timeout_s=120).splitlines()[-1])
    return values


def installed(environment: Environment) -> dict[str, int]:
    """Bytes of each package in an environment; ours, which stands in the checkout, as its wheel would have."""
    sizes: dict[str, int] = json.loads(environment.run("-c", INSTALLED))
    if "aichat-magic" in sizes:
        package = Path(__file__).parent.parent / "aichat_magic"
        sizes["aichat-magic"] = sum(file.stat().st_size for file in package.rglob("*.py"))
    return sizes


def more(parser: argparse.ArgumentParser) -> None:
    """The arguments of this program."""
    parser.add_argument("--venvs", type=Path, default=cache_dir(), metavar="DIR")
    parser.add_argument("--only", nargs="+", choices=list(EXTENSIONS), default=list(EXTENSIONS), metavar="NAME")
    parser.add_argument("--runs", type=int, default=15)


def main() -> None:
    """Measure, and print the table."""
    options = arguments(__doc__, more)
    names = list(dict.fromkeys(("bare IPython", *options.only)))
    environments: dict[str, Environment] = {}
    reasons: dict[str, str] = {}
    for name in names:
        environments[name] = Environment(EXTENSIONS[name][1], options.venvs)
        try:
            environments[name].make()
            measured(environments[name], EXTENSIONS[name][0])  # the first time compiles what is imported
        except PeerError as error:
            reasons[name] = str(error)
    runs: dict[str, list[list[float]]] = {name: [] for name in names}
    for turn in range(options.runs):
        for name in names:
            if name not in reasons:
                runs[name].append(measured(environments[name], EXTENSIONS[name][0]))
        print(f"  round {turn + 1}", file=sys.stderr)
    bare = installed(environments["bare IPython"])
    table = Table("", "CPU, ms", "memory, MB", "modules", "packages more", "MB more on disk")
    for name in names:
        if name in reasons:
            table.add(name, reasons[name], "", "", "", "")
            continue
        cpu_s, grown, modules = (statistics.median(run[n] for run in runs[name]) for n in range(3))
        sizes = installed(environments[name])
        added = {package: size for package, size in sizes.items() if package not in bare}
        table.add(
            name,
            f"{cpu_s * 1e3:.1f}",
            f"{grown / 1e6:.2f}",
            f"{modules:.0f}",
            len(added),
            f"{sum(added.values()) / 1e6:.1f}",
        )
    report = Report("load", "Loading: `python benchmarks/load.py`")
    report.text(
        f"`%load_ext`, median of {options.runs} fresh processes, everybody in turn. Goal: at most {GOALS[0]} ms of "
        f"CPU and {GOALS[1]} MB. Packages and megabytes: beyond an environment with IPython alone; no extras."
    )
    report.table(table)
    for name in names:
        if name not in reasons:
            report.used(environments[name].versions())
    report.finish(options)


if __name__ == "__main__":
    main()
