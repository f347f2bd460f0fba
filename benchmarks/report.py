"""Tables of the programs here: printed, and with ``--write`` put into their own section of RESULTS.md."""

from __future__ import annotations

import argparse
import os
import platform
import re
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

RESULTS = Path(__file__).with_name("RESULTS.md")


def arguments(doc: str | None, more: Callable[[argparse.ArgumentParser], object] | None = None) -> argparse.Namespace:
    """The command line: what all programs here understand, and what `more` adds.

    Args:
        doc: The program's docstring.
        more: Adds arguments to the parser.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="put the tables into RESULTS.md, too")
    parser.add_argument("--note", default="", help="a sentence about this run, such as what else the machine did")
    if more is not None:
        more(parser)
    return parser.parse_args()


class Table:
    """A Markdown table. Columns of numbers stand to the right."""

    def __init__(self, *titles: str) -> None:
        """A table with these columns and no rows."""
        self.titles = titles
        self.rows: list[tuple[str, ...]] = []

    def add(self, *cells: object) -> None:
        """One more row."""
        row = tuple(str(cell) for cell in cells)
        assert len(row) == len(self.titles), row
        self.rows.append(row)

    def __str__(self) -> str:
        """As Markdown that is also readable as it stands."""
        columns = list(zip(self.titles, *self.rows, strict=True))
        widths = [max(3, *map(len, column)) for column in columns]
        is_number = [
            any(re.match(r"\*{0,2}[\d<>+-]", cell) for cell in column[1:])
            and all(re.match(r"\*{0,2}[\d<>+-]|$|[^ ]{1,9}$", cell) for cell in column[1:])
            for column in columns
        ]

        def line(cells: tuple[str, ...]) -> str:
            padded = (
                cell.rjust(width) if right else cell.ljust(width)
                for cell, width, right in zip(cells, widths, is_number, strict=True)
            )
            return f"| {' | '.join(padded)} |"

        rules = (
            "-" * (width - 1) + ":" if right else "-" * width for width, right in zip(widths, is_number, strict=True)
        )
        return "\n".join((line(self.titles), f"| {' | '.join(rules)} |", *map(line, self.rows)))


def processor() -> str:
    """Its name."""
    try:
        return re.findall(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())[0]
    except (OSError, IndexError):
        return platform.processor() or platform.machine()


class Report:
    """One section of RESULTS.md."""

    def __init__(self, name: str, title: str) -> None:
        """Begin; what else the machine does is taken down now.

        Args:
            name: Names the section's markers.
            title: Its heading.
        """
        self.name, self.title = name, title
        self.parts: list[str] = []
        self.versions: dict[str, str] = {}
        self.began, self.load_before = time.time(), os.getloadavg()[1]

    def text(self, paragraph: str) -> None:
        """A paragraph."""
        self.parts.append(paragraph)

    def table(self, table: Table) -> None:
        """A table."""
        self.parts.append(str(table))

    def used(self, versions: Mapping[str, str]) -> None:
        """Versions of what was measured."""
        self.versions.update(versions)

    def circumstances(self, note: str) -> str:
        """Date, machine, versions."""
        day = time.strftime("%Y-%m-%d %H:%M", time.localtime(self.began))
        versions = ", ".join(f"{name} {version}" for name, version in sorted(self.versions.items()))
        return (
            f"{day}, {os.cpu_count()} cores ({processor()}), {platform.system()} {platform.release().split('-')[0]}, "
            f"Python {platform.python_version()}{', ' if versions else ''}{versions}; load of the machine "
            f"{self.load_before:.1f} before, {os.getloadavg()[1]:.1f} after.{' ' + note if note else ''}"
        )

    def finish(self, options: argparse.Namespace) -> None:
        """Print the section, and put it into RESULTS.md where that was asked for."""
        section = "\n\n".join((f"## {self.title}", *self.parts, self.circumstances(options.note)))
        print(section)
        if options.write:
            write(self.name, section)
            print(f"\nwritten into {RESULTS}", file=sys.stderr)


def write(name: str, section: str, path: Path = RESULTS) -> None:
    """Put a section where its markers are, or at the end."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    marked = f"{begin}\n{section}\n{end}"
    text = path.read_text() if path.exists() else ""
    if begin in text and end in text:
        opening, _, rest = text.partition(begin)
        text = opening + marked + rest.partition(end)[2]
    else:
        text = f"{text.rstrip()}\n\n{marked}\n"
    path.write_text(text)
