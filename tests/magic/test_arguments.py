import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aichat_magic.core.errors import BadInputError
from aichat_magic.magic.arguments import parse_cell, parse_command, parse_use, words_of
from aichat_magic.magic.flags import ArgumentError


def test_flags_become_options() -> None:
    got = parse_cell(
        "-t 0 --top-p 0.5 --max-tokens 9 --presence-penalty -1 --frequency-penalty 1.5 --stop a --stop 'b c' --seed 7"
    )
    assert got.given.options.sent() == {
        "temperature": 0,
        "top_p": 0.5,
        "max_tokens": 9,
        "presence_penalty": -1,
        "frequency_penalty": 1.5,
        "stop": ("a", "b c"),
        "seed": 7,
    }


def test_flags_of_reasoning_tier_and_vendor_become_options() -> None:
    got = parse_cell("""--reasoning none --tier flex,auto -O top_k=40 --option 'x={"a": [1]}' -O fmt=json""").given
    assert got.options.shown() == {
        "reasoning": "none",
        "tier": "flex,auto",
        "top_k": 40,
        "x": {"a": [1]},
        "fmt": "json",
    }
    assert got.strict_options is None
    assert parse_cell("--strict-options").given.strict_options is True


@pytest.mark.parametrize(
    "name",
    [
        "temperature",
        "top-p",
        "max-tokens",
        "presence-penalty",
        "frequency-penalty",
        "stop",
        "seed",
        "reasoning",
        "tier",
    ],
)
def test_option_is_unset_by_its_flag(name: str) -> None:
    assert parse_cell(f"--{name} unset").given.options.unset == (name.replace("-", "_"),)
    assert parse_cell(f"-O {name.replace('-', '_')}=unset").given.options.unset == (name.replace("-", "_"),)


def test_quotes_are_those_of_a_shell() -> None:
    assert parse_cell("""-s "It's ; fine" -c 'my chat'""").given.system == "It's ; fine"


def test_semicolon_at_the_end_is_dropped() -> None:
    assert parse_cell("-t 0.5;").given.options.temperature == 0.5


@pytest.mark.parametrize(
    ("line", "match"),
    [
        ("--temprature 1", "'--temprature'.*'--temperature'"),
        ("-s 'open", "quote is not closed"),
        ("-t hot", "invalid number value: 'hot'"),
        ("-t -0.5", "temperature must be between 0 and 2"),
        ("-t nan", "temperature"),
        ("-t", "expected one argument"),
        ("hello", "'hello'.*below"),
        ("(", "is not a flag"),
        ("{f()} $c.k", "is not a flag"),
        ("-o 3x", "variable"),
        ("--raw --strict", "exclude"),
        ("--temp 1", "Unknown flag"),
        ("--reasoning hihg", "'hihg' .*'high'"),
        ("--tier cheap", "invalid choice: 'cheap'"),
        ("-O top_k", "NAME=VALUE.*'top_k'"),
        ("-O a.b=1", "single|inside another"),
        ("-O a=1 -O a=2", "-O a is given twice"),
        ("-O temperature=3", "temperature must be between 0 and 2"),
        ("-t 0 -O temperature=1", "temperature is given twice"),
        ("-O model=x", "'model' cannot be set"),
        ('-O x={"a":1}', "x is not JSON.*single quotes"),
        ("--max-tokens many", "invalid int value: 'many'"),
    ],
)
def test_wrong_line_is_one_clear_error(line: str, match: str) -> None:
    with pytest.raises(BadInputError, match=match) as caught:
        parse_cell(line)
    assert "\n" not in str(caught.value)


def test_help_wins_over_everything_else_on_the_line() -> None:
    assert parse_cell("--help --nonsense").is_help


def test_command_keeps_what_follows_it_raw() -> None:
    assert parse_command('ask  What\'s "this"? {x} ') == ("ask", 'What\'s "this"? {x}')


