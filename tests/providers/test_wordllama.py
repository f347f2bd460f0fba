"""The embedded model for embeddings: from the wheel of its package, without a network."""

import logging
import subprocess
import sys
import warnings
from typing import Any

import numpy as np
import pytest
from needs import lacking

import aichat_magic
from aichat_magic.core.errors import BadInputError, MissingExtraError, OptionError

needs_wordllama = pytest.mark.skipif(lacking("wordllama") != "", reason=lacking("wordllama"))
TEXTS = ["a cat on the mat", "the kitten sleeps", "shares fell in London", "x", "long " * 200]


def embed(texts: Any, **options: Any) -> Any:
    return aichat_magic.embed(texts, progress=False, **options)


@needs_wordllama
def test_vectors_are_those_of_the_library() -> None:
    from pathlib import Path

    import wordllama

    library = wordllama.WordLlama.load(cache_dir=Path(wordllama.__file__).parent, disable_download=True)
    found = np.stack(embed(TEXTS, store=False))
    np.testing.assert_allclose(found, library.embed(TEXTS), rtol=1e-5, atol=1e-6)
    assert (found.shape, found.dtype) == ((5, 256), np.float32)
    short = np.stack(embed(TEXTS, dimensions=64))
    np.testing.assert_array_equal(short, found[:, :64])


@needs_wordllama
def test_texts_of_one_meaning_are_near() -> None:
    cats, kitten, shares = embed(TEXTS[:3])
    assert aichat_magic.similarity(cats, kitten) > aichat_magic.similarity(cats, shares) + 0.1


@needs_wordllama
@pytest.mark.parametrize("text", ["\ud800 half a pair", "nul \0 here", "\U0001f600", "\u202e right to left"])
def test_every_text_has_a_vector(text: str) -> None:
    assert np.isfinite(embed(text)).all()


@needs_wordllama
def test_it_needs_no_network_and_leaves_logging_alone() -> None:
    code = """
import logging, socket, sys
def refuse(*args, **kwargs):
    raise OSError("no network")
socket.getaddrinfo = refuse
import aichat_magic
assert aichat_magic.embed("hello", progress=False).shape == (256,)
assert logging.getLogger().handlers == [] and logging.getLogger().level == logging.WARNING
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stderr) == (0, "")


@needs_wordllama
@pytest.mark.parametrize("wrong", [100, 257, 1])
def test_length_that_it_does_not_have_is_refused(wrong: int) -> None:
    with pytest.raises(OptionError, match=f"64, 128 or 256 numbers, not {wrong}"):
        embed("a", dimensions=wrong)


def test_it_cannot_chat_and_says_so() -> None:
    with pytest.raises(BadInputError, match="makes embeddings and cannot chat"):
        aichat_magic.ask("hello", model="local/wordllama")


def test_missing_package_is_named_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install .*\[embed\]"):
        embed("a")


def test_root_logger_is_as_before() -> None:
    from aichat_magic.providers.wordllama import _root_logger_kept

    root = logging.getLogger()
    before = list(root.handlers), root.level
    with _root_logger_kept(), warnings.catch_warnings():
        root.addHandler(logging.NullHandler())
        root.setLevel(logging.INFO)
    assert (list(root.handlers), root.level) == before
