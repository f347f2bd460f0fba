"""Options as a user writes them: a vendor's own, and `unset`."""

import contextlib
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aichat_magic.core.errors import BadInputError, OptionError
from aichat_magic.core.options import OPTION_NAMES, CallOptions, Options, options_from
from aichat_magic.core.vendor_options import json_options, parse_option, parse_options

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("top_k=40", "top_k", 40),
        ("min_p=0.1", "min_p", 0.1),
        ("min_p=1.0", "min_p", 1),
        ("logprobs=true", "logprobs", True),
        ("logprobs=True", "logprobs", True),
        ("user=None", "user", None),
        ("format=json", "format", "json"),
        ("note=two words", "note", "two words"),
        ('user="123"', "user", "123"),
        ("user=", "user", ""),
        ("query=a=b", "query", "a=b"),
        ('bias={"50256": -100}', "bias", {"50256": -100}),
        ("list=[1, 2.0, null]", "list", [1, 2, None]),
        ("zoo-keeper=x", "zoo-keeper", "x"),
    ],
)
def test_option_is_a_name_and_json_or_words(text: str, name: str, value: Any) -> None:
    found = parse_option(text)
    assert found == (name, value)
    assert type(found[1]) is type(value)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("top_k", "-O takes NAME=VALUE, such as -O top_k=40, not 'top_k'"),
        ("=3", "cannot be the name"),
        ("3x=1", "'3x' cannot be the name"),
        ("a b=1", "cannot be the name"),
        ("bias={a: 1}", r"bias is not JSON: \{a: 1\} Put it in single quotes"),
        ("stops=[END]", "stops is not JSON.*single quotes"),
        ("x=NaN", "x in options must be JSON"),
        ("x=-Infinity", "x in options must be JSON"),
        ("x=1e999", "x in options must be JSON"),
        ('kwargs={"a": [NaN]}', "kwargs in options must be JSON"),
        ("chat_template_kwargs.enable_thinking=false", r"""-O 'chat_template_kwargs=\{"enable_thinking": \.\.\.\}'"""),
    ],
)
def test_option_that_cannot_be_sent_is_a_clear_error(text: str, match: str) -> None:
    with pytest.raises(OptionError, match=match):
        parse_option(text)


@given(st.text())
def test_any_text_is_an_option_or_refused(text: str) -> None:
    for parse in (parse_option, parse_options):
        with contextlib.suppress(BadInputError):
            parse(text)


def test_a_very_long_number_is_text_and_never_a_crash() -> None:
    assert parse_option("x=" + "9" * 5_000) == ("x", "9" * 5_000)
    with pytest.raises(OptionError, match="must be JSON"):
        parse_option("x=" + "9" * 50)


@given(JSON)
def test_json_values_are_kept(value: Any) -> None:
    assert json_options({"x": value}) == {"x": value}


def test_numbers_and_arrays_of_numpy_are_plain_ones() -> None:
    values = {"a": np.int64(3), "b": np.float32(0.5), "c": np.bool_(True), "d": np.array([1.0, 2.5]), "e": (1, "x")}
    found = json_options(values | {"f": np.str_("s")})
    assert found == {"a": 3, "b": 0.5, "c": True, "d": [1, 2.5], "e": [1, "x"], "f": "s"}
    assert type(found["f"]) is str


CIRCLE: list[Any] = []
CIRCLE.append(CIRCLE)


@pytest.mark.parametrize(
    "value",
    [{1, 2}, math.nan, np.float64("nan"), b"x", object(), {1: 2}, 1j, CIRCLE, np.datetime64("2026-01-01"), 2**70],
)
def test_value_that_is_not_json_is_refused_by_its_name(value: Any) -> None:
    with pytest.raises(OptionError, match="top_k in options"):
        options_from({"options": {"top_k": value}})


@pytest.mark.parametrize("value", [3, "top_k=40", ["top_k"], [("top_k", 40)]])
def test_options_that_are_no_dict_are_refused(value: Any) -> None:
    with pytest.raises(OptionError, match="options must be a dict"):
        options_from({"options": value})


@pytest.mark.parametrize("name", ["model", "messages", "stream", "stream_options", "system", "schema", "n"])
def test_field_of_the_request_is_no_option(name: str) -> None:
    with pytest.raises(OptionError, match=f"'{name}' cannot be set with -O or options: "):
        options_from({"options": {name: 1}})


