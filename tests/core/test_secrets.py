import copy
import json
import pickle

import pytest

from aichat_magic.core.errors import ConfigError
from aichat_magic.core.secrets import Secret, key_from

CANARY = "sk-canary-123"


def test_secret_never_prints() -> None:
    secret = Secret(CANARY)
    shown = [repr(secret), str(secret), f"{secret}", f"{secret!r:>40}", "%s" % secret, repr([secret]), str(dir(secret))]  # noqa: UP031  # an old way to print, too
    assert not any(CANARY in text for text in shown)
    assert secret.reveal() == CANARY


def test_secret_is_not_in_its_attributes() -> None:
    secret = Secret(CANARY)
    assert not hasattr(secret, "__dict__")
    assert CANARY not in repr([getattr(secret, name) for name in Secret.__slots__])


def test_secret_cannot_be_pickled_copied_or_changed() -> None:
    secret = Secret(CANARY)
    for act in (pickle.dumps, copy.deepcopy, json.dumps):
        with pytest.raises(TypeError):
            act(secret)
    with pytest.raises(AttributeError):
        secret._reveal = None


@pytest.mark.parametrize("value", ["a\n", "a b", "a\x00", "schlüssel", "\ta"])
def test_key_no_header_can_carry_is_refused_and_not_shown(value: str) -> None:
    with pytest.raises(ConfigError, match="OPENAI_API_KEY") as caught:
        key_from(Secret(value), "OPENAI_API_KEY")
    assert value not in str(caught.value)
