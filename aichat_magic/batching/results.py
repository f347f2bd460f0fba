"""Columnar results of a run: arrays of numbers take a third of the memory of `Reply` objects."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Iterator
from typing import Any, Final

from ..core.errors import AichatError
from ..core.messages import FinishReason, Reply, new_reply
from ..core.usage import new_usage
from ..text.characters import fit

_UNKNOWN: Final = -1
_MAX_INT64: Final = 2**63 - 1


class BatchResults:
    """The replies and errors of requests, by their number from 0. Each access creates the `Reply` anew.

    Attributes:
        replaced: Number of replies in which invalid characters were replaced.
        cut: Numbers of the requests whose reply was cut by a limit of its tokens.
    """

    def __init__(self) -> None:
        """Create an empty collection."""
        self._texts: list[str | None] = []
        # Model, its version and finish_reason: a run has few combinations of them.
        self._kind_numbers: dict[tuple[str, str, FinishReason], int] = {}
        self._kinds: list[tuple[str, str, FinishReason]] = []
        self._kind_of = array("L")
        self._input, self._output, self._cached = array("q"), array("q"), array("q")
        self._reasoning, self._written = array("q"), array("q")
        # By number, for the requests that have them: in most runs none has.
        self._thinking: dict[int, str] = {}
        self._logprobs: dict[int, Any] = {}
        self._cost_usd, self._elapsed_s = array("d"), array("d")
        self._errors: dict[int, AichatError] = {}
        self.replaced = 0
        self.cut: set[int] = set()

    def __len__(self) -> int:
        """Return how many requests were added."""
        return len(self._texts)

    def add(self) -> int:
        """Add a request without a result, and return its number."""
        self._texts.append(None)
        self._kind_of.append(0)
        self._input.append(_UNKNOWN)
        self._output.append(_UNKNOWN)
        self._cached.append(_UNKNOWN)
        self._reasoning.append(_UNKNOWN)
        self._written.append(_UNKNOWN)
        self._cost_usd.append(math.nan)
        self._elapsed_s.append(0.0)
        return len(self._texts) - 1

    def set_error(self, number: int, error: AichatError) -> None:
        """Store the error of a request."""
        self._errors[number] = error

    def set_reply(self, number: int, reply: Reply) -> None:
        """Store the reply of a request, without its messages and rate limits.

        Invalid characters are replaced, wherever the reply comes from: a single one would spoil the whole column.
        """
        usage = reply.usage
        self._texts[number] = text = fit(reply.text)
        self.replaced += text is not reply.text
        self._kind_of[number] = self._kind_number(reply.model, reply.model_version, reply.finish_reason)
        self._input[number] = _to_column(usage.input_tokens)
        self._output[number] = _to_column(usage.output_tokens)
        self._cached[number] = _to_column(usage.cached_tokens)
        if usage.reasoning_tokens is not None:
            self._reasoning[number] = _to_column(usage.reasoning_tokens)
        if usage.cache_write_tokens is not None:
            self._written[number] = _to_column(usage.cache_write_tokens)
        if usage.cost_usd is not None:
            self._cost_usd[number] = usage.cost_usd
        self._elapsed_s[number] = reply.elapsed_s
        if reply.finish_reason == "length":
            self.cut.add(number)
        if reply.thinking:
            self._thinking[number] = reply.thinking
        if reply.logprobs is not None:
            self._logprobs[number] = reply.logprobs

    def __getitem__(self, number: int) -> Reply | AichatError | None:
        """Return the reply or the error of a request; None while there is none."""
        text = self._texts[number]
        if text is None:
            return self._errors.get(number)
        model, model_version, finish_reason = self._kinds[self._kind_of[number]]
        cost_usd = self._cost_usd[number]
        return new_reply(
            text=text,
            model=model,
            usage=new_usage(
                input_tokens=None if (count := self._input[number]) == _UNKNOWN else count,
                output_tokens=None if (count := self._output[number]) == _UNKNOWN else count,
                cached_tokens=None if (count := self._cached[number]) == _UNKNOWN else count,
                cache_write_tokens=None if (count := self._written[number]) == _UNKNOWN else count,
                reasoning_tokens=None if (count := self._reasoning[number]) == _UNKNOWN else count,
                cost_usd=None if math.isnan(cost_usd) else cost_usd,
            ),
            finish_reason=finish_reason,
            elapsed_s=self._elapsed_s[number],
            thinking=self._thinking.get(number, ""),
            model_version=model_version,
            logprobs=self._logprobs.get(number),
        )

    def text(self, number: int) -> str | None:
        """Return the text of a reply; None if there is none."""
        return self._texts[number]

    def error(self, number: int) -> AichatError | None:
        """Return the error; None if there is none."""
        return self._errors.get(number)

    def is_open(self, number: int) -> bool:
        """Tell whether a request has no result yet."""
        return self._texts[number] is None and number not in self._errors

    def each(self, numbers: Iterable[int]) -> Iterator[Reply | AichatError | None]:
        """Yield the results of many requests, the same object for equal numbers; None for numbers below 0."""
        created: dict[int, Reply | AichatError | None] = {}
        for number in numbers:
            if number < 0:
                yield None
            elif (found := created.get(number)) is not None:
                yield found
            else:
                created[number] = found = self[number]
                yield found

    def _kind_number(self, model: str, version: str, finish_reason: FinishReason) -> int:
        """Return the number of a combination of model, version and finish reason."""
        kind = self._kind_numbers.get((model, version, finish_reason))
        if kind is None:
            kind = self._kind_numbers[model, version, finish_reason] = len(self._kinds)
            self._kinds.append((model, version, finish_reason))
        return kind


def _to_column(count: int | None) -> int:
    """Convert a count of tokens to a value of the array; an impossible one counts as unknown."""
    return count if count is not None and 0 <= count <= _MAX_INT64 else _UNKNOWN
