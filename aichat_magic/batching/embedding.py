"""Embeddings of many texts: a run whose requests carry groups of texts.

Equal texts are one, and those whose vector is in the store are not sent. The others are cut into groups that the server
takes, and each group is one row of a `BatchRunner`, with all that it does about limits, budget, retries and outages. A
group that is refused is cut in halves in a further round, until the refusal is that of a single text.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..chat.chat import Chat
from ..chat.embedding import EmbeddingChat
from ..core.embeddings import EmbeddingBounds
from ..core.errors import (
    AichatError,
    BadRequestError,
    BatchStoppedError,
    ChatInterrupt,
    PromptError,
    ServerError,
    TooLargeError,
    UnsupportedOptionError,
)
from ..core.messages import Message
from ..core.options import CallOptions
from ..core.sync import run_sync
from ..core.usage import Usage
from ..store.vectors import VectorKeys
from ..text.characters import is_blank
from .budget import Budget
from .options import BatchOptions, Row
from .progress import Progress
from .progress_bar import progress_bar
from .runner import BatchRunner

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Vector = npt.NDArray[np.float32]

# A cautious guess: English has four bytes for each token, other languages two to four.
_BYTES_PER_TOKEN = 3
_KEYS_AT_ONCE = 10_000
_MISSING = -1


class EmbeddingRun:
    """A run that makes vectors of texts. It keeps the finished rows, whatever stops it.

    Attributes:
        stopped_by: The error that stopped the run before its last row, or None.
        elapsed_s: Duration of the run, in seconds.
    """

    def __init__(
        self,
        chat: Chat,
        rows: Iterable[Row],
        *,
        given: CallOptions,
        options: BatchOptions,
        dimensions: int | None = None,
    ) -> None:
        """Read the rows; nothing is sent before `run`.

        Args:
            chat: The chat whose connections, settings and store are used.
            rows: The texts in order; None: a missing value, an error: that of its row.
            given: Model, address and so on of each call.
            options: Options of the run.
            dimensions: Length of each vector; None: the model's own.

        Raises:
            BadInputError: An argument cannot be used, or the model makes no embeddings.
            MissingKeyError: The provider needs a key and there is none.
        """
        self._sender = EmbeddingChat(chat, dimensions=dimensions, on_vectors=self._keep)
        self._given, self._options = given, replace(options, store=False, progress=False)
        self._is_fresh = options.fresh
        self._plan = self._options.plan(self._sender, given)
        self._store = chat.store.vectors if options.store else None
        self._texts: list[str] = []
        self._numbers: dict[str, int] = {}
        self._number_of_row = array("q")
        self._row_errors: dict[int, AichatError] = {}
        for position, row in enumerate(rows):
            self._number_of_row.append(self._read(position, row))
        self._n_rows_of = [0] * len(self._texts)
        for number in self._number_of_row:
            if number != _MISSING:
                self._n_rows_of[number] += 1
        self._vectors: list[Vector | None] = [None] * len(self._texts)
        self._errors: dict[int, AichatError] = {}
        self._show = progress_bar(options.progress, len(self))
        n_missing = len(self) - sum(self._n_rows_of) - len(self._row_errors)
        self._progress = Progress(
            rows=len(self), done=n_missing + len(self._row_errors), missing=n_missing, errors=len(self._row_errors)
        )
        self._remarks: dict[str, None] = {}
        self._budget: Budget | None = None
        self.stopped_by: AichatError | None = None

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._number_of_row)

    def __repr__(self) -> str:
        """Return the summary."""
        return f"<EmbeddingRun {self.progress}>"

    # Results ----------------------------------------------------------------------------------------------------------

    @property
    def vectors(self) -> list[Vector | None]:
        """Return a vector for each row, in order, that belongs to the caller; None where there is none."""
        found = (None if number == _MISSING else self._vectors[number] for number in self._number_of_row)
        return [None if vector is None else vector.copy() for vector in found]

    @property
    def errors(self) -> dict[int, AichatError]:
        """Return the error of each failed row, by the row's position."""
        errors = dict(self._row_errors)
        if self._errors:
            numbers = enumerate(self._number_of_row)
            errors |= {row: self._errors[number] for row, number in numbers if number in self._errors}
        return dict(sorted(errors.items()))

    @property
    def usage(self) -> Usage:
        """Return the tokens of this run; vectors from the store cost nothing."""
        return self._progress.usage

    @property
    def cost_usd(self) -> float | None:
        """Return the cost of this run in US dollars; None if the price is unknown."""
        return self.usage.cost_usd if self._progress.calls else 0.0

    @property
    def progress(self) -> Progress:
        """Return the progress: rows, done, hits, errors, calls."""
        return self._progress

    @property
    def elapsed_s(self) -> float:
        """Return the duration of the run, in seconds."""
        return self._progress.elapsed_s

    @property
    def pending(self) -> int:
        """Return the number of rows that are neither embedded nor failed nor missing."""
        return len(self) - self._progress.done

    def remarks(self) -> list[str]:
        """Return remarks on the vectors for the user, one line each."""
        return list(self._remarks)

    def stop_error(self) -> BatchStoppedError | None:
        """Return the error to raise if the run was stopped or no row was embedded; else None."""
        answered = self._progress.done - self._progress.errors - self._progress.missing
        if self.stopped_by is not None:
            reason = self.stopped_by
            head = f"The run stopped after {self._progress.done:,} of {len(self):,} rows"
        elif self._progress.errors and not answered:
            reason, head = next(iter(self.errors.values())), "No row could be embedded"
        else:
            return None
        kept = " The finished rows are kept: run it again to continue." if answered and self._store else ""
        return BatchStoppedError(f"{head}: {reason}{kept}", run=self)

    # The run ----------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Embed the rows, until every row is done or the run is stopped (`stopped_by`)."""
        try:
            await self._look_up()
            await self._send_all()
        finally:
            self._report(is_last=True)

    async def _look_up(self) -> None:
        """Take the vectors that are in the store."""
        if self._store is None or self._is_fresh:
            return
        import numpy as np

        keys = self._keys()
        for start in range(0, len(self._texts), _KEYS_AT_ONCE):
            some = {keys.key(self._texts[n]): n for n in range(start, min(start + _KEYS_AT_ONCE, len(self._texts)))}
            for key, content in (await self._store.get(list(some))).items():
                self._set(some[key], np.frombuffer(content, "<f4").astype(np.float32), is_hit=True)
            self._report()

    async def _send_all(self) -> None:
        """Send the texts in groups; cut refused groups in halves until the refusal is that of a single text."""
        left = [number for number, vector in enumerate(self._vectors) if vector is None]
        bounds = self._plan.call.provider.embedding_bounds(self._plan.call.request.model)
        groups = list(_groups(left, self._texts, bounds))
        is_first = True
        while groups:
            refused = await self._round(groups)
            if is_first and refused and len(refused) == len(groups):
                # Is it the size of the groups, or would any text be refused? The shortest one alone shows it.
                shortest = min((n for group in refused for n in group), key=lambda number: len(self._texts[number]))
                await self._round([[shortest]])
                if self._vectors[shortest] is None:
                    self._fail((number for group in refused for number in group), self._errors.get(shortest))
                    return
            is_first = False
            groups = [half for group in refused for half in _halves([n for n in group if self._vectors[n] is None])]

    async def _round(self, groups: Sequence[Sequence[int]]) -> dict[tuple[int, ...], AichatError]:
        """Send each group as one request.

        Returns:
            The groups that were refused, with the error, if smaller ones may not be. Single texts fail here.
        """
        plan = self._plan if self._budget is None else self._options.plan(self._sender, self._given, self._budget)
        before, texts = self._progress, self._texts
        runner = BatchRunner(
            self._sender,
            replace(plan, system="", store=None),
            (tuple(Message("user", texts[number]) for number in group) for group in groups),
            n_rows=len(groups),
            on_progress=lambda progress: self._take(before, progress),
        )
        await runner.run()
        self._budget = runner.budget
        self._remarks |= dict.fromkeys(runner.remarks)
        stopped = runner.stopped_by
        refused: dict[tuple[int, ...], AichatError] = {}
        for position, group in enumerate(groups):
            outcome = runner.outcome(position) if position < len(runner) else None
            error = outcome if isinstance(outcome, AichatError) else None if outcome is not None else stopped
            if error is None:
                continue
            if len(group) > 1 and _may_be_size(error):
                refused[tuple(group)] = error
            elif outcome is not None:
                self._fail(group, error)
        if stopped is not None and not (refused and _may_be_size(stopped)):
            self.stopped_by = stopped
            return {}
        return refused

    # Changes ----------------------------------------------------------------------------------------------------------

    def _read(self, position: int, row: Row) -> int:
        """Return the number of a row's text, or -1 where it has none."""
        if isinstance(row, tuple):
            row = PromptError(f"Row {position} is a conversation, and only texts have embeddings.")
        elif isinstance(row, str) and is_blank(row):
            row = PromptError(f"Row {position} is an empty text, which has no embedding. Make it None, or drop it.")
        if isinstance(row, AichatError):
            self._row_errors[position] = row
        if not isinstance(row, str):
            return _MISSING
        number = self._numbers.setdefault(row, len(self._texts))
        if number == len(self._texts):
            self._texts.append(row)
        return number

    def _keys(self) -> VectorKeys:
        """Return the function that makes the store keys of the texts."""
        endpoint, request = self._plan.call.provider.endpoint, self._plan.call.request
        return VectorKeys(
            provider=endpoint.provider,
            host=endpoint.base_url,
            model=request.model,
            dimensions=self._sender.dimensions,
            extra=request.options.extra,
        )

    async def _keep(self, texts: tuple[str, ...], vectors: Any) -> None:
        """Take the vectors of a request; they are stored before their rows count as done."""
        if self._store is not None:
            keys = self._keys()
            rows = vectors.astype("<f4", copy=False)
            await self._store.put_many([(keys.key(text), row.tobytes()) for text, row in zip(texts, rows, strict=True)])
        for text, vector in zip(texts, vectors, strict=True):
            self._set(self._numbers[text], vector, is_hit=False)

    def _set(self, number: int, vector: Vector, *, is_hit: bool) -> None:
        """Take the vector of a text: all its rows are done. All but the first are hits."""
        self._vectors[number] = vector
        n_rows = self._n_rows_of[number]
        done, hits = self._progress.done + n_rows, self._progress.hits + n_rows - (not is_hit)
        self._progress = replace(self._progress, done=done, hits=hits)

    def _fail(self, numbers: Iterable[int], error: AichatError | None) -> None:
        """Take the error of texts."""
        for number in numbers:
            if error is not None and number not in self._errors:
                self._errors[number] = error
                n_rows = self._n_rows_of[number]
                done, errors = self._progress.done + n_rows, self._progress.errors + n_rows
                self._progress = replace(self._progress, done=done, errors=errors)

    def _take(self, before: Progress, round_: Progress) -> None:
        """Add the progress of a round, whose rows are groups, to that of the run before it."""
        self._progress = replace(
            round_,
            rows=len(self),
            done=self._progress.done,
            hits=self._progress.hits,
            errors=self._progress.errors,
            missing=self._progress.missing,
            calls=before.calls + round_.calls,
            usage=_sum(before.usage, round_.usage),
            elapsed_s=before.elapsed_s + round_.elapsed_s,
            is_last=False,
        )
        self._report()

    def _report(self, *, is_last: bool = False) -> None:
        """Show the progress."""
        if is_last:
            self._progress = replace(self._progress, is_last=True)
        if self._show is not None:
            self._show(self._progress)


