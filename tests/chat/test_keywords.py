"""The types of the keywords name exactly what is taken."""

import dataclasses

import pytest

import aichat_magic
from aichat_magic.batching.keywords import BatchKeywords, RunKeywords
from aichat_magic.batching.options import BatchOptions
from aichat_magic.chat.keywords import CallKeywords, document_keywords, keyword_docs
from aichat_magic.core.errors import UnknownNameError
from aichat_magic.core.options import CallOptions

VALUES = {
    "stop": "x", "max_tokens": 1, "seed": 1, "allow_not_working": True, "model": "echo/echo", "reasoning": "low",
    "tier": "flex", "options": {"top_k": 40}, "strict_options": True,
}  # fmt: skip
TEXTS = ("base_url", "system", "proxy")


@pytest.mark.parametrize("name", sorted(CallKeywords.__annotations__))
def test_keyword_of_a_call_is_taken(name: str) -> None:
    value = VALUES.get(name, "http://127.0.0.1:1" if name in TEXTS else 0.5)
    assert CallOptions.from_keywords({name: value}) != CallOptions()


def test_no_keyword_of_a_call_is_missing() -> None:
    with pytest.raises(UnknownNameError):
        CallOptions.from_keywords({"nothing": 1})
    options = {field.name for field in dataclasses.fields(CallOptions().options)} - {"schema", "extra", "unset"}
    others = {field.name for field in dataclasses.fields(CallOptions)} - {"options", "timeout_s", "is_dry"} | {
        "timeout",
        "options",
    }
    assert set(CallKeywords.__annotations__) == options | others


def test_keywords_of_a_run_are_those_of_a_call_and_its_own() -> None:
    own = {field.name for field in dataclasses.fields(BatchOptions)}
    assert set(BatchKeywords.__annotations__) == own | set(CallKeywords.__annotations__)


@pytest.mark.parametrize("kind", [CallKeywords, RunKeywords])
def test_every_keyword_is_described_in_one_line(kind: type) -> None:
    inherited = set() if kind is CallKeywords else set(CallKeywords.__annotations__)
    docs = keyword_docs(kind)
    assert set(docs) == set(kind.__annotations__) - inherited
    assert all(text and "\n" not in text and "  " not in text for text in docs.values())


def test_lines_of_a_long_description_are_joined_and_other_sections_left_out() -> None:
    class Keywords:
        """Some keywords.

        Keys:
            one: First: with a colon.
            two: Longer than
                a line: really.

        Raises:
            ValueError: Not a keyword.
        """

    assert keyword_docs(Keywords) == {"one": "First: with a colon.", "two": "Longer than a line: really."}


def test_class_without_a_docstring_has_no_descriptions() -> None:
    assert keyword_docs(type("Bare", (), {})) == {}


def test_keywords_are_put_into_a_docstring() -> None:
    @document_keywords(CallKeywords)
    def function() -> None:
        """Do something.

        Args:
            **options: All of these:
                {keywords}

        Returns:
            Nothing.
        """

    lines = (function.__doc__ or "").splitlines()
    above = next(line for line in lines if "**options" in line)
    indent = " " * (len(above) - len(above.lstrip()) + 4)  # Python 3.13 takes the common indent away
    assert f"{indent}model: {keyword_docs(CallKeywords)['model']}" in lines
    assert "{keywords}" not in lines
    assert [line.strip() for line in lines].index("Returns:") > len(CallKeywords.__annotations__)


@pytest.mark.parametrize("name", ["ask", "stream"])
def test_help_of_a_function_describes_every_keyword(name: str) -> None:
    doc = " ".join((getattr(aichat_magic, name).__doc__ or "").split())
    for keyword, text in keyword_docs(CallKeywords).items():
        assert f"{keyword}: {text}" in doc
