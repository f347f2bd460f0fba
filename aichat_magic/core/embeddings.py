"""Embeddings as values: the request for the vectors of many texts, and the vectors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .rate_limits import RateLimits
from .usage import Usage

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingRequest:
    """One request for the vectors of texts.

    Attributes:
        model: Name of the model as its provider knows it, without the provider.
        texts: The texts, at least one; none is blank.
        dimensions: Length of each vector; None: the model's own.
        extra: A vendor's own options: a JSON object as text, merged into the request's body last.
        timeout_s: Longest time of one attempt, in seconds, > 0.
    """

    model: str
    texts: tuple[str, ...]
    dimensions: int | None = None
    extra: str | None = None
    timeout_s: float = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Embeddings:
    """The vectors of the texts of one request.

    Attributes:
        vectors: One row of float32 for each text, in order.
        usage: Tokens of the request; `output_tokens` is 0.
        rate_limits: The rate limits that the server sent with them.
        model_version: The model's name as the server resolved it; empty if unknown.
        remarks: What was sent otherwise than asked, one line each.
    """

    vectors: npt.NDArray[np.float32] = field(repr=False)
    usage: Usage = field(default_factory=Usage)
    rate_limits: RateLimits | None = None
    model_version: str = ""
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingBounds:
    """The size of one request that a server takes.

    Attributes:
        texts: Most texts in one request, >= 1.
        tokens: Most tokens in one request, all texts together.
        text_tokens: Most tokens of one text, where that is known.
    """

    texts: int
    tokens: int
    text_tokens: int | None = None
