"""Embeddings on the wire: bodies, responses, what servers refuse, and who has none."""

import base64
import json
import struct
from typing import Any

import numpy as np
import pytest
from servers import Answer, ChatServer, Received, embeddings, payload, status, vector_of

import aichat_magic
from aichat_magic.core.embeddings import EmbeddingRequest
from aichat_magic.core.errors import AichatError, BadInputError, BadRequestError, MalformedReplyError
from aichat_magic.core.secrets import Secret
from aichat_magic.core.settings import Settings
from aichat_magic.core.sync import run_sync as run
from aichat_magic.http.client import HttpClient
from aichat_magic.providers.embeddings import bounds_of
from aichat_magic.providers.registry import Registry

TEXTS = ("a", "b")


def embed(server: ChatServer, *, registry: Registry | None = None, times: int = 1, **request: Any) -> Any:
    async def ask() -> Any:
        settings = Settings(environ={"OPENAI_API_KEY": "secret-key"})
        source = registry or Registry(HttpClient())
        provider = source.resolve("openai/m", settings, base_url=server.url).provider
        for _ in range(times):
            found = await provider.embed(EmbeddingRequest(**{"model": "m", "texts": TEXTS, **request}))
        return found

    return run(ask())


def test_request_asks_for_base64_and_carries_the_vendors_options_last() -> None:
    with ChatServer(lambda received, attempt: embeddings(received)) as server:
        found = embed(server, dimensions=3, extra='{"input_type": "query", "user": "u"}')
        (received,) = server.requests
        assert received.path == "/v1/embeddings"
        assert received.json == {
            "model": "m", "input": ["a", "b"], "encoding_format": "base64", "dimensions": 3,
            "input_type": "query", "user": "u",
        }  # fmt: skip
    assert found.vectors.tolist() == [vector_of("a", 3), vector_of("b", 3)]
    assert (found.usage.input_tokens, found.usage.output_tokens, found.model_version) == (2, 0, "m")


def test_numbers_are_read_where_base64_was_asked_for() -> None:
    with ChatServer(lambda received, attempt: embeddings(received, encoding="float")) as server:
        found = embed(server)
    assert found.vectors.tolist() == [vector_of("a"), vector_of("b")]
    assert found.vectors.dtype == np.float32


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "Unsupported parameter: 'encoding_format'", "param": "encoding_format"}},
        {
            "detail": [
                {"loc": ["body", "encoding_format"], "msg": "Extra inputs are not permitted", "type": "extra_forbidden"}
            ]
        },
        {"error": {"message": "base64 is not supported"}},
    ],
)
def test_refusal_of_base64_is_learned(body: Any) -> None:
    def answer(received: Received, attempt: int) -> Answer:
        return status(422, body=body) if "encoding_format" in received.json else embeddings(received)

    with ChatServer(answer) as server:
        found = embed(server, times=2)
        assert ["encoding_format" in sent for sent in server.bodies] == [True, False, False]
    assert found.vectors.tolist() == [vector_of("a"), vector_of("b")]


def test_other_refusals_are_the_users() -> None:
    with ChatServer(lambda received, attempt: status(400, body={"error": {"message": "no such model"}})) as server:
        with pytest.raises(BadRequestError, match="no such model"):
            embed(server)
        assert len(server.requests) == 1


def test_order_of_the_answer_is_that_of_its_numbers() -> None:
    def answer(received: Received, attempt: int) -> Answer:
        return payload({"data": [{"index": 1, "embedding": [2]}, {"index": 0, "embedding": [1]}]})

    with ChatServer(answer) as server:
        assert embed(server).vectors.tolist() == [[1.0], [2.0]]


@pytest.mark.parametrize("numbers", [[0, 0], [None, None], [5, 6], [True, False]])
def test_numbers_that_cannot_be_are_not_followed(numbers: list[Any]) -> None:
    data = [{"index": number, "embedding": [value]} for number, value in zip(numbers, (1, 2), strict=True)]
    with ChatServer(lambda received, attempt: payload({"data": data})) as server:
        assert embed(server).vectors.tolist() == [[1.0], [2.0]]


