"""Questions beside the conversation: `%aichat fix`, `explain`, `doc`, `review` and `run`, each a filled recipe."""

from __future__ import annotations

import dataclasses
import inspect
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..core.errors import BadInputError, UnknownNameError
from ..text.characters import terminal_text
from ..text.code_blocks import CodeBlock, next_cell
from ..text.quoting import fenced
from ..text.widgets import Table
from ..text.words import nearest, shorten
from ..values.describe import source_of
from ..values.truncate import cut_to
from ..values.types import type_name
from .arguments import ArgumentError, CellArguments, cell_parser, command_named, parse_cell, split_line
from .context.last_error import last_error_of, previous_cell
from .context.placeholders import FilledPrompt, fill, placeholders
from .context.templates import PromptTemplate, prompt_template_named

TEMPLATE_COMMANDS = ("fix", "explain", "doc", "review", "run")

_GIVEN = re.compile(r"([^\W\d]\w*)=(.*)\Z", re.DOTALL)
_MAX_BYTES = 40_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Notebook:
    """What there is to know of the notebook beside its variables, and the one thing that is done to it.

    Attributes:
        cells: Gives the sources of the cells by their numbers, without the one that is running.
        number_of: The number of the cell that was compiled under a file name; None when it is no cell.
        put_below: Puts a text into a new cell below, without running it.
    """

    cells: Callable[[], Sequence[str]] = tuple
    number_of: Callable[[str], int | None] = lambda file: None
    put_below: Callable[[str], None] = lambda text: None


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateCommand:
    """A question to ask.

    Attributes:
        arguments: As those of a cell.
        prompt: The prompt, filled.
        mends: The cell that the reply mends, empty when it is not known; None: it mends none.
    """

    arguments: CellArguments
    prompt: FilledPrompt
    mends: str | None = None


def template_command(
    command: str,
    rest: str,
    known: Mapping[str, PromptTemplate],
    *,
    variables: Mapping[str, Any],
    notebook: Notebook,
    error: BaseException | None,
) -> TemplateCommand:
    """The question that a command stands for.

    It is asked without the conversation and not kept in it, unless ``-c NAME`` or ``--new`` says where.

    Args:
        command: One of `TEMPLATE_COMMANDS`.
        rest: What follows it: its words, and flags as on a `%%aichat` line, in any order.
        known: The recipes.
        variables: The notebook's variables.
        notebook: The notebook.
        error: The last exception of the notebook.

    Returns:
        The question.

    Raises:
        BadInputError: The line cannot be understood, or there is nothing to ask about.
    """
    words, flags = _parted(split_line(rest))
    arguments = parse_cell(shlex.join(flags))
    if arguments.is_help:
        return TemplateCommand(arguments=arguments, prompt=FilledPrompt("", (), ()))
    if arguments.batch:
        raise ArgumentError(f"%aichat {command} asks one question, so --batch does not fit it.")
    about = _About(variables, notebook, error)
    if command == "run":
        recipe, values = _told(words, known, about)
    else:
        recipe = prompt_template_named(command, known)
        n_words = 1 if command == "doc" else 0
        if len(words) != n_words:
            raise ArgumentError(f"Write it as: %aichat {command} {command_named(command).usage}".rstrip())
        values = _documented(words[0], variables) if words else {}
    values = {**about.values([name for name in recipe.placeholders if name not in values]), **values}
    filled = recipe.fill(values)
    return TemplateCommand(
        arguments=dataclasses.replace(
            arguments,
            given=dataclasses.replace(arguments.given, system=arguments.given.system or recipe.system),
            is_without_history=not (arguments.chat or arguments.is_new),
            is_code=arguments.is_code or command == "fix",
        ),
        # What the recipe names goes without saying; what of it was cut does not.
        prompt=FilledPrompt(
            filled.text,
            (),
            (),
            images=filled.images,
            remarks=tuple(remark for remark in filled.remarks if remark not in filled.filled),
        ),
        mends=about.failed_cell if command == "fix" else None,
    )


def put_code_below(text: str, notebook: Notebook, *, mends: str | None = None) -> str:
    """Put the code of a reply into a new cell below. Nothing is run.

    Args:
        text: The reply.
        notebook: Where.
        mends: The cell that the reply mends, None for another reply. Small models repeat what they were shown: then
            only blocks count that are Python, and not that cell again.

    Returns:
        What was done, in a line.
    """

    def is_wanted(block: CodeBlock) -> bool:
        return mends is None or (block.is_sound and block.text.split() != mends.split())

    cell = next_cell(text, is_wanted=is_wanted)
    if not cell.text:
        return f"The reply holds no {'code' if mends is None else 'mended cell'}, so no cell was added."
    notebook.put_below(terminal_text(cell.text))
    left = f" Left out: {', '.join(cell.left_out)}." if cell.left_out else ""
    return f"The code is in the next cell; it was not run.{left}"


