"""What the requests of a run have come to, in columns: objects would take three times the memory."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Iterator
from typing import Final

from ..core.errors import AichatError
from ..core.messages import FinishReason, Reply
from ..core.usage import Usage
from ..text.characters import fit

_UNKNOWN: Final = -1
_MOST: Final = 2**63 - 1


class BatchResults:
    """Replies and errors by number, from 0. A reply is made anew each time it is asked for.

    Attributes:
        replaced: Replies of which characters were replaced that no text may hold.
    """

    def __init__(self) -> None:
        """Begin empty."""
        self._texts: list[str | None] = []
        # Model and finish_reason: a run has few pairs of them.
        self._kinds: dict[tuple[str, FinishReason], int] = {}
        self._names: list[tuple[str, FinishReason]] = []
        self._kind_of = array("L")
        self._input, self._output, self._cached = array("q"), array("q"), array("q")
        self._cost_usd, self._elapsed_s = array("d"), array("d")
        self._errors: dict[int, AichatError] = {}
        self.replaced = 0

    def __len__(self) -> int:
        """How many numbers were given out."""
        return len(self._texts)

    def add(self) -> int:
        """A new number; nothing has come of it yet."""
        self._texts.append(None)
        self._kind_of.append(0)
        self._input.append(_UNKNOWN)
        self._output.append(_UNKNOWN)
        self._cached.append(_UNKNOWN)
        self._cost_usd.append(math.nan)
        self._elapsed_s.append(0.0)
        return len(self._texts) - 1

    def fail(self, number: int, error: AichatError) -> None:
        """Keep the error of a request."""
        self._errors[number] = error

    def answer(self, number: int, reply: Reply) -> None:
        """Keep a reply, without its messages and what the server said of its limits.

        Characters that no text may hold are replaced, wherever the reply comes from: one would spoil the whole column.
        """
        usage = reply.usage
        self._texts[number] = text = fit(reply.text)
        self.replaced += text is not reply.text
        self._kind_of[number] = self._kind(reply.model, reply.finish_reason)
        self._input[number] = _kept(usage.input_tokens)
        self._output[number] = _kept(usage.output_tokens)
        self._cached[number] = _kept(usage.cached_tokens)
        if usage.cost_usd is not None:
            self._cost_usd[number] = usage.cost_usd
        self._elapsed_s[number] = reply.elapsed_s

    def __getitem__(self, number: int) -> Reply | AichatError | None:
        """The reply or the error; None where nothing has come yet."""
        text = self._texts[number]
        if text is None:
            return self._errors.get(number)
        model, finish_reason = self._names[self._kind_of[number]]
        cost_usd = self._cost_usd[number]
        return Reply(
            text=text,
            model=model,
            usage=Usage(
                input_tokens=_known(self._input[number]),
                output_tokens=_known(self._output[number]),
                cached_tokens=_known(self._cached[number]),
                cost_usd=None if math.isnan(cost_usd) else cost_usd,
            ),
            finish_reason=finish_reason,
            elapsed_s=self._elapsed_s[number],
        )

    def text(self, number: int) -> str | None:
        """The text of a reply; None where there is none."""
        return self._texts[number]

    def error(self, number: int) -> AichatError | None:
        """The error; None where there is none."""
        return self._errors.get(number)

    def is_open(self, number: int) -> bool:
        """Whether nothing has come yet."""
        return self._texts[number] is None and number not in self._errors

    def each(self, numbers: Iterable[int]) -> Iterator[Reply | AichatError | None]:
        """The outcomes of many numbers; a reply that is asked for again is the same one. Below 0: None."""
        made: dict[int, Reply | AichatError | None] = {}
        for number in numbers:
            if number < 0:
                yield None
            elif (found := made.get(number)) is not None:
                yield found
            else:
                made[number] = found = self[number]
                yield found

    def _kind(self, model: str, finish_reason: FinishReason) -> int:
        """The number of a pair of them."""
        kind = self._kinds.get((model, finish_reason))
        if kind is None:
            kind = self._kinds[model, finish_reason] = len(self._names)
            self._names.append((model, finish_reason))
        return kind


def _kept(count: int | None) -> int:
    """A count of tokens as a column takes it; one that no reply can have is none."""
    return count if count is not None and 0 <= count <= _MOST else _UNKNOWN


def _known(count: int) -> int | None:
    return None if count == _UNKNOWN else count