def test_option_of_our_own_is_ours_wherever_it_stands() -> None:
    given = {"temperature": 0.5, "max_completion_tokens": 9, "stop": "END", "reasoning": "low", "tier": "flex"}
    assert options_from({"options": given}) == Options(
        temperature=0.5, max_tokens=9, stop=("END",), reasoning="low", tier="flex"
    )
    with pytest.raises(OptionError, match="temperature must be between 0 and 2"):
        options_from({"options": {"temperature": 3}})
    with pytest.raises(OptionError, match="max_tokens is given twice"):
        options_from({"max_tokens": 5, "options": {"max_completion_tokens": 9}})


def test_equal_options_are_equal_whatever_their_order() -> None:
    one = options_from({"options": {"a": 1, "b": {"x": 1.0, "y": 2}}})
    assert one == options_from({"options": {"b": {"y": 2, "x": 1}, "a": 1.0}})
    assert one.extra == '{"a":1,"b":{"x":1,"y":2}}'


@pytest.mark.parametrize(
    ("name", "value"), [("reasoning", "hihg"), ("tier", "flexx"), ("tier", "auto,flex"), ("reasoning", 3)]
)
def test_unknown_level_or_tier_tells_those_there_are(name: str, value: Any) -> None:
    with pytest.raises(OptionError, match=f"{name} must be one of .*not {value!r}"):
        options_from({name: value})


@pytest.mark.parametrize("name", OPTION_NAMES)
def test_every_option_may_be_unset(name: str) -> None:
    value = {"stop": "x", "reasoning": "low", "tier": "flex"}.get(name, 1)
    settings = options_from({name: value, "options": {"top_k": 1}})
    assert options_from({name: "unset"}).over(settings) == Options(extra='{"top_k":1}', unset=(name,))
    # What is set on the call counts again.
    assert options_from({name: value}).over(options_from({name: "unset"})) == options_from({name: value})


def test_vendors_options_are_merged_by_name_and_may_be_unset() -> None:
    settings = options_from({"options": {"top_k": 40, "min_p": 0.1}})
    assert options_from({"options": {"min_p": 0.2}}).over(settings).extra_options == {"top_k": 40, "min_p": 0.2}
    unset = options_from({"options": {"top_k": "unset"}})
    assert unset.over(settings).extra_options == {"min_p": 0.1}
    again = options_from({"options": {"top_k": 5}}).over(unset)
    assert (again.extra_options, again.unset) == ({"top_k": 5}, ())


OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "temperature": st.sampled_from([0, 0.5, "unset"]),
        "stop": st.sampled_from(["END", ["a", "b"], "unset", ["unset"]]),
        "reasoning": st.sampled_from(["none", "low", "unset"]),
        "tier": st.sampled_from(["flex", "flex,auto", "unset"]),
        "options": st.dictionaries(st.sampled_from(["top_k", "min_p"]), st.sampled_from([1, "x", "unset"]), max_size=2),
    },
)


@given(OPTIONS, st.booleans() | st.none())
def test_keywords_make_the_same_options_again(named: dict[str, Any], strict: bool | None) -> None:
    given = CallOptions.from_keywords({**named, "strict_options": strict, "model": "a/b"})
    assert CallOptions.from_keywords(given.keywords()) == given


@given(OPTIONS, OPTIONS)
def test_options_over_others_are_neither_set_and_unset(one: dict[str, Any], two: dict[str, Any]) -> None:
    over = options_from(one).over(options_from(two))
    assert not {*over.shown()} & {*over.unset}
    assert over.over(over) == over


def test_tier_that_is_billed_is_the_one_that_is_sent() -> None:
    assert Options(tier="flex,auto").billed_tier == "flex"
    assert Options(tier="auto").billed_tier == ""
    assert options_from({"tier": "flex", "options": {"service_tier": "ultrafast"}}).billed_tier == "ultrafast"
    assert options_from({"options": {"service_tier": "default"}}).billed_tier == ""


def test_shown_options_are_those_that_users_know() -> None:
    options = options_from({"tier": "flex", "temperature": 0, "options": {"top_k": 4}})
    assert options.shown() == {"temperature": 0, "tier": "flex", "top_k": 4}


@pytest.mark.parametrize("value", [1, "yes"])
def test_strict_options_is_true_or_false(value: Any) -> None:
    with pytest.raises(OptionError, match="strict_options must be True or False"):
        CallOptions.from_keywords({"strict_options": value})