def prompt_template_table(known: Mapping[str, PromptTemplate], folder: str) -> Table:
    """All recipes, for `%aichat templates`.

    Args:
        known: The recipes.
        folder: Where the user's own are.
    """
    rows = tuple(
        (
            recipe.name,
            " ".join(f"{{{name}}}" for name in recipe.placeholders),
            recipe.problem or recipe.description or shorten(recipe.prompt, 50),
            "built in" if recipe.is_built_in else "yours",
        )
        for recipe in known.values()
    )
    return Table("Prompt templates", ("name", "needs", "what it does", "from"), rows, f"Yours: {folder}/NAME.md")


class _About:
    """What a recipe may name without being told: looked up only when it does."""

    def __init__(self, variables: Mapping[str, Any], notebook: Notebook, error: BaseException | None) -> None:
        self._variables = variables
        self._notebook = notebook
        self._error = error
        self.failed_cell = ""

    def values(self, names: Sequence[str]) -> dict[str, Any]:
        """The values of those names that there are."""
        values = {name: self._variables[name] for name in names if name in self._variables}
        # A template about an exception means the cell that raised it, every other one the previous cell.
        if "traceback" in names or "values" in names:
            values |= self._failure()
        elif "cell" in names:
            values["cell"] = self._previous()
        return values

    def filled(self, text: str) -> Any:
        """A text with its ``{name}`` filled; what is one name only is the variable itself, be it text or image."""
        (name, *others) = placeholders(text) or ("",)
        if not others and text == f"{{{name}}}" and name in self._variables:
            return self._variables[name]
        return fill(text, self._variables).text

    def _failure(self) -> dict[str, str]:
        if self._error is None:
            raise BadInputError("There is no exception to explain: none was raised in this session.")
        failure = last_error_of(
            self._error, self._notebook.cells(), self._variables, number_of=self._notebook.number_of
        )
        self.failed_cell = failure.cell
        return {
            "cell": _data(failure.cell or "(not known)"),
            "traceback": _data(failure.traceback),
            "values": _data(failure.values),
        }

    def _previous(self) -> str:
        cell = previous_cell(self._notebook.cells())
        if not cell:
            raise BadInputError("There is no cell before this one: run the cell first, then ask about it.")
        return _data(cell.strip("\n"))


def _told(
    words: Sequence[str], known: Mapping[str, PromptTemplate], about: _About
) -> tuple[PromptTemplate, dict[str, Any]]:
    """The recipe that `run` names, and the values it is given.

    ``name=text`` gives the text as it stands; a ``{variable}`` in it is filled as in every prompt.
    """
    if not words:
        raise ArgumentError(
            f"Write it as: %aichat run {command_named('run').usage} %aichat templates lists the templates."
        )
    recipe = prompt_template_named(words[0], known)
    values: dict[str, Any] = {}
    for word in words[1:]:
        match = _GIVEN.match(word)
        if match is None:
            raise ArgumentError(
                f"{shorten(word, 40)!r} is not name=text. A text with spaces needs quotes; a variable is {{name}}."
            )
        name, text = match[1], match[2]
        if name not in recipe.placeholders:
            raise UnknownNameError(
                f"Template {recipe.name!r} has no {{{name}}}.{nearest(name, recipe.placeholders)} "
                f"It needs: {', '.join(recipe.placeholders) or 'nothing'}."
            )
        values[name] = about.filled(text)
    return recipe, values


def _documented(name: str, variables: Mapping[str, Any]) -> dict[str, Any]:
    """Name and source of a function or a class, found without running code of it."""
    first, *parts = name.split(".")
    if first not in variables:
        known = [known for known, value in variables.items() if callable(value) and known[0] != "_"]
        raise UnknownNameError(f"There is no variable {shorten(first, 40)!r}.{nearest(first, known)}")
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
            f"%aichat doc takes the name of a function or a class; {shorten(name, 40)!r} is "
            f"{'not there' if value is None else f'a value of type {type_name(value)}'}."
        )
    return {"name": name, "source": _data(source_of(value))}


def _parted(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The words of a command, and the flags with their values, wherever they stand among them."""
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


def _data(text: str) -> str:
    """A text of the notebook between fences, inside a budget."""
    return fenced(cut_to(text, _MAX_BYTES)[0])
