"""The result object of a run: replies, errors, usage, and its views."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any

from ..chat.chat import Chat
from ..core.errors import AichatError, BadInputError, BatchStoppedError, ChatInterrupt
from ..core.messages import Reply
from ..core.options import CallOptions
from ..core.sync import run_sync
from ..core.usage import Usage
from ..text.characters import fit, replaced_line, shown_text, terminal_text
from ..text.svg import histogram, image, line, quantile
from ..text.widgets import Note, Table
from ..text.wrap import wrapped
from .budget import Budget
from .columns import TypedColumn
from .options import BatchOptions, Row
from .progress import Progress
from .progress_bar import progress_bar
from .runner import BatchRunner

if TYPE_CHECKING:
    import pandas as pd

_ERROR_KINDS = 5
_ROWS_NAMED = 5
_WIDTH = 79
# The attribute of a frame that names its error columns that a run has written.
_ERROR_COLUMNS = "_aichat_error_columns"


class BatchRun:
    """A run over rows, finished or stopped.

    Attributes:
        replies: A `Reply` for each row, in order; None where there is none.
        errors: The error of each failed row, by position.
        introduction: What to know of the model, if the process has not been told before; else empty.
    """

    def __init__(
        self,
        runner: BatchRunner,
        again: Callable[[], BatchRun],
        index: Any = None,
        *,
        introduction: str = "",
        make_frame: Callable[[Mapping[str, TypedColumn]], Any] | None = None,
    ) -> None:
        """Create the result of a run.

        Args:
            runner: The runner of its rows.
            again: Runs the same rows again, without those that are done.
            index: Labels of the rows for `frame`; default: their positions.
            introduction: What to know of the model.
            make_frame: Makes the frame of `frame` from its columns; default: one of pandas.
        """
        self._make_frame = make_frame
        self.introduction = introduction
        self._runner = runner
        self._run_again = again
        self._index = index

    @property
    def replies(self) -> list[Reply | None]:
        """Return a reply for each row, in order; None where there is none."""
        return [outcome if isinstance(outcome, Reply) else None for outcome in self.outcomes()]

    @property
    def errors(self) -> dict[int, AichatError]:
        """Return the error of each failed row, by the row's position."""
        return self._runner.errors()

    @property
    def usage(self) -> Usage:
        """Return the usage of this run's replies; replies from the store cost nothing."""
        return self._runner.usage

    @property
    def cost_usd(self) -> float | None:
        """Return the cost of this run in US dollars; None if a price is unknown."""
        return self._runner.usage.cost_usd if self._runner.finished_s else 0.0

    @property
    def budget(self) -> Budget:
        """Return the budget, with what is spent of it."""
        return self._runner.budget

    @property
    def progress(self) -> Progress:
        """Return the final progress: rows, done, hits, duplicates, errors, calls."""
        return self._runner.progress(is_last=True)

    @property
    def elapsed_s(self) -> float:
        """Return the duration of the run, in seconds."""
        return self._runner.elapsed_s

    @property
    def stopped_by(self) -> AichatError | None:
        """Return the error that stopped the run before its last row, or None."""
        return self._runner.stopped_by

    @property
    def pending(self) -> int:
        """Return the number of rows that are neither answered nor failed nor, as far as is known, missing."""
        return self._runner.pending + len(self) - len(self._runner)

    def __len__(self) -> int:
        """Return the number of all rows, including those that a stopped run has not read."""
        return self._runner.n_rows

    def outcomes(self) -> Iterator[Reply | AichatError | None]:
        """Yield the outcome of each row, in order: its reply, its error, or None."""
        return chain(self._runner.outcomes(), repeat(None, len(self) - len(self._runner)))

    def texts(self) -> Iterator[str | None]:
        """Yield the reply's text of each row, in order; None where there is none."""
        return chain(self._runner.texts(), repeat(None, len(self) - len(self._runner)))

    def put_into(self, frame: pd.DataFrame, column: str) -> None:
        """Write the replies into a column of a frame, and the errors, if there are any, into another one.

        Args:
            frame: The frame of the run; it is changed in place.
            column: Name of the column; errors go to ``<column>_error``, which is removed when there are none. Rows that
                a stopped run has not reached keep their value.

        Raises:
            BadInputError: The frame has other rows now, or these columns cannot be written; it is unchanged.
        """
        import pandas as pd

        check_columns(frame, column)
        if len(frame) != len(self) or (self._index is not None and not frame.index.equals(self._index)):
            raise BadInputError(
                "The rows of the table have changed since the run began. The replies are in run.frame(); "
                "the run is df.aichat.last_run."
            )
        old = frame[column].tolist() if column in frame.columns else None
        values, errors = self.values_over(old)
        # Other values, such as numbers, keep their type.
        is_text = all(value is None or isinstance(value, str) or pd.isna(value) is True for value in values)
        frame[column] = pd.Series(values, index=frame.index, dtype="string" if is_text else "object")
        name = f"{column}_error"
        if errors is not None:
            frame[name] = pd.Series(errors, index=frame.index, dtype="string")
            # pandas would take a plain attribute for a column.
            object.__setattr__(frame, _ERROR_COLUMNS, _error_columns(frame) | {name})
        elif name in frame.columns:
            del frame[name]
            object.__setattr__(frame, _ERROR_COLUMNS, _error_columns(frame) - {name})

    def values_over(self, old: Sequence[Any] | None) -> tuple[list[Any], list[str | None] | None]:
        """Return the values of a column after this run, and those of its error column.

        Args:
            old: The values of the column before; None if it is new. Rows that a stopped run has not reached keep them.

        Returns:
            The values; the text of each row's error, or None if no row has failed.
        """
        values: list[Any] = list(self.texts())
        if old is not None and (self.stopped_by is not None or self.pending):
            outcomes = zip(self.outcomes(), values, old, strict=True)
            values = [before if outcome is None else new for outcome, new, before in outcomes]
        errors = self.errors
        texts = [fit(str(errors[row])) if row in errors else None for row in range(len(self))]
        return values, texts if errors else None

    def tally(self) -> list[tuple[str, Usage, int]]:
        """Return model, usage and number of the replies that this run has paid for."""
        paid = len(self._runner.finished_s)
        return [(self._runner.model, self.usage, paid)] if paid else []

    @property
    def replaced(self) -> int:
        """Return the number of replies in which invalid characters were replaced: NULs and lone surrogates."""
        return self._runner.replaced

    @property
    def sent_otherwise(self) -> list[str]:
        """Return what was sent otherwise than asked, one line each, such as an option that the server refused."""
        return list(self._runner.remarks)

    @property
    def cut(self) -> list[int]:
        """Return the positions of the rows whose reply was cut by a limit of its tokens, such as `max_tokens`."""
        return self._runner.cut_rows()

    def remarks(self) -> list[str]:
        """Return remarks on the replies for the user, one line each."""
        return [*self.sent_otherwise, *replaced_line(self.replaced), *self._cut_line()]

    def _cut_line(self) -> list[str]:
        """Return the line that counts and names the rows that were cut; an empty list for none."""
        if not (rows := self.cut):
            return []
        most = self._runner.max_tokens
        limit = "the provider's limit of tokens" if most is None else f"max_tokens={most}"
        names = ", ".join(map(str, rows[:_ROWS_NAMED])) + (", ..." if len(rows) > _ROWS_NAMED else "")
        again = "these rows (run.cut)" if self._index is None else "df.iloc[run.cut]"
        return [
            f"{len(rows):,} of {len(self):,} replies {'was' if len(rows) == 1 else 'were'} cut at {limit}: row"
            f"{'' if len(rows) == 1 else 's'} {names}. For whole ones, run {again} again with a larger "
            f"max_tokens (run: ....aichat.last_run)."
        ]

    def stop_error(self) -> BatchStoppedError | None:
        """Return the error to raise if the run was stopped or no row was answered; else None."""
        errors = self.errors
        answered = self.progress.done - len(errors) - self.progress.missing
        if self.stopped_by is not None:
            reason: AichatError = self.stopped_by
            head = f"The run stopped after {self.progress.done:,} of {len(self):,} rows"
        elif errors and not answered:
            reason, head = next(iter(errors.values())), "No row could be answered"
        else:
            return None
        kept = " The finished rows are kept: run it again to continue." if answered else ""
        return BatchStoppedError(f"{head}: {reason}{kept}", run=self)

    def retry(self) -> BatchRun:
        """Run again. Rows with a reply keep it; failed and pending ones are sent."""
        return self._run_again()

    def frame(self, *, thinking: bool = False) -> Any:
        """Return a frame with reply, error, model, finish_reason, tokens, cost and seconds of each row.

        `model_version` is the model's name as the server resolved it; `reasoning_tokens` are a part of `output_tokens`,
        `cached_tokens` and `cache_write_tokens` of `input_tokens`. The frame is one of pandas, or of the library of the
        frame that the run was over.

        Args:
            thinking: Whether there is a column with the models' thinking, also for replies from the store.
        """
        columns = self.columns(thinking=thinking)
        return pandas_frame(columns, self._index) if self._make_frame is None else self._make_frame(columns)

    def columns(self, *, thinking: bool = False) -> dict[str, TypedColumn]:
        """Return the columns of `frame`.

        Args:
            thinking: Whether one has the models' thinking.
        """
        outcomes = list(self.outcomes())
        replies = [outcome if isinstance(outcome, Reply) else None for outcome in outcomes]
        errors = [fit(str(outcome)) if isinstance(outcome, AichatError) else None for outcome in outcomes]

        def column(dtype: str, pick: Callable[[Reply], Any]) -> TypedColumn:
            return TypedColumn([None if reply is None else pick(reply) for reply in replies], dtype)

        return {
            "reply": column("string", lambda reply: reply.text),
            **({"thinking": column("string", lambda reply: fit(reply.thinking) or None)} if thinking else {}),
            "error": TypedColumn(errors, "string"),
            "model": column("string", lambda reply: reply.model),
            "model_version": column("string", lambda reply: reply.model_version or None),
            "finish_reason": column("string", lambda reply: reply.finish_reason),
            "input_tokens": column("Int64", lambda reply: reply.usage.input_tokens),
            "output_tokens": column("Int64", lambda reply: reply.usage.output_tokens),
            "reasoning_tokens": column("Int64", lambda reply: reply.usage.reasoning_tokens),
            "cached_tokens": column("Int64", lambda reply: reply.usage.cached_tokens),
            "cache_write_tokens": column("Int64", lambda reply: reply.usage.cache_write_tokens),
            "cost_usd": column("Float64", lambda reply: reply.usage.cost_usd),
            "elapsed_s": column("Float64", lambda reply: reply.elapsed_s),
        }

    def to_parquet(self, path: Any, *, thinking: bool = False, **options: Any) -> None:
        """Write `frame` to a Parquet file.

        Args:
            path: Path of the file.
            thinking: Whether there is a column with the models' thinking.
            **options: Options of `pandas.DataFrame.to_parquet`.

        Raises:
            ImportError: pandas finds no Parquet engine; the message says which one to install.
        """
        pandas_frame(self.columns(thinking=thinking), self._index).to_parquet(path, **options)

    def summary(self) -> str:
        """Return one line: rows, rate, tokens, cost, hits, errors."""
        return str(self.progress)

    def __repr__(self) -> str:
        """Return the summary, the reason of a stop, and the most frequent errors."""
        lines = [f"<BatchRun {self.summary()}>"]
        if self.stopped_by is not None:
            lines.append(f"- stopped: {self.stopped_by}")
        lines += [f"- {remark}" for remark in self._notes()]
        lines += [f"- {count:,} x {kind}: {text}" for kind, count, text in self._error_kinds()]
        return wrapped(terminal_text("\n".join(lines)), _WIDTH)

    def _notes(self) -> list[str]:
        """Return the remarks, after what to know of the model."""
        return [*filter(None, (self.introduction,)), *self.remarks()]

    def _error_kinds(self) -> list[tuple[str, int, str]]:
        """Return the kinds of errors, the most frequent first, each with its count and its first message."""
        errors = list(self.errors.values())
        first: dict[str, str] = {}
        for error in errors:
            first.setdefault(type(error).__name__, str(error))
        counted = Counter(type(error).__name__ for error in errors)
        return [(kind, count, first[kind]) for kind, count in counted.most_common(_ERROR_KINDS)]

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """Return the view for notebooks: totals, latencies, replies over time, errors by kind."""
        seconds, finished_s = sorted(self._runner.latencies_s), self._runner.finished_s
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
        html += [Note(remark)._repr_mimebundle_()["text/html"] for remark in self._notes()]
        if kinds := self._error_kinds():
            table = Table("Errors", ("kind", "rows", "the first says"), tuple(kinds), "")
            html.append(table._repr_mimebundle_()["text/html"])
        return {"text/plain": shown_text(repr(self)), "text/html": "".join(html)}


