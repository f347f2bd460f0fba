"""Fenced code blocks of a Markdown text, and the notebook cell made of them."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass

_OPEN = re.compile(r"(?P<indent>[ \t]*)(?P<fence>`{3,}(?=[^`]*\Z)|~{3,})[ \t]*(?P<language>[^\s`{]*)")
_FOR_IPYTHON = re.compile(r"(\s*)[%!].*")
_PYTHON = ("python", "py", "python3", "ipython", "ipython3", "pycon")
# IPython's own cell magics (read 2026-12); other languages have none.
_MAGICS = {
    "bash": "%%bash",
    "sh": "%%bash",
    "shell": "%%bash",
    "console": "%%bash",
    "zsh": "%%bash",
    "html": "%%html",
    "javascript": "%%javascript",
    "js": "%%javascript",
    "latex": "%%latex",
    "markdown": "%%markdown",
    "md": "%%markdown",
    "perl": "%%perl",
    "ruby": "%%ruby",
    "svg": "%%svg",
}


@dataclass(frozen=True, slots=True)
class CodeBlock:
    """One fenced code block.

    Attributes:
        language: The language after the opening fence, in lower case; empty when there is none.
        text: The code, without the indentation of the fence and without the last line end.
    """

    language: str
    text: str

    @property
    def is_sound(self) -> bool:
        """Tell whether the code can be used: Python, or code without a language, must parse as a cell of IPython."""
        return self.language not in ("", *_PYTHON) or _is_python(self.text)


@dataclass(frozen=True, slots=True)
class NextCell:
    """A notebook cell made of the blocks of a reply.

    Attributes:
        text: The cell; empty when there is no code.
        left_out: Languages of the blocks that are not in it.
    """

    text: str
    left_out: tuple[str, ...] = ()


def blocks(text: str) -> tuple[CodeBlock, ...]:
    """Return all fenced blocks of a text, in order. One that is still open ends with the text.

    Args:
        text: Markdown.
    """
    return tuple(_split(text)[0])


def outside(text: str) -> list[str]:
    """Return the lines of a text outside of fenced blocks; an empty line stands for each block.

    Args:
        text: Markdown.
    """
    return _split(text)[1]


def _split(text: str) -> tuple[list[CodeBlock], list[str]]:
    """Return the blocks of a text, and the lines outside of them."""
    found: list[CodeBlock] = []
    outside_lines: list[str] = []
    lines: list[str] = []
    opened: re.Match[str] | None = None
    for line in text.split("\n"):
        if opened is None:
            opened = _OPEN.match(line)
            lines = []
            # A block separates the text above it from the text below.
            outside_lines.append("" if opened else line)
        elif closes(line, opened["fence"]):
            found.append(_block(opened, lines))
            opened = None
        else:
            lines.append(line)
    if opened is not None:
        found.append(_block(opened, lines))
    return found, outside_lines


def opened_by(line: str) -> str:
    """Return the fence that a line opens, ``` or longer; empty when it opens none.

    Args:
        line: A line, or its beginning, outside of any fence.
    """
    opened = _OPEN.match(line)
    return opened["fence"] if opened else ""


def closes(line: str, fence: str) -> bool:
    """Tell whether a line closes a fence: it holds the same character, at least as often, and nothing else."""
    line = line.strip()
    return len(line) >= len(fence) and line == fence[0] * len(line)


def next_cell(text: str, *, is_wanted: Callable[[CodeBlock], bool] = lambda block: True) -> NextCell:
    """Make one cell of the blocks of one language: the one that a notebook most likely wants.

    That is Python where a block names it, else blocks without a language, else the language of the first block. The
    cell begins with the cell magic of its language where IPython has one.

    Args:
        text: Markdown.
        is_wanted: Filter for the blocks; default: all.
    """
    by_language: dict[str, list[str]] = {}
    for block in blocks(text):
        if block.text.strip() and is_wanted(block):
            language = "python" if block.language in _PYTHON else block.language
            by_language.setdefault(language, []).append(block.text)
    if not by_language:
        return NextCell("")
    chosen = next((name for name in ("python", "") if name in by_language), next(iter(by_language)))
    code = "\n\n".join(by_language.pop(chosen))
    if chosen in _MAGICS and not code.startswith("%%"):
        code = f"{_MAGICS[chosen]}\n{code}"
    return NextCell(code, tuple(language or "no language" for language in by_language))


def _is_python(code: str) -> bool:
    """Tell whether code is Python with at least one statement; IPython's ``%time`` and ``!ls`` count. It is not run."""
    if code.startswith("%%"):
        return True
    lines = (_FOR_IPYTHON.sub(r"\1pass", line) for line in code.split("\n"))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of invalid escapes in strings
            return bool(ast.parse("\n".join(lines)).body)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False


def _block(opened: re.Match[str], lines: list[str]) -> CodeBlock:
    indent = len(opened["indent"])
    # A block in a list is indented like the list. Only the indentation of the fence is removed from its lines.
    texts = [line[min(indent, len(line) - len(line.lstrip())) :] for line in lines]
    return CodeBlock(opened["language"].lower(), "\n".join(texts).rstrip("\n"))
