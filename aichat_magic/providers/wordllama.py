"""The embedded model for embeddings: WordLlama, 16 MB of word vectors that are averaged, from the wheel of its package.

It needs neither a network nor a GPU: the weights are loaded at first use from the installed package.
"""

from __future__ import annotations

import functools
import importlib.util
import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ..core.embeddings import EmbeddingBounds
from ..core.errors import MissingExtraError, ModelFileError, OptionError
from ..core.installation import install_command

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

WORDLLAMA: Final = "wordllama"
BOUNDS: Final = EmbeddingBounds(texts=1024, tokens=1_000_000)
# The model was trained so that the beginnings of its vectors are vectors, too (its README, 2026-11).
DIMENSIONS: Final = (64, 128, 256)


def check_wordllama(dimensions: int | None) -> None:
    """Refuse what the model does not have, before it is loaded.

    Args:
        dimensions: Length of the vectors; None: 256.

    Raises:
        OptionError: The model has no vectors of this length.
        MissingExtraError: The package is not installed.
    """
    if dimensions is not None and dimensions not in DIMENSIONS:
        raise OptionError(
            f"local/{WORDLLAMA} has vectors of 64, 128 or 256 numbers, not {dimensions!r}: dimensions=256."
        )
    if importlib.util.find_spec("wordllama") is None:
        raise MissingExtraError(
            f"local/{WORDLLAMA} needs the package wordllama: {install_command('embed')}. Or name another model: "
            f"model='openai/text-embedding-3-small'."
        )


class WordLlamaEngine:
    """The loaded model. It may be used from several threads; its tokenizer has threads of its own."""

    def __init__(self) -> None:
        """Load the model from the installed package; nothing is downloaded.

        Raises:
            ModelFileError: The package does not have the weights.
        """
        try:
            with _root_logger_kept():
                import wordllama

                # Release 0.4 looks for its own tokenizer in the wrong folder of the wheel; as a cache the wheel is
                # found to be complete.
                folder = Path(wordllama.__file__).parent
                self._model: Any = wordllama.WordLlama.load(cache_dir=folder, disable_download=True)
        except Exception as error:  # the package's own errors, and those of what it needs
            raise ModelFileError(
                f"The weights of local/{WORDLLAMA} cannot be loaded: {error} Install the package again: "
                f"pip install --force-reinstall wordllama."
            ) from error
        self._lock = threading.Lock()

    def embed(self, texts: Sequence[str], dimensions: int | None) -> npt.NDArray[np.float32]:
        """Return a vector for each text, in order.

        Args:
            texts: The texts.
            dimensions: Length of each vector; None: 256.
        """
        import numpy as np

        # Texts of about the same length go together: the shorter ones of a batch are filled up.
        order = sorted(range(len(texts)), key=lambda number: len(texts[number]))
        with self._lock:
            found = self._model.embed([_encodable(texts[number]) for number in order])
        vectors = np.empty((len(texts), found.shape[1] if dimensions is None else dimensions), np.float32)
        vectors[order] = found[:, :dimensions]
        return vectors


@functools.cache
def wordllama_engine() -> WordLlamaEngine:
    """Return the model of the process, loaded at the first call: it takes a second, and 50 MB."""
    return WordLlamaEngine()


def _encodable(text: str) -> str:
    """Return a text without lone surrogates, which the tokenizer does not take."""
    return text.encode("utf-8", "replace").decode()


@contextmanager
def _root_logger_kept() -> Iterator[None]:
    """Undo what the import of the package does to the user's logging: it makes all programs log at level INFO."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        yield
    finally:
        root.setLevel(level)
        for handler in [handler for handler in root.handlers if handler not in handlers]:
            root.removeHandler(handler)