def check_columns(frame: pd.DataFrame, column: str) -> None:
    """Check, before anything is sent, that a run may write a column and its error column.

    Args:
        frame: The frame.
        column: Name of the column for the replies.

    Raises:
        BadInputError: Several columns have this name, or the error column belongs to the user.
    """
    check_names(list(frame.columns), column, _error_columns(frame))


def check_names(names: list[Any], column: str, ours: frozenset[str]) -> None:
    """Check, before anything is sent, that a run may write a column and its error column.

    Args:
        names: Names of the columns of a frame.
        column: Name of the column for the replies.
        ours: Error columns of the frame that a run has written.

    Raises:
        BadInputError: Several columns have this name, or the error column belongs to the user.
    """
    name = f"{column}_error"
    if fit(column) != column:
        raise BadInputError(f"{column!r} cannot be the name of a column: it contains NUL or half of a surrogate pair.")
    for each in (column, name):
        if (count := names.count(each)) > 1:
            raise BadInputError(f"There are {count} columns called {each!r}. Rename one first.")
    if name in names and name not in ours:
        raise BadInputError(
            f"The errors of the run go to the column {name!r}, but there is one already that no run has written. "
            f"Rename or remove it first."
        )


def pandas_frame(columns: Mapping[str, TypedColumn], index: Any = None) -> pd.DataFrame:
    """Return columns as a frame of pandas.

    Args:
        columns: The columns by name.
        index: Labels of the rows; None: their positions.
    """
    import pandas as pd

    made: dict[str, Any] = {}
    for name, column in columns.items():
        dtype: Any = column.dtype
        if dtype == "category":
            dtype = pd.CategoricalDtype(list(column.categories))
        made[name] = pd.Series(column.values, index=index, dtype=dtype)
    return pd.DataFrame(made, index=index)


