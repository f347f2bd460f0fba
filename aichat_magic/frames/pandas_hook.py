"""Import hook: calls a function once pandas is imported, without importing it."""

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
    """A finder that is first on the import path until pandas is imported, and then removes itself."""

    def __init__(self, callback: Callable[[], None]) -> None:
        self._callback = callback

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "pandas":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec("pandas")
        if spec is not None and spec.loader is not None:
            spec.loader = _LoaderWithCallback(spec.loader, self._callback)
        return spec


class _LoaderWithCallback(Loader):
    """A loader that runs pandas' own loader, and then a function of ours."""

    def __init__(self, loader: Loader, callback: Callable[[], None]) -> None:
        self._loader = loader
        self._callback = callback

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        # The spec must keep pandas' own loader, or its resources would not be found.
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        module.__loader__ = self._loader
        self._loader.exec_module(module)
        try:
            self._callback()
        except Exception as error:  # the import of pandas must not fail because of us
            warnings.warn(f"aichat_magic could not extend pandas: {error!r}", ImportWarning, stacklevel=2)


def after_pandas(callback: Callable[[], None]) -> None:
    """Call a function now if pandas is imported, else as soon as it is.

    Args:
        callback: Called once, without arguments.
    """
    if "pandas" in sys.modules and getattr(sys.modules["pandas"], "Series", None) is not None:
        callback()
    elif not any(isinstance(finder, _AfterPandas) for finder in sys.meta_path):
        sys.meta_path.insert(0, _AfterPandas(callback))
