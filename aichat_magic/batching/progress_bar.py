"""The progress of a run as tqdm's text bar."""

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

# A line that is broken at the edge of a window cannot be rewritten. So much fits into a narrow notebook.
_BAR_WIDTH = 72
_BAR = "{percentage:3.0f} %|{bar}| {n_fmt}/{total_fmt} [{remaining} left, {rate_fmt}{postfix}]"
_BAR_AWAY = "{percentage:3.0f} %|{bar}| {n_fmt}/{total_fmt} [{desc}]"


def progress_bar(wanted: bool | Callable[[Progress], None], n_rows: int | None) -> Callable[[Progress], None] | None:
    """What draws the progress of a run over rows.

    Args:
        wanted: True: a bar, and a line of summary at the end; False: nothing; a callable: that one.
        n_rows: How many rows the run has, None when it is not known.

    Returns:
        A callable that takes `Progress` values, the last one with `is_last`; or None.
    """
    if not isinstance(wanted, bool):
        return wanted
    return ProgressBar(n_rows) if wanted else None


class ProgressBar:
    """tqdm's text bar, in a notebook as in a terminal: rate, time left, tokens, cost, hits, errors."""

    def __init__(self, n_rows: int | None, *, file: Any = None) -> None:
        """Prepare; nothing is drawn before the first event.

        Args:
            n_rows: How many rows, None when it is not known.
            file: Where to; default: the error stream, in a notebook the output of the cell.
        """
        # A notebook shows the error stream on red, as if something were wrong.
        self._file = file or (sys.stdout if type(sys.stdout).__name__ == "OutStream" else sys.stderr)
        self._n_rows = n_rows
        self._bar: tqdm[Any] | None = None
        self._is_away = False

    def __call__(self, progress: Progress) -> None:
        """Draw where the run stands."""
        if self._bar is None:
            # Not tqdm.auto: without ipywidgets that one warns, and a line of text does in any front end.
            from tqdm import tqdm

            # Events come seldom enough; a run that ends at once needs no bar.
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
        facts += [f"{n:,} {name}" for name, n in (("hits", progress.hits), ("errors", progress.errors)) if n]
        is_away, was_away = progress.away_s >= 1, self._is_away
        self._is_away = is_away
        if self._n_rows is not None:
            self._bar.bar_format = _BAR_AWAY if is_away else _BAR
        away = f"network away for {progress.away_s:.0f} s, trying every {progress.try_every_s:.0f} s"
        self._bar.set_description_str(away if is_away else "", refresh=False)
        self._bar.set_postfix_str(", ".join(facts), refresh=False)
        self._bar.update(progress.done - self._bar.n)
        if is_away or was_away:
            self._bar.refresh()  # no row has moved it
        if progress.is_last:
            self._bar.close()
            write_to(self._file, f"{wrapped(str(progress), terminal_width() or _BAR_WIDTH)}\n")
