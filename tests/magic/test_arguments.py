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
    with pytest.raises(ArgumentError, match=r"'modles'.*'models'"):
        parse_command("modles")


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
