"""Prompt templates: the package's own, the user's, and files that are none."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aichat_magic.core.errors import ConfigError, PromptError, UnknownNameError
from aichat_magic.magic.context.templates import prompt_template_named, prompt_templates


def write(config: Path, name: str, text: str | bytes) -> None:
    folder = config / "templates"
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())


def test_built_in_ones_are_there_and_say_what_they_need(tmp_path: Path) -> None:
    known = prompt_templates(tmp_path / "nowhere")
    assert {name: set(template.placeholders) for name, template in known.items()} == {
        "fix": {"cell", "traceback", "values"},
        "explain": {"cell"},
        "doc": {"name", "source"},
        "review": {"cell"},
    }
    for template in known.values():
        assert template.is_built_in
        assert template.description
        assert template.system
        assert not template.problem


def test_file_of_the_user_adds_and_overrides(tmp_path: Path) -> None:
    write(tmp_path, "review.md", "My own: {cell}\n")
    write(
        tmp_path, "summary.md", "---\ndescription: sum it up\nsystem: Be brief: very.\n---\nSum up {text}\n\nplease\n"
    )
    known = prompt_templates(tmp_path)
    assert known["review"].prompt == "My own: {cell}"
    assert not known["review"].is_built_in
    assert known["summary"].description == "sum it up"
    assert known["summary"].system == "Be brief: very."
    assert known["summary"].fill({"text": "{cell}", "other": 1}).text == "Sum up {cell}\n\nplease"
    assert "fix" in known


@pytest.mark.parametrize("start", ["﻿", ""])
def test_line_ends_and_marks_of_other_systems_do_no_harm(tmp_path: Path, start: str) -> None:
    write(tmp_path, "a.md", f"{start}---\r\ndescription: d\r\n---\r\nline\r\nline\r\n")
    template = prompt_templates(tmp_path)["a"]
    assert (template.description, template.prompt) == ("d", "line\nline")


def test_dashes_inside_the_prompt_stay(tmp_path: Path) -> None:
    write(tmp_path, "a.md", "One\n---\nTwo {{x}} \\frac{a}{b}\n---\n")
    template = prompt_templates(tmp_path)["a"]
    assert template.prompt == "One\n---\nTwo {{x}} \\frac{a}{b}\n---"


def test_missing_value_is_named_with_the_way_to_give_it(tmp_path: Path) -> None:
    write(tmp_path, "a.md", "{text} for {audience}")
    with pytest.raises(PromptError, match=r"needs \{audience\}.*'audiense'.*%aichat run a audience=") as caught:
        prompt_templates(tmp_path)["a"].fill({"text": "x", "audiense": "y"})
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"\xff\xfe\x00", "read"),
        (b"", "no prompt"),
        (b"---\nsystem: x\n---\n  \n", "no prompt"),
        (b"---\nsytem: x\n---\nhello", "only description and system are known there"),
        (b"---\njust words\n---\nhello", "just words"),
        (b"x" * 300_000, "larger"),
    ],
)
def test_file_that_cannot_be_used_says_why_and_leaves_the_others(tmp_path: Path, data: bytes, word: str) -> None:
    write(tmp_path, "bad.md", data)
    write(tmp_path, "good.md", "hello")
    known = prompt_templates(tmp_path)
    assert known["good"].fill({}).text == "hello"
    with pytest.raises(ConfigError, match=word):
        known["bad"].fill({})


def test_other_files_are_no_templates(tmp_path: Path) -> None:
    for name in ("notes.txt", ".hidden.md", "two words.md", "-x.md"):
        write(tmp_path, name, "hello")
    (tmp_path / "templates" / "folder.md").mkdir()
    assert set(prompt_templates(tmp_path)) == {"fix", "explain", "doc", "review", "folder"}
    assert prompt_templates(tmp_path)["folder"].problem


def test_unknown_name_is_told_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'review'"):
        prompt_template_named("reviw", prompt_templates(tmp_path))


@given(st.binary())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_content_makes_the_list_fail(tmp_path: Path, data: bytes) -> None:
    write(tmp_path, "any.md", data)
    assert "any" in prompt_templates(tmp_path)
