"""How the public names are used, for the type checker. Nothing here is run."""

from collections.abc import Iterator
from typing import assert_type

from aichat_magic import (
    AichatError,
    BatchRun,
    Conversation,
    Progress,
    Reply,
    Usage,
    ask,
    ask_async,
    batch,
    batch_async,
    batch_iter_async,
    complete,
    estimate,
    run,
    stream,
    stream_async,
)


def one_prompt() -> None:
    reply = ask("Hello", model="echo/echo", temperature=0, max_tokens=5, stop=["\n"])
    assert_type(reply, Reply)
    assert_type(reply.text, str)
    assert_type(reply.usage, Usage)
    assert_type(reply.usage.cost_usd, float | None)
    ask("Hello", temperature="warm")  # type: ignore[arg-type]  # a temperature is a number
    ask("Hello", temprature=0.5)  # type: ignore[call-arg]  # an option that there is not
    assert_type(stream("Hello", timeout=5.0), Iterator[str])


async def awaited() -> None:
    assert_type(await ask_async([{"role": "user", "content": "Hello"}]), Reply)
    async for piece in stream_async("Hello", seed=1):
        assert_type(piece, str)


def tell(progress: Progress) -> None:
    assert_type(progress.done, int)


async def many() -> None:
    rows = batch(
        ["a", None, "b"], concurrency="auto", max_cost_usd=1.0, outage_patience_s=60, limit_patience_s=60, progress=tell
    )
    assert_type(rows, list[Reply | AichatError | None])
    assert_type(await batch_async(["a"], fresh=True), list[Reply | AichatError | None])
    batch(["a"], concurrency="many")  # type: ignore[arg-type]  # a number, or "auto"
    async for row in batch_iter_async(["a"], requests_per_minute=60):
        assert_type(row.row, int)


def conversation() -> None:
    talk = Conversation(system="Be brief.")
    assert_type(talk.ask("Hello"), Reply)


def over_a_table(table: object) -> None:
    assert_type(run(table, "{body}", max_cost_usd=1.0), BatchRun)
    assert_type(estimate(table, "{body}", raw=True).rows, int)
    complete(table, "{body}", concurency=3)  # type: ignore[call-arg]  # an option that there is not
