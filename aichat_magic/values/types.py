"""Type checks by class name, which import no library that the user has not imported."""

from __future__ import annotations

from typing import Any

from ..text.words import shorten


def type_name(value: Any) -> str:
    """Return the name of a value's type, at most 40 characters; ``class`` for a class."""
    if isinstance(value, type):
        return "class"
    return shorten(type(value).__name__, 40)


def is_instance_of(value: Any, library: str, *names: str) -> bool:
    """Tell whether a value is an instance of a class of this library with one of these names."""
    return any(
        cls.__name__ in names and str(cls.__module__).partition(".")[0] == library for cls in type(value).__mro__
    )


def has_method(value: Any, method: str) -> bool:
    """Tell whether the type of a value has a method. The value itself may claim to have any attribute."""
    return any(method in vars(cls) for cls in type(value).__mro__)
