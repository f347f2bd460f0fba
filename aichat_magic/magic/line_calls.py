"""Input transformer: turns `%aichat TEXT` in a cell of Python into the call that it stands for.

IPython takes a question mark at the end of a line for a request for help, and knows `%aichat` only at the beginning of
a statement and after an assignment. Here it may stand wherever Python expects a value, outside of brackets: nothing
else can begin with a percent sign there. Its text is the rest of the line::

    q = %aichat ask Why?
    return %aichat ask What's wrong (if anything)?

Python's own tokenizer tells which `%aichat` is part of a string or a comment. What follows one is not Python, so one is
taken at a time, and the cell is tokenized again without it.
"""

from __future__ import annotations

import keyword
import re
import tokenize

_OURS = re.compile(r"%aichat(?!\S)")
# IPython's signs at the beginning of a statement, and of a value. What follows them is not Python.
_SIGNS_OF_STATEMENT = frozenset("%!?,;/")
_SIGNS_OF_VALUE = frozenset("%!")
_STATEMENT_ENDS = (tokenize.NEWLINE, tokenize.NL, tokenize.INDENT, tokenize.DEDENT, tokenize.COMMENT)
_OPERANDS = frozenset((")", "]", "}", "..."))
_VALUES = frozenset(("None", "True", "False"))


def with_calls(lines: list[str]) -> list[str]:
    """Replace each `%aichat TEXT` by its call. Everything else stays as it is, byte for byte.

    Args:
        lines: The lines of a cell, each with its line end.

    Returns:
        The lines; the same list if nothing was replaced.

    Raises:
        SyntaxError: One stands in brackets, where no text can end.
    """
    if not any("%aichat" in line for line in lines) or lines[0].startswith("%%"):
        return lines
    # IPython ends lines at form feeds and the like, too; the tokenizer does not.
    rows = re.findall(r"[^\n]*\n|[^\n]+", "".join(lines))
    python = list(rows)
    calls: dict[int, tuple[int, str]] = {}
    while (found := _first_sign(python)) is not None:
        row, column = found
        end = row
        while rows[end].endswith("\\\n") and end + 1 < len(rows):
            end += 1
        if _OURS.match(rows[row], column):
            calls[row] = end, rows[row][:column] + _call(rows[row : end + 1], column)
        python[row : end + 1] = [f"{python[row][:column]}None\n", *["\n"] * (end - row)]
    if not calls:
        return lines
    for row, (end, call) in sorted(calls.items(), reverse=True):
        rows[row : end + 1] = [call]
    return "".join(rows).splitlines(keepends=True)


def _call(rows: list[str], column: int) -> str:
    """Return the call for a `%aichat` at a column of the first row, and the rows that continue it."""
    parts = [rows[0][column:].removeprefix("%aichat"), *rows[1:]]
    text = " ".join([*(part.rstrip()[:-1] for part in parts[:-1]), parts[-1]]).strip()
    return f"get_ipython().run_line_magic('aichat', {text!r})\n"


def _first_sign(rows: list[str]) -> tuple[int, int] | None:
    """Return row and column, from 0, of the first sign of IPython's at the beginning of a statement or value.

    Raises:
        SyntaxError: Before it, `%aichat` stands in brackets.
    """
    before: tokenize.TokenInfo | None = None
    depth = 0
    in_brackets: int | None = None
    try:
        for token in tokenize.generate_tokens(iter(rows).__next__):
            if token.type == tokenize.ERRORTOKEN and token.string.isspace():
                continue  # Python 3.11 has one before a sign that it does not know
            is_statement = before is None or before.type in _STATEMENT_ENDS
            signs = _SIGNS_OF_STATEMENT if is_statement else _SIGNS_OF_VALUE
            if token.string in signs and (is_statement or _expects_value(before)):
                row, column = token.start[0] - 1, token.start[1]
                if depth == 0:
                    return row, column
                if not is_statement and _OURS.match(rows[row], column):
                    in_brackets = row
                    break
            if token.type == tokenize.OP:
                depth = max(0, depth + (token.string in "([{") - (token.string in ")]}"))
            before = token
    except (tokenize.TokenError, SyntaxError):
        pass  # the rest is no Python, or the cell is not complete yet
    if in_brackets is not None:
        raise SyntaxError(
            f"%aichat cannot stand in brackets, because its text is the rest of the line "
            f"(line {in_brackets + 1} of the cell). Assign it first: q = %aichat ..."
        )
    return None


def _expects_value(token: tokenize.TokenInfo | None) -> bool:
    """Tell whether a value must follow a token: then a percent sign cannot be the operator."""
    if token is None or token.type == tokenize.OP:
        return token is None or token.string not in _OPERANDS
    return token.type == tokenize.NAME and keyword.iskeyword(token.string) and token.string not in _VALUES
