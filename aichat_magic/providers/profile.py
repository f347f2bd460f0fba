"""Profile of a model: the options and modes it takes, from the preset and then from the server's own refusals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SchemaMode = Literal["json_schema", "json_object", "words"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelProfile:
    """The options and modes that a model takes.

    Attributes:
        token_limit_name: Field of the body that limits the reply's tokens.
        refused: Options, by their names in the body, that the server has refused and that are not sent.
        schema_mode: Best way to ask for a schema that the server takes.
        streams: Whether the server streams.
        has_stream_usage: Whether the usage of a stream may be asked for.
    """

    token_limit_name: str = "max_tokens"
    refused: frozenset[str] = frozenset()
    schema_mode: SchemaMode = "json_schema"
    streams: bool = True
    has_stream_usage: bool = True
