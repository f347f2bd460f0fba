"""The manual is whole, fits its screen, and finds what one asks for."""

import argparse

import pytest

from aichat_magic.core.errors import UnknownNameError
from aichat_magic.magic import help as manual
from aichat_magic.magic.arguments import COMMANDS
from aichat_magic.magic.flags import cell_parser

ACTIONS = [action for action in cell_parser()._actions if action.option_strings]


def test_overview_fits_a_terminal_and_names_every_command_flag_and_topic() -> None:
    shown = manual.overview()
    assert len(shown.splitlines()) <= 24
    words = shown.replace(",", " ").replace(";", " ").replace(".", " ").split()
    for name in (*(command.name for command in COMMANDS), *(action.option_strings[-1] for action in ACTIONS)):
        assert name in words, name
    assert set(manual.TOPICS) <= {word.strip(")(") for word in words}


def test_no_page_is_wider_than_80_columns() -> None:
    for line in [*manual.page("all").splitlines(), *manual.cell_help().splitlines()]:
        assert len(line) <= 80, line
    for topic in manual.topics():
        assert max(map(len, manual.page(topic).splitlines())) <= 80, topic


def test_every_command_and_flag_stands_on_the_page_of_its_topic() -> None:
    everything = manual.page("all")
    for command in COMMANDS:
        assert command.topic in manual.TOPICS
        assert f"%aichat {command.name} {command.usage}".rstrip() in everything
        assert manual.page(command.name)
    for action in ACTIONS:
        assert ", ".join(action.option_strings) in everything
        assert ", ".join(action.option_strings) in manual.cell_help()


@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action.dest)
def test_flag_is_found_by_each_of_its_spellings(action: argparse.Action) -> None:
    pages = {manual.page(flag) for flag in action.option_strings}
    assert len(pages) == 1
    assert action.help is not None
    assert action.help in pages.pop()


def test_flag_is_found_without_its_dashes() -> None:
    assert manual.page("schema") == manual.page("--schema")
    assert "pydantic" in manual.page("schema")


def test_what_is_said_of_flags_is_said_of_flags_that_exist() -> None:
    assert set(manual._FLAGS) <= {action.dest for action in ACTIONS}
    assert set(manual._ALIASES.values()) <= set(manual.TOPICS)


@pytest.mark.parametrize("topic", ["models", "Keys", "tables", "batch", "conversations", "context", "settings", "key"])
def test_topic_is_found(topic: str) -> None:
    assert len(manual.page(topic).splitlines()) > 5


def test_keys_name_the_variable_of_each_provider() -> None:
    assert "GROQ_API_KEY" in manual.page("keys", variables={"groq": "GROQ_API_KEY", "echo": ""})


def test_tables_tell_the_methods_of_columns_and_tables() -> None:
    shown = manual.page("tables")
    assert 'df["prompt"].aichat.complete(' in shown
    assert "df.aichat.extract(template" in shown


@pytest.mark.parametrize(
    ("topic", "near"), [("modles", "models"), ("--tempature", "--temperature"), ("swich", "switch")]
)
def test_unknown_topic_names_the_nearest(topic: str, near: str) -> None:
    with pytest.raises(UnknownNameError, match=f"Did you mean '{near}'"):
        manual.page(topic)
