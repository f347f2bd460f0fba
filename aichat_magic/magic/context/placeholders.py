"""From what a person writes, and the values it names, to the text that is sent."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from ...core.errors import PromptError
from ...core.messages import Image
from ...text.words import nearest
from ...values.describe import ValueText, shown

# One pair of braces around one identifier, and no brace beside it. Everything else that has braces (dicts, f-strings,
# LaTeX, Jinja) is left alone.
_PLACEHOLDER = re.compile(r"(?<!\{)\{([^\W\d]\w*)\}(?!\})")


@dataclass(frozen=True, slots=True)
class FilledPrompt:
    """A prompt after its placeholders were filled.

    Attributes:
        text: The prompt.
        filled: Names whose values were put in, in order of first use.
        left: Names in single braces without a variable; they stay as text.
        images: Figures and pictures that were named, in the same order; the text says ``[image: name]`` instead.
        remarks: The names in `filled`, each with what was put in if not all: ``"df (first 20 of 90 rows)"``.
    """

    text: str
    filled: tuple[str, ...]
    left: tuple[str, ...]
    images: tuple[Image, ...] = ()
    remarks: tuple[str, ...] = ()


def fill(
    template: str,
    values: Mapping[str, Any],
    *,
    is_strict: bool = False,
    show: Callable[[Any], ValueText] = shown,
) -> FilledPrompt:
    """Put values where ``{name}`` stands. Nothing is evaluated, and a value is never looked at for placeholders.

    Args:
        template: What the person wrote.
        values: Variables by name.
        is_strict: Whether a name without a variable is an error.
        show: Makes a value text or an image.

    Returns:
        The filled prompt, and which names were filled and left.

    Raises:
        PromptError: In strict mode, a name without a variable; names the nearest. Or a value that cannot be shown.
    """
    filled: dict[str, ValueText] = {}
    left: dict[str, None] = {}

    def put(match: re.Match[str]) -> str:
        name = match[1]
        if name not in values or isinstance(values[name], ModuleType):
            left[name] = None
            return match[0]
        if name not in filled:
            filled[name] = show(values[name])
        return f"[image: {name}]" if filled[name].images else filled[name].text

    text = _PLACEHOLDER.sub(put, template)
    if is_strict and left:
        name = next(iter(left))
        raise PromptError(
            f"There is no variable {name!r} for {{{name}}} in the prompt.{nearest(name, values)} "
            f"Define it, or leave --strict out to keep it as text."
        )
    return FilledPrompt(
        text,
        tuple(filled),
        tuple(left),
        images=tuple(image for value in filled.values() for image in value.images),
        remarks=tuple(f"{name} ({value.cut})" if value.cut else name for name, value in filled.items()),
    )


def placeholders(template: str) -> tuple[str, ...]:
    """The names in single braces, in order of first use."""
    return tuple(dict.fromkeys(match[1] for match in _PLACEHOLDER.finditer(template)))