INFINITE = base64.b64encode(struct.pack("<2f", 1.0, float("inf"))).decode()


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"data": None},
        {"data": []},
        {"data": [{"embedding": [1]}]},
        {"data": [{"embedding": [1]}] * 3},
        {"data": [[1], [2]]},
        {"data": [{"embedding": [1]}, {"embedding": [1, 2]}]},
        {"data": [{"embedding": []}, {"embedding": []}]},
        {"data": [{"embedding": None}, {"embedding": [1]}]},
        {"data": [{"embedding": {"a": 1}}, {"embedding": [1]}]},
        {"data": [{"embedding": ["x"]}, {"embedding": [1]}]},
        {"data": [{"embedding": [[1]]}, {"embedding": [[1]]}]},
        {"data": [{"embedding": "!!"}, {"embedding": "!!"}]},
        {"data": [{"embedding": "AAA="}, {"embedding": "AAA="}]},
        {"data": [{"embedding": INFINITE}, {"embedding": INFINITE}]},
        {"data": [{"embedding": [1e60]}, {"embedding": [1]}]},
        [],
    ],
)
@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
def test_answer_that_is_none_is_said_to_be_none(content: Any) -> None:
    with ChatServer(lambda received, attempt: payload(content)) as server:
        with pytest.raises(MalformedReplyError, match="cannot be read"):
            embed(server)


def test_error_inside_an_answer_is_that_error() -> None:
    with ChatServer(lambda received, attempt: payload({"error": {"message": "out of memory"}})) as server:
        with pytest.raises(AichatError, match="out of memory"):
            embed(server)


def test_long_answer_as_numbers_is_not_too_long() -> None:
    """Where a server ignores base64, many long vectors take more bytes than any reply does."""
    data = [{"embedding": [1.0]}] * 300
    content = json.dumps({"data": data}).encode() + b" " * 17_000_000
    with ChatServer(lambda received, attempt: payload(content)) as server:
        assert embed(server, texts=("a",) * 300).vectors.shape == (300, 1)


@pytest.mark.parametrize(
    "model", ["anthropic/claude-x", "groq/x", "deepseek/x", "echo/echo", "aichat/x", "local/smollm2"]
)
def test_provider_without_embeddings_is_refused_before_a_key_is_asked_for(
    model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ANTHROPIC_API_KEY", "GROQ_API_KEY", "DEEPSEEK_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(BadInputError, match=r"makes no embeddings: nothing was sent.*openai/text-embedding-3-small"):
        aichat_magic.embed("a", model=model)


def test_server_of_ones_own_under_the_name_of_one_without_embeddings_is_asked() -> None:
    with ChatServer(lambda received, attempt: embeddings(received)) as server:
        found = aichat_magic.embed("a", model="groq/x", base_url=server.url, progress=False)
    assert found.tolist() == vector_of("a")


def test_bounds_are_those_of_the_server() -> None:
    assert (bounds_of("openai", is_at_home=True).texts, bounds_of("openai", is_at_home=True).tokens) == (2048, 300_000)
    assert bounds_of("openai", is_at_home=False).texts < 2048
    assert bounds_of("gemini", is_at_home=True).texts == 100
    assert bounds_of("mistral", is_at_home=True).tokens == 16_384
    registry, settings = Registry(HttpClient()), Settings(environ={"OPENAI_API_KEY": "k"})
    provider = registry.resolve("openai/m", settings).provider
    assert provider.embedding_bounds("m") == bounds_of("openai", is_at_home=True)
    other = registry.resolve("openai/m", settings, base_url="https://example.com/v1", proxy=Secret("")).provider
    assert other.embedding_bounds("m") == bounds_of("openai", is_at_home=False)