def embed_rows(
    chat: Chat,
    rows: Iterable[Row],
    *,
    given: CallOptions,
    options: BatchOptions,
    dimensions: int | None = None,
    keep: Callable[[EmbeddingRun], None] = lambda run: None,
) -> EmbeddingRun:
    """Embed rows, with a progress bar, from synchronous code.

    Args:
        chat: The chat whose connections, settings and store are used.
        rows: The rows.
        given: Model, address and so on of each call.
        options: Options of the run.
        dimensions: Length of each vector; None: the model's own.
        keep: Called with the run before it begins, so that an interrupt loses nothing.

    Returns:
        The run, finished or stopped by an error (`stopped_by`).

    Raises:
        BadInputError: An argument cannot be used; nothing was sent.
        ChatInterrupt: The user interrupted; the finished rows are in the run passed to `keep`, and in the store.
    """
    result = EmbeddingRun(chat, rows, given=given, options=options, dimensions=dimensions)
    keep(result)
    interrupt: ChatInterrupt | None = None
    try:
        run_sync(result.run())
    except ChatInterrupt as error:
        interrupt = error
    if interrupt is not None:
        raise ChatInterrupt(
            f"Interrupted after {result.progress.done:,} of {len(result):,} rows. The finished ones are kept: "
            f"run it again to continue."
        )
    return result


