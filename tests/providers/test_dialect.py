import json

import pytest

from aichat_magic.providers.dialect import encode_json, token_count


@pytest.mark.parametrize(
    ("value", "count"),
    [
        (0, 0),
        (7, 7),
        (-1, None),
        (True, None),
        (1.0, None),
        ("7", None),
        (None, None),
        (2**63 - 1, 2**63 - 1),
        (2**63, None),
    ],
)
def test_token_count_is_a_whole_number_or_unknown(value: object, count: int | None) -> None:
    result = token_count(value)
    assert result == count
    assert type(result) is type(count)


def test_json_is_compact_and_keeps_characters() -> None:
    assert encode_json({"a": ["ä", 1]}) == '{"a":["ä",1]}'.encode()


def test_character_that_utf8_cannot_encode_is_replaced() -> None:
    assert json.loads(encode_json({"a": "x\ud800y"})) == {"a": "x?y"}
