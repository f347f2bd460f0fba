"""A text bar for the progress of a run, drawn by tqdm."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..text.numbers import money
from ..text.wrap import wrapped
from .progress import Progress

if TYPE_CHECKING:
    from tqdm import tqdm
from ..text.terminal import terminal_width, write_to

# A line that is wrapped at the edge of the window cannot be redrawn. This width fits into a narrow notebook.
_BAR_WIDTH = 72
_BAR = "{percentage:3.0f} %|{bar}| {n_fmt}/{total_fmt} [{remaining} left, {rate_fmt}{postfix}]"
_PAUSES = {"limit": "limit of the server reached", "loading": "the server is loading the model"}
_OUTAGE_BAR = "{percentage:3.0f} %|{bar}| {n_fmt}/{total_fmt} [{desc}]"


def progress_bar(wanted: bool | Callable[[Progress], None], n_rows: int | None) -> Callable[[Progress], None] | None:
    """Return the callable that shows the progress of a run.

    Args:
        wanted: True: a bar, and a summary line at the end; False: nothing; a callable: that one.
        n_rows: Number of rows; None when it is unknown.

    Returns:
        A callable that takes `Progress` values, the last one with `is_last`; or None.
    """
    if not isinstance(wanted, bool):
        return wanted
    return ProgressBar(n_rows) if wanted else None


class ProgressBar:
    """A text bar for notebooks and terminals: rate, time left, tokens, cost, hits, errors."""

    def __init__(self, n_rows: int | None, *, file: Any = None) -> None:
        """Create a bar; nothing is drawn before the first event.

        Args:
            n_rows: Number of rows; None when it is unknown.
            file: Stream to write to; default: standard error, or in a notebook the output of the cell.
        """
        # Notebooks show standard error on red, as if something were wrong.
        self._file = file or (sys.stdout if type(sys.stdout).__name__ == "OutStream" else sys.stderr)
        self._n_rows = n_rows
        self._bar: tqdm[Any] | None = None
        self._is_outage = False

    def __call__(self, progress: Progress) -> None:
        """Draw the current progress."""
        if self._bar is None:
            # Not tqdm.auto: it warns without ipywidgets, and a line of text works in every front end.
            from tqdm import tqdm

            # Events are rare enough; a run that ends at once needs no bar.
            self._bar = tqdm(
                total=self._n_rows,
                unit=" rows",
                bar_format=None if self._n_rows is None else _BAR,
                ncols=min(terminal_width(), 99) or _BAR_WIDTH,
                mininterval=0,
                delay=0.5,
                leave=False,
                file=self._file,
            )
        usage = progress.usage
        facts = [f"{(usage.input_tokens or 0) + (usage.output_tokens or 0):,} tokens"]
        facts += [money(usage.cost_usd)] if usage.cost_usd is not None else []
        facts += [
            f"{n:,} {name}"
            for name, n in (("hits", progress.hits), ("cut", progress.cut), ("errors", progress.errors))
            if n
        ]
        is_outage, was_outage = progress.away_s >= 1 or bool(progress.pause_reason), self._is_outage
        self._is_outage = is_outage
        if self._n_rows is not None:
            self._bar.bar_format = _OUTAGE_BAR if is_outage else _BAR
        outage = f"network away for {progress.away_s:.0f} s, trying every {progress.try_every_s:.0f} s"
        if progress.away_s < 1:
            outage = f"{_PAUSES.get(progress.pause_reason, '')}, next call in {progress.pause_s:.0f} s"
        self._bar.set_description_str(outage if is_outage else "", refresh=False)
        self._bar.set_postfix_str(", ".join(facts), refresh=False)
        self._bar.update(progress.done - self._bar.n)
        if is_outage or was_outage:
            self._bar.refresh()  # tqdm redraws by itself only when a row is done
        if progress.is_last:
            self._bar.close()
            write_to(self._file, f"{wrapped(str(progress), terminal_width() or _BAR_WIDTH)}\n")