def _error_columns(frame: pd.DataFrame) -> frozenset[str]:
    """Return the columns of a frame to which a run has written errors."""
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
    make_frame: Callable[[Mapping[str, TypedColumn]], Any] | None = None,
    keep: Callable[[BatchRun], None] = lambda run: None,
    known: Callable[[bytes], Reply | None] | None = None,
    budget: Budget | None = None,
) -> BatchRun:
    """Run rows to their end, with a progress bar, from synchronous code.

    Args:
        chat: The chat that sends the requests.
        make_rows: Returns the rows; called again by `BatchRun.retry`.
        n_rows: Number of rows.
        given: Model, options and so on of each call.
        options: Options of the run.
        index: Labels of the rows.
        make_frame: Makes the frame of `BatchRun.frame`; default: one of pandas.
        keep: Called with the run before it begins, so that an interrupt loses nothing.
        known: Returns the reply of an earlier run over the same rows by key; such requests are not sent again.
        budget: The budget of another run, to continue it; None: a new one, as for `BatchRun.retry`.

    Returns:
        The run, finished or stopped by an error (`stopped_by`).

    Raises:
        BadInputError: An argument cannot be used; nothing was sent.
        ChatInterrupt: The user interrupted; the finished rows are in the run passed to `keep`, and in the store.
    """

    def again() -> BatchRun:
        return run_rows(
            chat,
            make_rows,
            n_rows=n_rows,
            given=given,
            options=options,
            index=index,
            make_frame=make_frame,
            keep=keep,
            known=runner.reply,
        )

    plan = options.plan(chat, given, budget)
    show = progress_bar(options.progress, n_rows)
    runner = BatchRunner(chat, plan, make_rows(), n_rows=n_rows, on_progress=show, known=known)
    introduction = chat.introductions.line(plan.call, is_relied_on=True) if n_rows else ""
    result = BatchRun(runner, again, index, introduction=introduction, make_frame=make_frame)
    keep(result)
    interrupt: ChatInterrupt | None = None
    try:
        run_sync(runner.run())
    except ChatInterrupt as error:
        interrupt = error
    if interrupt is not None:
        raise ChatInterrupt(
            f"Interrupted after {runner.progress().done:,} of {n_rows:,} rows. The finished ones are kept: "
            f"run it again to continue."
        )
    return result
