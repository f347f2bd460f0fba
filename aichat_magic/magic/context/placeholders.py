"""Placeholders: replaces ``{name}`` in a prompt by the value of the variable `name`."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from ...core.errors import PromptError
from ...core.messages import Image, Message, estimate_tokens
from ...text.formulas import formula_spans
from ...text.words import did_you_mean, is_slip_of
from ...values.describe import ValueText, shown

# A pair of braces around an identifier, without another brace beside it, and not in a formula. All other uses of braces
# (dicts, f-strings, Jinja) are left alone.
_PLACEHOLDER = re.compile(r"(?<!\{)\{([^\W\d]\w*)\}(?!\})")
# Fenced blocks, spans in backticks, and f-strings.
_CODE = re.compile(
    r"""^[ \t]*(?P<fence>`{3,}|~{3,}).*?(?:^[ \t]*(?P=fence)|\Z)
    | (?P<ticks>`+)[^`].*?(?P=ticks)
    | \b(?:[fF][rR]?|[rR][fF])(?P<quote>\"\"\"|\'\'\'|["\']).*?(?P=quote)""",
    re.VERBOSE | re.DOTALL | re.MULTILINE,
)
_OF_IPYTHON = frozenset(("In", "Out", "exit", "quit", "open", "get_ipython"))


@dataclass(frozen=True, slots=True)
class FilledPrompt:
    """A prompt with its placeholders filled.

    Attributes:
        text: The prompt.
        filled: Names that were replaced, in order of first use.
        left: Names in single braces without a variable; they stay as text.
        in_formulas: Names of variables that stay as text because their braces are LaTeX's: ``x_{n}``.
        images: Figures and pictures among the values, in the same order; the text has ``[image: name]`` for each.
        remarks: The names in `filled`, each with how its value was cut, if it was: ``"df (first 20 of 90 rows)"``.
        tokens: The names in `filled`, each with the tokens of its value, as `estimate_tokens` counts.
    """

    text: str
    filled: tuple[str, ...]
    left: tuple[str, ...]
    in_formulas: tuple[str, ...] = ()
    images: tuple[Image, ...] = ()
    remarks: tuple[str, ...] = ()
    tokens: tuple[tuple[str, int], ...] = ()


def fill(
    template: str,
    values: Mapping[str, Any],
    *,
    is_strict: bool = False,
    show: Callable[[Any], ValueText] = shown,
) -> FilledPrompt:
    """Replace each ``{name}`` by its value. Nothing is evaluated, and placeholders inside values are not filled.

    Args:
        template: The text with placeholders.
        values: Variables by name.
        is_strict: Whether a name without a variable is an error.
        show: Turns a value into text or an image.

    Returns:
        The filled prompt, with the names that were filled and those that were left.

    Raises:
        PromptError: A value cannot be shown; a name has no variable, but all but a letter of one, outside of code; or,
            if `is_strict`, a name has no variable (names the nearest).
    """
    filled: dict[str, ValueText] = {}
    left: dict[str, None] = {}
    formulas: dict[str, None] = {}
    parts: list[str] = []
    end = 0
    for match, is_formula in _braces(template):
        name = match[1]
        is_value = name in values and not isinstance(values[name], ModuleType)
        if is_formula:
            if is_value:
                formulas[name] = None
            continue
        if not is_value:
            left[name] = None
            continue
        if name not in filled:
            filled[name] = show(values[name])
        parts += [template[end : match.start()], f"[image: {name}]" if filled[name].images else filled[name].text]
        end = match.end()
    text = "".join([*parts, template[end:]])
    if is_strict and left:
        name = next(iter(left))
        raise PromptError(
            f"There is no variable {name!r} for {{{name}}} in the prompt.{did_you_mean(name, values)} "
            f"Define it, or omit --strict to keep it as text."
        )
    _refuse_slips(template, left, values)
    return FilledPrompt(
        text,
        tuple(filled),
        tuple(left),
        tuple(formulas),
        images=tuple(image for value in filled.values() for image in value.images),
        remarks=tuple(f"{name} ({value.cut})" if value.cut else name for name, value in filled.items()),
        tokens=tuple(
            (name, estimate_tokens([Message("user", value.text, value.images)])) for name, value in filled.items()
        ),
    )


def placeholders(template: str) -> tuple[str, ...]:
    """Return the names in single braces that are not in a formula, in order of first use."""
    return tuple(dict.fromkeys(match[1] for match, is_formula in _braces(template) if not is_formula))


def _braces(template: str) -> Iterator[tuple[re.Match[str], bool]]:
    """Yield each name in single braces, and whether it is in a formula."""
    is_formula = _within(formula_spans(template))
    for match in _PLACEHOLDER.finditer(template):
        yield match, is_formula(match.start())


def _within(spans: list[tuple[int, int]]) -> Callable[[int], bool]:
    """Return a function that tells whether a position is in one of the spans, which are in order."""
    starts = [start for start, _ in spans]

    def is_within(at: int) -> bool:
        place = bisect_right(starts, at) - 1
        return place >= 0 and at < spans[place][1]

    return is_within


def _refuse_slips(template: str, left: Iterable[str], values: Mapping[str, Any]) -> None:
    """Raise if a name without a variable is a slip of the pen for one. In code, braces are mostly the code's own.

    Raises:
        PromptError: Names both.
    """
    mine = [name for name, value in values.items() if _is_mine(name, value)] if left else []
    meant = {name: close for name in left if (close := next((one for one in mine if is_slip_of(name, one)), ""))}
    if not meant:
        return
    is_code = _within([match.span() for match in _CODE.finditer(template)])
    for match, is_formula in _braces(template):
        if match[1] in meant and not is_formula and not is_code(match.start()):
            raise PromptError(
                f"There is no variable {match[1]!r}. Did you mean {{{meant[match[1]]}}}? Nothing was sent. "
                f"To send {match[0]} as text, double its braces, {{{match[0]}}}, or use --raw."
            )


def _is_mine(name: str, value: Any) -> bool:
    """Tell whether a variable may be the user's, and no module and none of IPython's own."""
    return not name.startswith("_") and name not in _OF_IPYTHON and not isinstance(value, ModuleType)