def test_unknown_command_names_the_nearest() -> None:
    with pytest.raises(ArgumentError, match=r"'modles'.*Did you mean: %aichat models$"):
        parse_command("modles")


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("what is it?", "Did you mean: %aichat ask what is it?"),
        ("what's it", "lists them. Did you mean: %aichat ask what's it"),
        ("Why", "Did you mean: %aichat ask Why"),
        ("modls openai", "Did you mean: %aichat ask modls openai, or: %aichat models openai"),
        ("-m openai/x why", "ask in a cell: %%aichat -m ..."),
    ],
)
def test_words_that_are_no_command_are_met_with_how_to_ask(line: str, meant: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        parse_command(line)
    assert meant in str(caught.value)
    assert " chats" not in str(caught.value)


def test_command_with_a_question_mark_asks_for_its_help() -> None:
    assert parse_command("use?") == ("help", "use")
    assert parse_command("use ??")[0] == "use"


@pytest.mark.parametrize(
    ("line", "wrong", "meant"),
    [
        ("-temperature 0.7", "-temperature", "--temperature"),
        ("-temperature=0.7", "-temperature", "--temperature"),
        ("-model openai/x", "-model", "--model"),
        ("-m x -max-tokens 5", "-max-tokens", "--max-tokens"),
        ("-max_tokens 5", "-max_tokens", "--max-tokens"),
        ("-new", "-new", "--new"),
        ("-temprature 0.7", "-temprature", "--temperature"),
        ("-temp 0.7", "-temp", "--temperature"),
        ("-sys x", "-sys", "--system"),
        ("-modle x", "-modle", "--model"),
        ("--max_tokens 5", "--max_tokens", "--max-tokens"),
        ("\N{EN DASH}temperature 0.7", "\N{EN DASH}temperature", "--temperature"),
        ("\N{EM DASH}new", "\N{EM DASH}new", "--new"),
        ("temperature=0.7", "temperature=0.7", "--temperature"),
    ],
)
def test_flag_with_other_dashes_names_the_right_one(line: str, wrong: str, meant: str) -> None:
    with pytest.raises(ArgumentError, match=rf"'{wrong}'.* Did you mean '{meant}'\?"):
        parse_cell(line)


def test_short_flag_takes_its_value_at_once() -> None:
    got = parse_cell("-mopenai/x -t0.5 -oresult --system='-model is what I write about' --stop \N{EM DASH}")
    assert (got.given.model, got.given.options.temperature, got.output) == ("openai/x", 0.5, "result")
    assert got.given.options.stop == ("\N{EM DASH}",)


def test_prompt_on_the_line_of_a_cell_is_met_with_how_to_ask() -> None:
    with pytest.raises(ArgumentError, match=r"'what' .*goes below the line.*%aichat ask TEXT"):
        parse_cell("what is it?")


def test_command_with_too_many_words_shows_how_to_write_it() -> None:
    with pytest.raises(ArgumentError, match=r"%aichat use MODEL"):
        words_of("use", "a b", least=1, most=1)


@given(st.text(max_size=60))
def test_any_line_parses_or_is_refused_as_bad_input(line: str) -> None:
    with contextlib.suppress(BadInputError):
        parse_cell(line)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("openai/m", ("openai/m", "")),
        ("'my model' --base-url http://gpu/v1", ("my model", "http://gpu/v1")),
        ("--base-url=http://gpu/v1?a=b m;", ("m", "http://gpu/v1?a=b")),
    ],
)
def test_use_takes_a_model_and_an_address(line: str, found: tuple[str, str]) -> None:
    assert parse_use(line) == found


@pytest.mark.parametrize(
    ("line", "match"),
    [("", "Write it as"), ("a b", "Write it as"), ("m --base-ulr x", "--base-url"), ("--base-url", "expected one")],
)
def test_use_that_cannot_be_understood_is_told(line: str, match: str) -> None:
    with pytest.raises(ArgumentError, match=match):
        parse_use(line)
