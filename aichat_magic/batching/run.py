"""What a run over rows has come to: replies, errors, usage, and how to look at it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any

from ..chat.chat import Chat
from ..core.errors import AichatError, BadInputError, BatchStoppedError, ChatInterrupt
from ..core.messages import Reply
from ..core.options import CallOptions
from ..core.sync import run
from ..core.usage import Usage
from ..text.characters import fit, replaced_line, terminal_text
from ..text.svg import histogram, image, line, quantile
from ..text.widgets import Note, Table
from ..text.wrap import wrapped
from .budget import Budget
from .options import BatchOptions, Row
from .progress import Progress
from .progress_bar import progress_bar
from .runner import BatchRunner

if TYPE_CHECKING:
    import pandas as pd

_ERROR_KINDS = 5
_WIDTH = 79
# On a frame: the names of the columns of errors that are ours.
_ERROR_COLUMNS = "_aichat_error_columns"


class BatchRun:
    """A run over rows, finished or stopped.

    Attributes:
        replies: A `Reply` for each row in order, None where there is none.
        errors: The error of each row that failed, by position.
    """

    def __init__(self, batch: BatchRunner, again: Callable[[], BatchRun], index: Any = None) -> None:
        """Look at a batch.

        Args:
            batch: The batch, which has run.
            again: Runs the same rows again; the store answers those that are done.
            index: Labels of the rows for `frame`; default: their positions.
        """
        self._batch = batch
        self._again = again
        self._index = index

    @property
    def replies(self) -> list[Reply | None]:
        """A reply for each row in order, None where there is none."""
        return [outcome if isinstance(outcome, Reply) else None for outcome in self.outcomes()]

    @property
    def errors(self) -> dict[int, AichatError]:
        """The error of each row that failed, by the row's position."""
        return self._batch.errors()

    @property
    def usage(self) -> Usage:
        """What the replies of this run took; replies from the store cost nothing."""
        return self._batch.usage

    @property
    def cost_usd(self) -> float | None:
        """What this run cost, in US dollars; None when a price is not known."""
        return self._batch.usage.cost_usd if self._batch.finished_s else 0.0

    @property
    def budget(self) -> Budget:
        """What the run may spend, and what it has spent."""
        return self._batch.budget

    @property
    def progress(self) -> Progress:
        """Counts: rows, done, hits, errors, calls."""
        return self._batch.progress(is_last=True)

    @property
    def elapsed_s(self) -> float:
        """How long the run took, in seconds."""
        return self._batch.elapsed_s

    @property
    def stopped_by(self) -> AichatError | None:
        """The error that stopped the run before its last row, or None."""
        return self._batch.stopped_by

    @property
    def pending(self) -> int:
        """Rows that have something to ask, as far as is known, and are neither answered nor failed."""
        return self._batch.pending + len(self) - len(self._batch)

    def __len__(self) -> int:
        """How many rows, those that a stopped run has not read included."""
        return self._batch.n_rows

    def outcomes(self) -> Iterator[Reply | AichatError | None]:
        """What each row has come to, in order: its reply, its error, or None."""
        return chain(self._batch.outcomes(), repeat(None, len(self) - len(self._batch)))

    def texts(self) -> Iterator[str | None]:
        """The text of each row in order, None where there is none."""
        return chain(self._batch.texts(), repeat(None, len(self) - len(self._batch)))

    def put_into(self, frame: pd.DataFrame, column: str) -> None:
        """Put the replies into a column of a frame, and the errors, if there are any, beside it.

        Args:
            frame: The frame whose rows were asked, changed in place.
            column: Name of the column; the errors go to ``<column>_error``, which goes away when there are none. Rows
                that a stopped run has not come to keep what they had.

        Raises:
            BadInputError: The frame has other rows by now, or these columns cannot be filled; it is as it was.
        """
        import pandas as pd

        check_columns(frame, column)
        if len(frame) != len(self) or (self._index is not None and not frame.index.equals(self._index)):
            raise BadInputError(
                "The rows of the table are not those of the run any more. The replies are in run.frame(); "
                "df.aichat.last_run is the run."
            )
        values: list[Any] = list(self.texts())
        dtype = "string"
        if self.stopped_by is not None or self.pending:
            if column in frame.columns:
                outcomes = zip(self.outcomes(), values, frame[column].tolist(), strict=True)
                values = [old if outcome is None else new for outcome, new, old in outcomes]
                # Numbers and whatever else was there stay what they were.
                if not all(isinstance(value, str) or pd.isna(value) is True for value in values):
                    dtype = "object"
        frame[column] = pd.Series(values, index=frame.index, dtype=dtype)
        errors, name = self.errors, f"{column}_error"
        if errors:
            texts = [fit(str(errors[row])) if row in errors else None for row in range(len(frame))]
            frame[name] = pd.Series(texts, index=frame.index, dtype="string")
            # pandas would take a plain attribute for a column.
            object.__setattr__(frame, _ERROR_COLUMNS, _error_columns(frame) | {name})
        elif name in frame.columns:
            del frame[name]
            object.__setattr__(frame, _ERROR_COLUMNS, _error_columns(frame) - {name})

    def tally(self) -> list[tuple[str, Usage, int]]:
        """Model, usage and number of the replies that this run has paid for."""
        paid = len(self._batch.finished_s)
        return [(self._batch.model, self.usage, paid)] if paid else []

    @property
    def replaced(self) -> int:
        """Replies of which characters were replaced that no text may hold: NULs, halves of surrogate pairs."""
        return self._batch.replaced

    def remarks(self) -> list[str]:
        """What else there is to know of the replies, a line each."""
        return replaced_line(self.replaced)

    def stop_error(self) -> BatchStoppedError | None:
        """The error to raise where a run has no use: it was stopped, or not one row was answered. Else None."""
        errors = self.errors
        answered = self.progress.done - len(errors) - self.progress.missing
        if self.stopped_by is not None:
            reason: AichatError = self.stopped_by
            head = f"The run stopped after {self.progress.done:,} of {len(self):,} rows"
        elif errors and not answered:
            reason, head = next(iter(errors.values())), "Not one row could be answered"
        else:
            return None
        kept = " The finished rows are kept: run it again to go on." if answered else ""
        return BatchStoppedError(f"{head}: {reason}{kept}", run=self)

    def retry(self) -> BatchRun:
        """Run again. Rows that have their reply keep it; failed and pending ones are sent."""
        return self._again()

    def frame(self) -> pd.DataFrame:
        """Everything as a DataFrame: reply, error, model, finish_reason, tokens, cost and seconds of each row."""
        import pandas as pd

        outcomes = list(self.outcomes())
        replies = [outcome if isinstance(outcome, Reply) else None for outcome in outcomes]
        errors = [fit(str(outcome)) if isinstance(outcome, AichatError) else None for outcome in outcomes]

        def column(dtype: str, pick: Callable[[Reply], Any]) -> Any:
            return pd.array([None if reply is None else pick(reply) for reply in replies], dtype=dtype)

        return pd.DataFrame(
            {
                "reply": column("string", lambda reply: reply.text),
                "error": pd.array(errors, dtype="string"),
                "model": column("string", lambda reply: reply.model),
                "finish_reason": column("string", lambda reply: reply.finish_reason),
                "input_tokens": column("Int64", lambda reply: reply.usage.input_tokens),
                "output_tokens": column("Int64", lambda reply: reply.usage.output_tokens),
                "cost_usd": column("Float64", lambda reply: reply.usage.cost_usd),
                "elapsed_s": column("Float64", lambda reply: reply.elapsed_s),
            },
            index=self._index,
        )

    def to_parquet(self, path: Any, **options: Any) -> None:
        """Write `frame` to a Parquet file.

        Args:
            path: Where to.
            **options: As `pandas.DataFrame.to_parquet`.

        Raises:
            ImportError: pandas has no Parquet engine; its message says which to install.
        """
        self.frame().to_parquet(path, **options)

    def summary(self) -> str:
        """One line: rows, rate, tokens, cost, hits, errors."""
        return str(self.progress)

    def __repr__(self) -> str:
        """The summary, and why it stopped."""
        lines = [f"<BatchRun {self.summary()}>"]
        if self.stopped_by is not None:
            lines.append(f"- stopped: {self.stopped_by}")
        lines += [f"- {remark}" for remark in self.remarks()]
        lines += [f"- {count:,} x {kind}: {text}" for kind, count, text in self._kinds()]
        return wrapped(terminal_text("\n".join(lines)), _WIDTH)

    def _kinds(self) -> list[tuple[str, int, str]]:
        """Errors by kind, the most frequent first, each with its first text."""
        errors = list(self.errors.values())
        first: dict[str, str] = {}
        for error in errors:
            first.setdefault(type(error).__name__, str(error))
        counted = Counter(type(error).__name__ for error in errors)
        return [(kind, count, first[kind]) for kind, count in counted.most_common(_ERROR_KINDS)]

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """How notebooks show it: totals, latencies, progress, errors by kind."""
        seconds, finished_s = sorted(self._batch.latencies_s), self._batch.finished_s
        facts = list(self.progress.facts())
        pictures = ""
        if seconds:
            median, most = (f"{quantile(seconds, share):.2g} s" for share in (0.5, 0.95))
            facts.insert(2, ("per reply", f"{median} (median), {most} (95 %)"))
            pictures = image(
                histogram(seconds, title="seconds per reply", unit="s"),
                alt=f"seconds per reply: {median} (median), {most} (95 %)",
            )
            pictures += image(
                line(finished_s, title="replies over time", unit="s"),
                alt=f"replies over time: {len(finished_s):,} in {finished_s[-1]:.2g} s",
            )
        html = [Table("Run", ("", ""), tuple(facts))._repr_mimebundle_()["text/html"]]
        if pictures:
            html.append(f"<div>{pictures}</div>")
        if self.stopped_by is not None:
            html.append(Note(f"Stopped: {self.stopped_by}")._repr_mimebundle_()["text/html"])
        html += [Note(remark)._repr_mimebundle_()["text/html"] for remark in self.remarks()]
        if kinds := self._kinds():
            table = Table("Errors", ("kind", "rows", "the first says"), tuple(kinds), "")
            html.append(table._repr_mimebundle_()["text/html"])
        return {"text/plain": repr(self), "text/html": "".join(html)}


