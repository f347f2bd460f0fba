"""Import hook: calls a function once a library is imported, without importing it."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.abc import Loader, MetaPathFinder
else:
    Loader = MetaPathFinder = object  # all that these classes add is their methods; to load them costs 2 ms


class _AfterImport(MetaPathFinder):
    """A finder that is first on the import path until its libraries are imported, and then removes itself."""

    def __init__(self) -> None:
        self.callbacks: dict[str, Callable[[], None]] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in self.callbacks:
            return None
        # Whoever asks may only want to know whether the library is installed: the callback stays until it is loaded.
        others = (finder for finder in list(sys.meta_path) if finder is not self)
        found = (finder.find_spec(fullname, path, target) for finder in others if hasattr(finder, "find_spec"))
        spec = next((spec for spec in found if spec is not None), None)
        if spec is not None and spec.loader is not None:
            spec.loader = _LoaderWithCallback(spec.loader, self)
        return spec

    def loaded(self, library: str) -> None:
        """Call the function for a library that is loaded now."""
        callback = self.callbacks.pop(library, None)
        if not self.callbacks and self in sys.meta_path:
            sys.meta_path.remove(self)
        try:
            if callback is not None:
                callback()
        except Exception as error:  # the import must not fail because of us
            warnings.warn(f"aichat_magic could not extend {library}: {error!r}", ImportWarning, stacklevel=2)


class _LoaderWithCallback(Loader):
    """A loader that runs a library's own loader, and then a function of ours."""

    def __init__(self, loader: Loader, finder: _AfterImport) -> None:
        self._loader = loader
        self._finder = finder

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        # The spec must keep the library's own loader, or its resources would not be found.
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        module.__loader__ = self._loader
        self._loader.exec_module(module)
        self._finder.loaded(module.__name__)


def after_import(library: str, callback: Callable[[], None]) -> None:
    """Call a function now if a library of frames is imported, else as soon as it is.

    Args:
        library: Its name.
        callback: Called once, without arguments.
    """
    if library in sys.modules and getattr(sys.modules[library], "Series", None) is not None:
        callback()
        return
    finder = next((finder for finder in sys.meta_path if isinstance(finder, _AfterImport)), None)
    if finder is None:
        finder = _AfterImport()
        sys.meta_path.insert(0, finder)
    finder.callbacks.setdefault(library, callback)
