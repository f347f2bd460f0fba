"""Prompt templates: files of the package, and the user's own in the configuration directory.

A prompt template is a Markdown file, and is called like the file. One of the user's replaces a built-in one of the same
name::

    ---
    description: summarise a text for somebody
    system: Be brief.
    ---
    Summarise this for {audience}: {text}

The part between the dashes is optional. ``{name}`` is a placeholder, as in a cell.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...core.errors import ConfigError, PromptError, UnknownNameError
from ...text.words import did_you_mean, shorten
from .placeholders import FilledPrompt, fill, placeholders

_BUILT_IN = Path(__file__).parent / "templates"
_NAME = re.compile(r"\w[\w-]*\Z")
_HEAD = re.compile(r"---[ \t]*\n(.*?)^---[ \t]*(?:\n|\Z)", re.DOTALL | re.MULTILINE)
_KEYS = ("description", "system")
_MAX_BYTES = 200_000


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptTemplate:
    """One prompt template.

    Attributes:
        name: Its name.
        prompt: The text, with its placeholders.
        description: Its purpose, in a line; may be empty.
        system: System message to send with it; empty: that of the settings.
        path: The file that it was read from.
        problem: Why the file cannot be used; empty if it can.
    """

    name: str
    prompt: str
    description: str = ""
    system: str = ""
    path: Path
    problem: str = ""

    @property
    def is_built_in(self) -> bool:
        """Tell whether the template is part of the package."""
        return self.path.parent == _BUILT_IN

    @property
    def placeholders(self) -> tuple[str, ...]:
        """Return the names of the placeholders, in order of first use."""
        return placeholders(self.prompt)

    def fill(self, values: Mapping[str, Any]) -> FilledPrompt:
        """Fill the placeholders. Nothing is evaluated.

        Args:
            values: A value for each placeholder; others are ignored.

        Returns:
            The prompt.

        Raises:
            ConfigError: The file of the template cannot be used.
            PromptError: A value is missing, or cannot be shown.
        """
        if self.problem:
            raise ConfigError(f"The prompt template {shorten(str(self.path), 120)} {self.problem}.")
        missing = [name for name in self.placeholders if name not in values]
        if missing:
            needs = ", ".join(f"{{{name}}}" for name in missing)
            raise PromptError(
                f"Prompt template {self.name!r} needs {needs}.{did_you_mean(missing[0], values)} "
                f"Write: %aichat run {self.name} {' '.join(f'{name}=...' for name in missing)}"
            )
        return fill(self.prompt, {name: values[name] for name in self.placeholders})


def prompt_templates(config_dir: Path) -> dict[str, PromptTemplate]:
    """Read all prompt templates, sorted by name.

    Args:
        config_dir: The configuration directory; the user's own templates are in its subdirectory ``templates``.

    Returns:
        The prompt templates by name. One that cannot be read is included, with its problem.
    """
    found: dict[str, PromptTemplate] = {}
    for folder in (_BUILT_IN, config_dir / "templates"):
        try:
            paths = sorted(path for path in folder.iterdir() if path.suffix == ".md" and _NAME.match(path.stem))
        except OSError:
            continue  # the user has no templates
        found.update((path.stem, _read(path)) for path in paths)
    return dict(sorted(found.items()))


def prompt_template_named(name: str, known: Mapping[str, PromptTemplate]) -> PromptTemplate:
    """Return the prompt template of a name.

    Raises:
        UnknownNameError: There is none; names the nearest.
    """
    if name not in known:
        raise UnknownNameError(
            f"There is no prompt template {shorten(name, 40)!r}.{did_you_mean(name, known)} "
            f"%aichat templates lists them."
        )
    return known[name]


def _read(path: Path) -> PromptTemplate:
    """Read a prompt template from its file."""
    name = path.stem
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
        text = data.decode("utf-8-sig").replace("\r\n", "\n")
    except (OSError, UnicodeDecodeError) as error:
        return _broken(path, f"cannot be read: {shorten(str(error), 80)}")
    if len(data) > _MAX_BYTES:
        return _broken(path, f"is larger than {_MAX_BYTES // 1000} kB")
    values: dict[str, str] = {}
    if head := _HEAD.match(text):
        text = text[head.end() :]
        for line in filter(str.strip, head[1].splitlines()):
            key, colon, value = line.partition(":")
            key = key.strip()
            if not colon or key not in _KEYS:
                known = " and ".join(_KEYS)
                return _broken(path, f"begins with the line {shorten(line, 40)!r}; only {known} are known there")
            values[key] = value.strip()
    if not text.strip():
        return _broken(path, "has no prompt")
    return PromptTemplate(name=name, prompt=text.strip("\n"), path=path, **values)


def _broken(path: Path, why: str) -> PromptTemplate:
    """Return the entry for a file that cannot be used."""
    return PromptTemplate(name=path.stem, prompt="", path=path, problem=why)
