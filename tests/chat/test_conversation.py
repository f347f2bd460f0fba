import pytest

from aichat_magic.chat.chat import Chat
from aichat_magic.chat.conversation import Conversation, history_budget
from aichat_magic.core.errors import BadInputError, UnknownNameError
from aichat_magic.core.messages import Message, Reply
from aichat_magic.core.options import CallOptions, Options
from aichat_magic.core.settings import Settings


def talk(turns: int = 0, **keywords: object) -> Conversation:
    conversation = Conversation(model="echo/echo", chat=Chat(settings=Settings), **keywords)  # type: ignore[arg-type]  # keywords of tests
    for number in range(turns):
        conversation.keep(f"question {number}", Reply(text=f"answer {number}"))
    return conversation


def test_history_is_system_turns_and_prompt_in_order() -> None:
    history = talk(1, system="Be brief.").history("next", budget_tokens=1000)
    assert history.messages == (
        Message("system", "Be brief."),
        Message("user", "question 0"),
        Message("assistant", "answer 0"),
        Message("user", "next"),
    )


def test_oldest_turns_are_left_out_first_and_the_system_message_stays() -> None:
    history = talk(10, system="Be brief.").history("next", budget_tokens=50)
    assert history.left_out == 8
    assert [message.content for message in history.messages] == [
        "Be brief.", "question 8", "answer 8", "question 9", "answer 9", "next",
    ]  # fmt: skip


def test_prompt_is_sent_even_when_it_alone_passes_the_budget() -> None:
    assert talk(2).history("long " * 100, budget_tokens=1).messages == (Message("user", "long " * 100),)


@pytest.mark.parametrize("reason", ["interrupted", "truncated"])
def test_turn_that_is_not_whole_never_enters(reason: str) -> None:
    conversation = talk()
    conversation.keep("q", Reply(text="half", finish_reason=reason))  # type: ignore[arg-type]  # one of the reasons
    assert conversation.turns == ()


def test_ask_keeps_the_turn_and_sends_it_with_the_next() -> None:
    conversation = talk()
    assert conversation.ask("one").text == "one"
    reply = conversation.ask("two")
    assert [message.content for message in reply.messages] == ["one", "one", "two"]
    assert len(conversation) == 2


def test_stream_keeps_the_turn_once_it_is_whole() -> None:
    conversation = talk()
    pieces = conversation.stream("one two three")
    next(pieces)
    assert len(conversation) == 0
    assert "".join(pieces).endswith("three")
    assert conversation.turns[0].reply.text == "one two three"


def test_stream_left_early_keeps_nothing() -> None:
    conversation = talk()
    pieces = conversation.stream("one two three")
    next(pieces)
    pieces.close()  # type: ignore[attr-defined]  # a generator behind the iterator
    assert len(conversation) == 0


def test_failed_ask_keeps_nothing() -> None:
    conversation = talk(1)
    with pytest.raises(UnknownNameError):
        conversation.ask("x", model="nobody/x")
    assert len(conversation) == 1


def test_undo_takes_the_last_turns() -> None:
    conversation = talk(3)
    assert conversation.undo(2) == 2
    assert [turn.prompt for turn in conversation.turns] == ["question 0"]
    assert conversation.undo(5) == 1
    with pytest.raises(BadInputError, match="from 1"):
        conversation.undo(0)


def test_fork_shares_the_past_and_nothing_after_it() -> None:
    conversation = talk(1)
    twin = conversation.fork("twin")
    twin.ask("more")
    assert (len(conversation), len(twin)) == (1, 2)


def test_reset_keeps_the_system_message() -> None:
    conversation = talk(2, system="Be brief.")
    conversation.reset()
    assert (len(conversation), conversation.system) == (0, "Be brief.")


def test_budget_is_the_smaller_of_user_and_model(monkeypatch: pytest.MonkeyPatch) -> None:
    chat = Chat(settings=Settings)
    call = chat.call((Message("user", "x"),), CallOptions(model="echo/echo"))
    assert history_budget(call, Settings(max_history_tokens=100), None) == 100
    monkeypatch.setattr(type(call.provider), "context_tokens", lambda self, model: 2048)
    assert history_budget(call, Settings(max_history_tokens=10_000), 2048) == 2048 - 512
    call = chat.call((Message("user", "x"),), CallOptions(model="echo/echo", options=Options(max_tokens=1500)))
    assert history_budget(call, Settings(max_history_tokens=10_000), 2048) == 1024
