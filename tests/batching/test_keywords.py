"""The keywords of a run are documented once, and every function that takes them shows them from there."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from aichat_magic.batching.api import batch
from aichat_magic.batching.keywords import BatchKeywords, RunKeywords
from aichat_magic.batching.options import BatchOptions
from aichat_magic.chat.keywords import CallKeywords, keyword_docs
from aichat_magic.frames.accessors import FrameAccessor, SeriesAccessor
from aichat_magic.frames.embed import dedupe, embed, nearest, similarity
from aichat_magic.frames.embedding import EmbedKeywords

DOCS = {**keyword_docs(CallKeywords), **keyword_docs(RunKeywords)}
METHODS = [
    value
    for owner in (SeriesAccessor, FrameAccessor)
    for name, value in vars(owner).items()
    if not name.startswith("_") and callable(value)
]


def test_every_keyword_has_a_description() -> None:
    assert list(DOCS) == list(BatchKeywords.__annotations__)
    assert all(DOCS.values())


def test_ranges_and_defaults_in_the_descriptions_are_those_of_the_options() -> None:
    assert list(keyword_docs(RunKeywords)) == [field.name for field in dataclasses.fields(BatchOptions)]
    assert f"default: {BatchOptions().outage_patience_s:g}." in DOCS["outage_patience_s"]
    BatchOptions(concurrency=1_000)
    assert "1 to 1,000" in DOCS["concurrency"]


def test_all_methods_of_the_accessors_are_looked_at() -> None:
    assert {method.__name__ for method in METHODS} == {"complete", "run", "extract", "estimate", "preview", "embed"}
    assert len(METHODS) == 11


EMBEDDING = [embed, similarity, nearest, dedupe, *(method for method in METHODS if method.__name__ == "embed")]


def test_embeddings_take_every_keyword_of_a_run() -> None:
    own, of_a_run = keyword_docs(EmbedKeywords), keyword_docs(RunKeywords)
    assert list(EmbedKeywords.__annotations__) == [*of_a_run, *own]


@pytest.mark.parametrize("function", dict.fromkeys([batch, *METHODS, *EMBEDDING]), ids=lambda each: each.__qualname__)
def test_help_shows_every_keyword_with_its_description(function: Callable[..., Any]) -> None:
    shown = " ".join((function.__doc__ or "").split())
    own = keyword_docs(EmbedKeywords) if function in EMBEDDING else keyword_docs(CallKeywords)
    for name, description in {**own, **keyword_docs(RunKeywords)}.items():
        assert f"{name}: {description}" in shown
    assert "{keywords}" not in shown
