"""Template commands: `%aichat fix`, `explain`, `doc`, `review` and `run`; each asks with a filled prompt template."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..core.errors import BadInputError, UnknownNameError
from ..text.characters import terminal_text
from ..text.code_blocks import CodeBlock, next_cell
from ..text.quoting import fenced
from ..text.widgets import Table
from ..text.words import did_you_mean, shorten
from ..values.describe import source_of
from ..values.truncate import cut_to
from ..values.types import type_name
from .arguments import CellArguments, command_named, parse_cell_words
from .context.last_error import last_error_of, previous_cell
from .context.placeholders import FilledPrompt, fill, placeholders
from .context.templates import PromptTemplate, prompt_template_named
from .flags import ArgumentError, cell_parser
from .line_words import split_line

TEMPLATE_COMMANDS = ("fix", "explain", "doc", "review", "run")

_GIVEN = re.compile(r"([^\W\d]\w*)=(.*)\Z", re.DOTALL)
_MAX_BYTES = 40_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Notebook:
    """Access to the cells of the notebook.

    Attributes:
        cells: Returns the sources of all cells before the running one; their index is their number.
        number_of: Returns the number of the cell that was compiled under a file name; None if it is not a cell.
        put_below: Puts text into a new cell below, without running it.
    """

    cells: Callable[[], Sequence[str]] = tuple
    number_of: Callable[[str], int | None] = lambda file: None
    put_below: Callable[[str], None] = lambda text: None


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateCommand:
    """A parsed template command: a prompt to ask.

    Attributes:
        arguments: The arguments, as of a cell.
        prompt: The filled prompt.
        fixed_cell: Source of the cell that the reply shall fix, empty if unknown; None: the reply fixes no cell.
    """

    arguments: CellArguments
    prompt: FilledPrompt
    fixed_cell: str | None = None


def template_command(
    command: str,
    rest: str,
    known: Mapping[str, PromptTemplate],
    *,
    variables: Mapping[str, Any],
    notebook: Notebook,
    error: BaseException | None,
) -> TemplateCommand:
    """Parse a template command and fill its prompt template.

    Its prompt is sent without the conversation and not kept in it, unless ``-c NAME`` or ``--new`` is given.

    Args:
        command: One of `TEMPLATE_COMMANDS`.
        rest: The text after it: its words, and flags as on a `%%aichat` line, in any order.
        known: The prompt templates by name.
        variables: The notebook's variables.
        notebook: Access to the notebook's cells.
        error: The last exception of the notebook.

    Returns:
        The prompt to ask, with its arguments.

    Raises:
        BadInputError: The line cannot be understood, or there is nothing to ask about.
    """
    words, flags = _words_and_flags(split_line(rest))
    arguments = parse_cell_words(flags)
    if arguments.is_help:
        return TemplateCommand(arguments=arguments, prompt=FilledPrompt("", (), ()))
    if arguments.batch:
        raise ArgumentError(f"%aichat {command} asks a single question, so --batch does not work with it.")
    about = _TemplateValues(variables, notebook, error)
    if command == "run":
        template, values = _template_and_values(words, known, about)
    else:
        template = prompt_template_named(command, known)
        n_words = 1 if command == "doc" else 0
        if len(words) != n_words:
            raise ArgumentError(f"Write it as: %aichat {command} {command_named(command).usage}".rstrip())
        values = _name_and_source(words[0], variables) if words else {}
    values = {**about.values([name for name in template.placeholders if name not in values]), **values}
    filled = template.fill(values)
    return TemplateCommand(
        arguments=dataclasses.replace(
            arguments,
            given=dataclasses.replace(arguments.given, system=arguments.given.system or template.system),
            is_without_history=not (arguments.chat or arguments.is_new),
            is_code=arguments.is_code or command == "fix",
        ),
        # That the template's placeholders were filled need not be said; that a value was cut must be.
        prompt=FilledPrompt(
            filled.text,
            (),
            (),
            images=filled.images,
            remarks=tuple(remark for remark in filled.remarks if remark not in filled.filled),
        ),
        fixed_cell=about.failed_cell if command == "fix" else None,
    )


def put_code_below(text: str, notebook: Notebook, *, fixed_cell: str | None = None) -> str:
    """Put the code of a reply into a new cell below. Nothing is run.

    Args:
        text: The reply.
        notebook: Access to the notebook's cells.
        fixed_cell: Source of the cell that the reply fixes; None if it fixes none. Small models repeat what they were
            shown, so with a cell to fix only blocks count that are valid Python and differ from that cell.

    Returns:
        A line that says what was done.
    """

    def is_wanted(block: CodeBlock) -> bool:
        return fixed_cell is None or (block.is_sound and block.text.split() != fixed_cell.split())

    cell = next_cell(text, is_wanted=is_wanted)
    if not cell.text:
        return f"The reply contains no {'code' if fixed_cell is None else 'fixed cell'}, so no cell was added."
    notebook.put_below(terminal_text(cell.text))
    left = f" Left out: {', '.join(cell.left_out)}." if cell.left_out else ""
    return f"The code is in the next cell; it was not run.{left}"


def prompt_template_table(known: Mapping[str, PromptTemplate], folder: str) -> Table:
    """Return the table that `%aichat templates` shows.

    Args:
        known: The prompt templates by name.
        folder: Folder of the user's own ones.
    """
    rows = tuple(
        (
            template.name,
            " ".join(f"{{{name}}}" for name in template.placeholders),
            template.problem or template.description or shorten(template.prompt, 50),
            "built in" if template.is_built_in else "yours",
        )
        for template in known.values()
    )
    return Table(
        "Prompt templates", ("name", "needs", "what it does", "from"), rows, f"Add your own as {folder}/NAME.md"
    )


class _TemplateValues:
    """Values for placeholders that the command line does not give; each is looked up only when a template needs it."""

    def __init__(self, variables: Mapping[str, Any], notebook: Notebook, error: BaseException | None) -> None:
        """Keep the sources of values."""
        self._variables = variables
        self._notebook = notebook
        self._error = error
        self.failed_cell = ""

    def values(self, names: Sequence[str]) -> dict[str, Any]:
        """Return the values of those names that have one."""
        values = {name: self._variables[name] for name in names if name in self._variables}
        # In a template about an exception {cell} is the cell that raised it, in any other the previous cell.
        if "traceback" in names or "values" in names:
            values |= self._failure()
        elif "cell" in names:
            values["cell"] = self._previous()
        return values

    def filled(self, text: str) -> Any:
        """Return a text with its placeholders filled; for a single ``{name}``, the variable itself, be it an image."""
        (name, *others) = placeholders(text) or ("",)
        if not others and text == f"{{{name}}}" and name in self._variables:
            return self._variables[name]
        return fill(text, self._variables).text

    def _failure(self) -> dict[str, str]:
        if self._error is None:
            raise BadInputError("There is no exception to explain: none has been raised in this session.")
        failure = last_error_of(
            self._error, self._notebook.cells(), self._variables, number_of=self._notebook.number_of
        )
        self.failed_cell = failure.cell
        return {
            "cell": _in_fences(failure.cell or "(not known)"),
            "traceback": _in_fences(failure.traceback),
            "values": _in_fences(failure.values),
        }

    def _previous(self) -> str:
        cell = previous_cell(self._notebook.cells())
        if not cell:
            raise BadInputError("There is no cell before this one: run the cell first, then ask about it.")
        return _in_fences(cell.strip("\n"))


def _template_and_values(
    words: Sequence[str], known: Mapping[str, PromptTemplate], about: _TemplateValues
) -> tuple[PromptTemplate, dict[str, Any]]:
    """Return the template that `run` names, and the values that the line gives.

    ``name=text`` gives the text unchanged, except that a ``{variable}`` in it is filled as in every prompt.
    """
    if not words:
        raise ArgumentError(
            f"Write it as: %aichat run {command_named('run').usage} %aichat templates lists the templates."
        )
    template = prompt_template_named(words[0], known)
    values: dict[str, Any] = {}
    for word in words[1:]:
        match = _GIVEN.match(word)
        if match is None:
            raise ArgumentError(
                f"{shorten(word, 40)!r} is not name=text. Text with spaces needs quotes; a variable is {{name}}."
            )
        name, text = match[1], match[2]
        if name not in template.placeholders:
            raise UnknownNameError(
                f"Prompt template {template.name!r} has no {{{name}}}.{did_you_mean(name, template.placeholders)} "
                f"It needs: {', '.join(template.placeholders) or 'nothing'}."
            )
        values[name] = about.filled(text)
    return template, values


def _name_and_source(name: str, variables: Mapping[str, Any]) -> dict[str, Any]:
    """Return name and source of a function or a class, found without running its code."""
    first, *parts = name.split(".")
    if first not in variables:
        known = [known for known, value in variables.items() if callable(value) and known[0] != "_"]
        raise UnknownNameError(f"There is no variable {shorten(first, 40)!r}.{did_you_mean(first, known)}")
    value = variables[first]
    for part in parts:
        try:
            value = inspect.getattr_static(value, part)
        except AttributeError:
            value = None
        if isinstance(value, (staticmethod, classmethod)):
            value = value.__func__
        value = getattr(value, "fget", None) if isinstance(value, property) else value
    if not (isinstance(value, type) or inspect.isroutine(value)):
        raise BadInputError(
            f"%aichat doc takes the name of a function or a class; {shorten(name, 40)!r} "
            f"{'does not exist' if value is None else f'is a value of type {type_name(value)}'}."
        )
    return {"name": name, "source": _in_fences(source_of(value))}


def _words_and_flags(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Separate the words of a command from its flags and their values, in whatever order they stand."""
    with_value = {flag for action in cell_parser()._actions if action.nargs != 0 for flag in action.option_strings}
    plain: list[str] = []
    flags: list[str] = []
    rest = iter(words)
    for word in rest:
        if not word.startswith("-"):
            plain.append(word)
            continue
        flags.append(word)
        if word in with_value:
            flags += [value for value in (next(rest, None),) if value is not None]
    return plain, flags


def _in_fences(text: str) -> str:
    """Return a text of the notebook between code fences, cut to the budget."""
    return fenced(cut_to(text, _MAX_BYTES)[0])
