"""Runs something once pandas is imported, without importing it."""

from __future__ import annotations

import importlib.util
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.abc import Loader, MetaPathFinder
else:
    Loader = MetaPathFinder = object  # all that these classes add is their methods; to load them costs 2 ms


class _AfterPandas(MetaPathFinder):
    """Stands first in the import path until pandas comes by, and then leaves."""

    def __init__(self, then: Callable[[], None]) -> None:
        self._then = then

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "pandas":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec("pandas")
        if spec is not None and spec.loader is not None:
            spec.loader = _LoaderWithSequel(spec.loader, self._then)
        return spec


class _LoaderWithSequel(Loader):
    """pandas' own loader, and then ours."""

    def __init__(self, loader: Loader, then: Callable[[], None]) -> None:
        self._loader = loader
        self._then = then

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        # What pandas leaves in its spec must be its own loader, or its resources could not be found.
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        module.__loader__ = self._loader
        self._loader.exec_module(module)
        try:
            self._then()
        except Exception as error:  # pandas is not ours to break
            warnings.warn(f"aichat_magic could not extend pandas: {error!r}", ImportWarning, stacklevel=2)


def after_pandas(then: Callable[[], None]) -> None:
    """Call `then` now if pandas is imported, else as soon as somebody imports it.

    Args:
        then: Called once, without arguments.
    """
    if "pandas" in sys.modules and getattr(sys.modules["pandas"], "Series", None) is not None:
        then()
    elif not any(isinstance(finder, _AfterPandas) for finder in sys.meta_path):
        sys.meta_path.insert(0, _AfterPandas(then))
