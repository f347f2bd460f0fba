"""Which images and data of earlier turns go along, and the lines that say so. Rows 98 and 99."""

from pathlib import Path

import pytest

from aichat_magic.chat.chat import Chat
from aichat_magic.chat.conversation import Conversation, Turn
from aichat_magic.core.messages import Image, Reply
from aichat_magic.core.options import CallOptions
from aichat_magic.core.settings import Settings
from aichat_magic.magic.context.earlier_turns import has_lost_data, image_lines, left_out_line
from aichat_magic.magic.context.include import included, names_included

PICTURE = Image("image/png", b"1")


def turn(prompt: str = "q", *, images: int = 0, model: str = "openai/m") -> Turn:
    return Turn(prompt, Reply(text="a", model=model), images=(PICTURE,) * images)


def talk(*turns: Turn, **settings: int) -> Conversation:
    return Conversation(chat=Chat(settings=lambda: Settings(**settings)), turns=turns)  # type: ignore[arg-type]  # keywords of tests


def asked(conversation: Conversation, model: str = "openai/m") -> tuple[list[int], str]:
    """The images of each message, and the lines."""
    settings = conversation._sender().settings
    call, history = conversation.call("next", CallOptions(model=model, is_dry=True))
    lines = image_lines(conversation, history, call, settings)
    return [len(message.images) for message in history.messages if message.role == "user"], "\n".join(lines)


@pytest.mark.parametrize(
    ("turns", "limit", "images", "words"),
    [
        ((0,), 1, [0, 0], ""),
        ((1,), 1, [1, 0], "sent again: 1 image of earlier turns"),
        ((2, 0), 1, [0, 0, 0], "not sent again: 2 images of earlier turns (max_history_images is 1)"),
        ((1, 2), 1, [0, 2, 0], "sent again: 2 images of earlier turns · not sent again: 1 image of earlier turns"),
        ((1, 0, 2), 3, [1, 0, 2, 0], "sent again: 3 images of earlier turns"),
        ((1,), 0, [0, 0], "not sent again: 1 image of earlier turns (max_history_images is 0)"),
    ],
)
def test_images_of_so_many_turns_go_along(turns: tuple[int, ...], limit: int, images: list[int], words: str) -> None:
    sent, line = asked(talk(*(turn(images=count) for count in turns), max_history_images=limit))
    assert sent == images
    assert line.startswith(words)
    assert bool(words) == bool(line)
    assert ("include it in this cell" in line) == ("not sent" in words)


def test_model_gets_images_once_it_has_answered_some() -> None:
    sent, line = asked(talk(turn(images=1)), "openai/other")
    assert (sent, "(openai/other has not been shown any)" in line) == ([0, 0], True)
    seen = talk(turn(images=1, model="openai/other"), turn(images=1))
    assert asked(seen, "openai/other")[0] == [0, 1, 0]


def test_provider_without_images_is_named() -> None:
    assert "(echo takes none)" in asked(talk(turn(images=1, model="echo/echo")), "echo/echo")[1]


@pytest.mark.parametrize("mark", ["[image: fig]", "[image: png, 1,234 bytes]"])
def test_images_that_a_restart_has_lost_are_told(mark: str) -> None:
    assert "before the kernel was restarted" in asked(talk(turn(f"See {mark}")))[1]
    assert asked(talk(turn(f"See {mark}"), turn()))[1] == ""
    assert asked(talk(turn("See [image: of a cat, big]")))[1] == ""


# --- turns that do not fit


def with_data(tmp_path: Path, *names: str, words: int = 3_000) -> Turn:
    for name in names:
        (tmp_path / name).write_text("word ### trap (file)\n```\n" * (words // 8))
    data = included(["rows"], {"rows": [1]}, attached=[str(tmp_path / name) for name in names])
    return turn(data.before("What is in it?\n\n### other (file)\n```\n```"))


def line_of(conversation: Conversation, model: str = "echo/echo") -> str:
    settings = conversation._sender().settings
    call, history = conversation.call("next", CallOptions(model=model, is_dry=True))
    assert history.left_out
    size = conversation._sender().contexts.size(call)
    return left_out_line(conversation, history, call, settings, context_tokens=size)


def test_names_of_what_was_included_are_read_back(tmp_path: Path) -> None:
    assert names_included(with_data(tmp_path, "a (1).txt", "b.md").prompt) == ("rows", "a (1).txt", "b.md")
    assert names_included("### a (file)\n```\n```") == ()


def test_data_that_no_longer_fits_is_named_with_what_to_do(tmp_path: Path) -> None:
    conversation = talk(with_data(tmp_path, "a.txt"), turn(), max_history_tokens=1_000)
    line = line_of(conversation)
    assert line.startswith(
        "The oldest turn of 'main' no longer fits and is not sent, nor is what it included: rows, a.txt."
    )
    limit = int(line.partition("max_history_tokens ")[2].partition(";")[0])
    assert conversation.history("next", budget_tokens=limit).left_out == 0
    assert conversation.history("next", budget_tokens=limit - 1_000).left_out == 1


def test_data_counts_however_long_ago_it_was(tmp_path: Path) -> None:
    conversation = talk(
        with_data(tmp_path, "a.txt"), *(turn("word " * 200) for _ in range(9)), max_history_tokens=1_000
    )
    line = line_of(conversation)
    assert "oldest turns of 'main' no longer fit and are not sent, nor is what they included: rows, a.txt." in line
    _, history = conversation.call("next", CallOptions(model="echo/echo"))
    assert has_lost_data(conversation, history)
    plain = talk(*(turn("word " * 200) for _ in range(9)), max_history_tokens=1_000)
    assert not has_lost_data(plain, plain.call("next", CallOptions(model="echo/echo"))[1])


def test_limit_is_not_offered_where_the_model_reads_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    conversation = talk(with_data(tmp_path, "a.txt"), max_history_tokens=1_000)
    call, _ = conversation.call("next", CallOptions(model="echo/echo"))
    monkeypatch.setattr(type(call.provider), "context_tokens", lambda self, model: 2_048)
    assert "max_history_tokens" not in line_of(conversation)
    assert "include them in this cell again" in line_of(conversation)
    plain = talk(turn("word " * 20_000), max_history_tokens=1_000)
    assert line_of(plain).endswith("echo/echo reads no more. To start over: --new")


def test_many_turns_are_not_counted_by_each_cell() -> None:
    line = line_of(talk(*(turn("word " * 20) for _ in range(500)), max_history_tokens=1_000))
    assert "oldest turns of 'main'" in line
    assert "To send more: %aichat set max_history_tokens" in line