def _groups(numbers: Sequence[int], texts: Sequence[str], bounds: EmbeddingBounds) -> Iterator[list[int]]:
    """Yield groups of texts that one request takes. A text that may be too long goes alone: it fails alone."""
    group: list[int] = []
    tokens = 0
    for number in numbers:
        size = len(texts[number].encode("utf-8", "replace")) // _BYTES_PER_TOKEN + 1
        if bounds.text_tokens is not None and size > bounds.text_tokens:
            yield [number]
            continue
        if group and (len(group) == bounds.texts or tokens + size > bounds.tokens):
            yield group
            group, tokens = [], 0
        group.append(number)
        tokens += size
    if group:
        yield group


def _halves(group: Sequence[int]) -> Iterator[list[int]]:
    """Yield the halves of a group that are not empty."""
    middle = (len(group) + 1) // 2
    yield from (list(half) for half in (group[:middle], group[middle:]) if half)


def _sum(usage: Usage, other: Usage) -> Usage:
    """Return the sum; a round without any reply has neither tokens nor a cost."""
    return other if usage == Usage() else usage if other == Usage() else usage + other


def _may_be_size(error: AichatError) -> bool:
    """Tell whether a smaller group may be taken where this one was not, or only one of its texts is refused."""
    if isinstance(error, UnsupportedOptionError):
        return False
    return isinstance(error, (BadRequestError, TooLargeError, ServerError))