def check_columns(frame: pd.DataFrame, column: str) -> None:
    """Refuse columns that a run must not fill, before anything is sent.

    Args:
        frame: The frame.
        column: The column that shall get the replies.

    Raises:
        BadInputError: There are several of this name, or the column for the errors is the user's own.
    """
    name = f"{column}_error"
    names = list(frame.columns)
    if fit(column) != column:
        raise BadInputError(f"{column!r} cannot be the name of a column: it holds characters that no text may hold.")
    for each in (column, name):
        if (count := names.count(each)) > 1:
            raise BadInputError(f"There are {count} columns called {each!r}. Rename one first.")
    if name in names and name not in _error_columns(frame):
        raise BadInputError(
            f"There is a column {name!r} that is not of a run on this table; errors would go there. "
            f"Rename it or take it out."
        )


def _error_columns(frame: pd.DataFrame) -> frozenset[str]:
    """The columns of a frame that hold the errors of a run."""
    found: frozenset[str] = frame.__dict__.get(_ERROR_COLUMNS, frozenset())
    return found


def run_rows(
    chat: Chat,
    make_rows: Callable[[], Iterable[Row]],
    *,
    n_rows: int,
    given: CallOptions,
    options: BatchOptions,
    index: Any = None,
    keep: Callable[[BatchRun], None] = lambda run: None,
    known: Callable[[bytes], Reply | None] | None = None,
    budget: Budget | None = None,
) -> BatchRun:
    """Run rows to their end, with a progress bar, from synchronous code.

    Args:
        chat: Who asks.
        make_rows: Gives the rows; called again by `BatchRun.retry`.
        n_rows: How many they are.
        given: Model, options and so on.
        options: How many at once, budget, store, progress.
        index: Labels of the rows.
        keep: Handed the run before it begins, so that an interrupt loses nothing of it.
        known: Replies of an earlier run over the same rows by key, which are not asked again.
        budget: That of another run, which this one goes on with; None: one of its own, as `BatchRun.retry` has it.

    Returns:
        The run, finished or stopped by an error (`stopped_by`).

    Raises:
        BadInputError: Something given cannot be used; nothing was sent.
        ChatInterrupt: The user interrupted; the finished rows are in the run that `keep` got, and in the store.
    """

    def again() -> BatchRun:
        return run_rows(
            chat,
            make_rows,
            n_rows=n_rows,
            given=given,
            options=options,
            index=index,
            keep=keep,
            known=batch.reply,
        )

    plan = options.plan(chat, given, budget)
    show = progress_bar(options.progress, n_rows)
    batch = BatchRunner(chat, plan, make_rows(), n_rows=n_rows, on_progress=show, known=known)
    result = BatchRun(batch, again, index)
    keep(result)
    interrupt: ChatInterrupt | None = None
    try:
        run(batch.run())
    except ChatInterrupt as error:
        interrupt = error
    if interrupt is not None:
        raise ChatInterrupt(
            f"Interrupted after {batch.progress().done:,} of {n_rows:,} rows. The finished ones are kept: "
            f"run it again to go on."
        )
    return result
