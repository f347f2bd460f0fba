"""Embeddings in the OpenAI dialect: which servers have them, how much one request takes, its body and its response.

Sources: OpenAI API reference, "Create embeddings"; the READMEs of llama.cpp's server and Ollama; Mistral's and Gemini's
API references, and the words of their servers for requests that are too large (2026-11).
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ..core.embeddings import EmbeddingBounds, EmbeddingRequest
from ..core.errors import BadInputError, BadRequestError, ContextLengthError, StatusError, UnsupportedOptionError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

EMBEDDINGS_PATH = "embeddings"
# Vectors of 4,096 numbers as text take 90 kB each.
BYTES_PER_VECTOR = 100_000
# Models that have embeddings, for errors.
_EXAMPLES = (
    "local/wordllama (on this machine, without a key), openai/text-embedding-3-small, gemini/gemini-embedding-001, "
    "mistral/mistral-embed, ollama/nomic-embed-text"
)
# Servers with an OpenAI dialect but without embeddings (their API references, 2026-11).
WITHOUT_EMBEDDINGS = frozenset(("groq", "deepseek", "xai", "cerebras", "moonshot"))
# OpenAI: 2,048 texts, 300,000 tokens, and 8,192 tokens a text. Gemini answers "at most 100 requests can be in one
# batch", Mistral "Too many inputs in request" above 512 and "Too many tokens in batch. Max is 16384". A server on this
# machine has no bound, but a run should be seen to move.
_BOUNDS: Mapping[str, EmbeddingBounds] = MappingProxyType(
    {
        "openai": EmbeddingBounds(texts=2048, tokens=300_000, text_tokens=8192),
        "azure": EmbeddingBounds(texts=2048, tokens=300_000, text_tokens=8192),
        "gemini": EmbeddingBounds(texts=100, tokens=20_000, text_tokens=2048),
        "mistral": EmbeddingBounds(texts=512, tokens=16_384, text_tokens=8192),
        "ollama": EmbeddingBounds(texts=128, tokens=64_000),
        "llamacpp": EmbeddingBounds(texts=128, tokens=64_000),
        "lmstudio": EmbeddingBounds(texts=128, tokens=64_000),
    }
)
_OTHER_BOUNDS = EmbeddingBounds(texts=128, tokens=64_000)
# llama.cpp's server answers with status 500 to a text that is longer than its physical batch (its README, 2026-11).
_TOO_LONG = ("too large to process", "input length exceeds", "exceeds the context length")


def bounds_of(provider: str, *, is_at_home: bool) -> EmbeddingBounds:
    """Return the size of one request that a server takes.

    Args:
        provider: Name of the provider.
        is_at_home: Whether the address is the provider's own: ``openai`` is also the name for any other server.
    """
    return _OTHER_BOUNDS if provider == "openai" and not is_at_home else _BOUNDS.get(provider, _OTHER_BOUNDS)


def no_embeddings(model: str) -> BadInputError:
    """Return the error for a model whose provider has no embeddings.

    Args:
        model: ``provider/model``.
    """
    return BadInputError(f"{model} makes no embeddings: nothing was sent. Models that do: {_EXAMPLES}.")


def embedding_body(request: EmbeddingRequest) -> dict[str, Any]:
    """Return the JSON body of a request. Base64 takes a third of the bytes that numbers take as text."""
    body: dict[str, Any] = {"model": request.model, "input": list(request.texts), "encoding_format": "base64"}
    if request.dimensions is not None:
        body["dimensions"] = request.dimensions
    return {**body, **(json.loads(request.extra) if request.extra else {})}


def refuses_encoding(error: BadRequestError) -> bool:
    """Tell whether a server objects to the base64 form of vectors."""
    if isinstance(error, UnsupportedOptionError):
        return error.option == "encoding_format"
    return "encoding_format" in str(error) or "base64" in str(error)


def too_long(error: StatusError) -> ContextLengthError | None:
    """Return the error of a text that is longer than the model takes, where a server reports it as its own failure."""
    if isinstance(error, ContextLengthError) or not any(words in str(error).lower() for words in _TOO_LONG):
        return None
    return ContextLengthError(
        f"{error} A text is longer than the model takes: split it, or start the server with a larger batch.",
        status=error.status,
        provider=error.provider,
        rate_limits=error.rate_limits,
    )


def read_vectors(content: Mapping[str, Any], n_texts: int) -> npt.NDArray[np.float32]:
    """Read the vectors of a response, in the order of the texts.

    Args:
        content: The response.
        n_texts: Number of texts that were sent.

    Raises:
        ValueError: There are not as many vectors as texts, or a vector is none; the message ends a sentence.
    """
    import numpy as np

    items = content.get("data")
    if not isinstance(items, list) or len(items) != n_texts:
        number = len(items) if isinstance(items, list) else "no"
        raise ValueError(f"it has {number} vectors for {n_texts} texts")
    if not all(isinstance(item, Mapping) for item in items):
        raise ValueError("its 'data' are no objects")
    places = [item.get("index", position) for position, item in enumerate(items)]
    if not all(type(place) is int for place in places) or sorted(places) != list(range(n_texts)):
        # Gateways that send a batch on in parts may count each part from 0; the order is that of the texts.
        places = list(range(n_texts))
    rows: list[Any] = [None] * n_texts
    for place, item in zip(places, items, strict=True):
        rows[place] = _vector(item.get("embedding"))
    if len({len(row) for row in rows}) != 1 or not len(rows[0]):
        raise ValueError("its vectors have different lengths, or none")
    vectors = np.stack(rows)
    if not np.isfinite(vectors).all():
        raise ValueError("a vector contains something else than numbers")
    return vectors


def _vector(value: Any) -> npt.NDArray[np.float32]:
    """Read one vector: base64 of float32 in little endian, or a list of numbers, whichever was asked for."""
    import numpy as np

    try:
        if isinstance(value, str):
            return np.frombuffer(base64.b64decode(value, validate=True), "<f4").astype(np.float32)
        vector = np.asarray(value, dtype=np.float32) if isinstance(value, list) else None
    except (binascii.Error, ValueError, TypeError, OverflowError):
        vector = None
    if vector is None or vector.ndim != 1:
        raise ValueError("a vector is neither a list of numbers nor base64")
    return vector
