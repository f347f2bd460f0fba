r"""Markdown to LaTeX that only typesets, for notebooks that are converted to LaTeX and PDF.

Front ends show HTML, and prefer it to LaTeX; nbconvert's LaTeX and PDF take ``text/latex``, and without it would print
the Markdown as it was written. All commands are written here, except those in formulas, which are printed as code where
`latex_math` does not know them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from .characters import terminal_text
from .latex_math import OUTER_ENVIRONMENTS, checked_formula
from .markdown import parsed

if TYPE_CHECKING:
    from markdown_it.token import Token

# Begins and ends no formula: qtconsole would make a picture of it.
_FRAME: Final = ("{\\sloppy\n", "\n\\par}")
_ESCAPES: Final = str.maketrans(
    {
        **{char: f"\\{char}" for char in "{}$&#_%"},
        **{"\\": "\\textbackslash{}", "^": "\\textasciicircum{}", "~": "\\textasciitilde{}"},
        **{"<": "\\textless{}", ">": "\\textgreater{}", "|": "\\textbar{}", "[": "{[}", "]": "{]}"},
        **{"\u2610": "{[}~{]}", "\u2611": "{[}x{]}", "\u00a0": "~", "\u202f": "~"},
    }
)
_CODE_ESCAPES: Final = {
    **_ESCAPES,
    **{ord("-"): "-{}", ord("'"): "\\textquotesingle{}", ord("`"): "\\textasciigrave{}", ord('"'): "\\char34{}"},
    ord("\t"): "~~~~",
}
_MOST_LISTS: Final = 4  # LaTeX refuses more lists in each other
_MOST_ROWS: Final = 30  # of a piece of a table: it is not broken over pages
_NARROW_CHARS: Final = 70
_MARKS: Final = {
    **dict.fromkeys(("strong", "b"), "\\textbf{"),
    **dict.fromkeys(("em", "i", "mark"), "\\emph{"),
    **dict.fromkeys(("sub",), "\\textsubscript{"),
    **dict.fromkeys(("sup",), "\\textsuperscript{"),
    **dict.fromkeys(("kbd", "code"), "\\texttt{"),
    **dict.fromkeys(("u", "ins"), "\\underline{"),
    "small": "{\\small ",
}


def markdown_latex(text: str) -> str:
    """Convert Markdown to LaTeX.

    Args:
        text: Any text.

    Returns:
        The body of a document, in a group; empty where the text cannot be converted.
    """
    try:
        written = _Writer(parsed(terminal_text(text.replace("\0", "\ufffd")))).written()
    except Exception:  # as for HTML: a hostile text must not keep the reply from being shown
        return ""
    return f"{_FRAME[0]}{written}{_FRAME[1]}"


def latex_line(line: str) -> str:
    """Return a line of plain text as a small paragraph of LaTeX; an empty one is empty."""
    return line and f"{{\\footnotesize {_escaped(line)}\\par}}"


def _escaped(text: str) -> str:
    return " ".join(terminal_text(text).split()).translate(_ESCAPES)


def _code(text: str) -> str:
    """Return code for a line of text."""
    return f"\\texttt{{{text.replace(chr(10), ' ').translate(_CODE_ESCAPES)}}}"


class _Writer:
    """The tokens of a text, being written as LaTeX."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        self._tokens = tokens
        self._parts: list[str] = []
        self._labels: list[str] = []  # of the lists that are open: the next number, or a bullet
        self._blocks: list[str] = []  # how the lists and quotes that are open end

    def written(self) -> str:
        """Return all of it."""
        number = 0
        while number < len(self._tokens):
            token = self._tokens[number]
            if token.type == "table_open":
                end = next(n for n in range(number, len(self._tokens)) if self._tokens[n].type == "table_close")
                self._parts.append(_table(self._tokens[number:end]))
                number = end
            else:
                self._write(token)
            number += 1
        return "".join(self._parts)

    def _write(self, token: Token) -> None:
        """Write one token outside of tables."""
        match token.type:
            case "inline" | "prose":
                self._parts.append(_inline(token))
            case "paragraph_close" | "heading_close" | "summary_close" | "footnote_close" | "details_close":
                self._parts.append("}\\par\n" if token.type in ("heading_close", "summary_close") else "\\par\n")
            case "heading_open" | "summary_open":
                self._parts.append("\\par\\medskip\\noindent\\textbf{")
            case "footnote_open":
                self._parts.append(f"\\par\\noindent\\textsuperscript{{{_escaped(token.info)}}} ")
            case "bullet_list_open" | "ordered_list_open":
                start = token.attrGet("start")
                is_ordered = token.type == "ordered_list_open"
                self._labels.append(str(1 if start is None else start) if is_ordered else "")
                self._begin("itemize")
            case "bullet_list_close" | "ordered_list_close":
                self._labels.pop()
                self._end()
            case "blockquote_open":
                self._begin("quote")
            case "blockquote_close":
                self._end()
            case "list_item_open":
                label = self._labels[-1]
                self._labels[-1] = str(int(label) + 1) if label else ""
                shown = f"{label}." if label else "\\textbullet{}"
                self._parts.append(f"\\item[{shown}] " if self._blocks[-1] else f"\\par {shown} ")
            case "list_item_close":
                self._parts.append("\n")
            case "hr":
                self._parts.append("\\par\\noindent\\rule{\\linewidth}{0.4pt}\\par\n")
            case "fence" | "code_block":
                self._parts.append(_code_block(token.content))
            case "math_block":
                self._parts.append(_display(token.content, token.markup))

    def _begin(self, environment: str) -> None:
        """Begin a list or a quote; beyond a depth, its content follows without."""
        is_shown = sum(map(bool, self._blocks)) < _MOST_LISTS
        self._parts.append(f"\\begin{{{environment}}}\n" if is_shown else "\\par\n")
        self._blocks.append(f"\\end{{{environment}}}\n" if is_shown else "")
        # LaTeX refuses a list without an item.
        if is_shown and environment == "quote":
            self._parts.append("\\leavevmode ")

    def _end(self) -> None:
        self._parts.append(self._blocks.pop() or "\\par\n")


def _inline(block: Token) -> str:
    """Return the content of a paragraph, a heading or a cell."""
    if block.type == "prose":
        return _escaped(block.content)
    parts: list[str] = []
    for token in block.children or ():
        match token.type:
            case "text":
                # Spaces at its ends separate it from its neighbours.
                parts.append(re.sub(r"\s+", " ", token.content).translate(_ESCAPES))
            case "softbreak":
                parts.append("\n")
            case "hardbreak":
                parts.append("\\leavevmode\\newline ")
            case "code_inline":
                parts.append(_code(token.content))
            case "pair":
                parts.append("}" if token.markup else _MARKS.get(token.tag, "{"))
            case "strong_open" | "em_open":
                parts.append(_MARKS[token.tag])
            case "strong_close" | "em_close":
                parts.append("}")
            case "s_open" | "s_close":
                parts.append("\\textasciitilde{}\\textasciitilde{}")
            case "link_open":
                parts.append(f"\\href{{{_address(str(token.attrGet('href')))}}}{{")
            case "link_close":
                parts.append("}")
            case "image":
                label = "".join(child.content for child in token.children or ())
                parts.append(_escaped(f"[image: {label}] ({token.attrGet('src')})"))
            case "footnote_mark":
                parts.append(f"\\textsuperscript{{{_escaped(token.content)}}}")
            case "math_inline":
                style = "\\displaystyle " if token.markup in ("$$", "\\[") else ""
                formula = checked_formula(token.content)
                parts.append(f"${style}{formula}$" if formula else _code(token.content))
            case _:
                parts.append(_escaped(token.content))
    return "".join(parts)


def _address(url: str) -> str:
    """Return a URL as an argument; the parser has encoded everything else in it."""
    url = "".join(char if char.isascii() and char.isprintable() else "" for char in url)
    return re.sub(r"[\\{}^\"`| ]", "", url).translate({ord(char): f"\\{char}" for char in "%#&_~$"})


def _code_block(code: str) -> str:
    """Return code whose long lines are wrapped."""
    lines = [
        re.sub(" {2,}|^ ", lambda found: "~" * len(found[0]), line.translate(_CODE_ESCAPES))
        for line in code.rstrip("\n").split("\n")
    ]
    body = "\\\\{}\n".join(line or "~" for line in lines)
    return f"\\begin{{quote}}\\ttfamily\\small\\raggedright\n{body}\n\\end{{quote}}\n"


def _table(tokens: Sequence[Token]) -> str:
    """Return a table, from its opening token to before its closing one."""
    rows: list[list[str]] = []
    lengths: list[list[int]] = []
    sides: list[str] = []
    has_breaks = any(child.type == "hardbreak" for token in tokens for child in token.children or ())
    for token in tokens:
        if token.type == "tr_open":
            rows.append([])
            lengths.append([])
        elif token.type in ("th_open", "td_open") and len(rows) == 1:
            found = re.fullmatch(r"text-align:(left|center|right)", str(token.attrGet("style")))
            sides.append(found[1][0] if found else "l")
        elif token.type == "inline":
            cell = _inline(token)
            rows[-1].append(f"\\textbf{{{cell}}}" if len(rows) == 1 else cell)
            lengths[-1].append(len(token.content))
    widths = [max(3, *column) for column in zip(*lengths, strict=False)]
    if has_breaks or sum(widths) > _NARROW_CHARS:
        total = sum(widths)
        share = 0.9 / total
        sides = [f"p{{{max(0.05, width * share):.2f}\\linewidth}}" for width in widths]
    head, *body = [" & ".join(row) + " \\\\\n" for row in rows]
    pieces = [body[start : start + _MOST_ROWS] for start in range(0, len(body), _MOST_ROWS)] or [[]]
    return "".join(
        f"\\par\\medskip\\noindent\\begin{{tabular}}{{{''.join(sides)}}}\n{head}\\hline\n{''.join(piece)}\\end{{tabular}}\\par\n"
        for piece in pieces
    )


# Formulas


def _display(tex: str, opener: str) -> str:
    """Return a formula on lines of its own, or as code."""
    outer = re.match(r"\\begin\{([a-z]+)\*?\}", tex) if not opener else None
    is_outer = outer is not None and outer[1] in OUTER_ENVIRONMENTS
    formula = checked_formula(tex, is_outer=is_outer)
    if not formula:
        return _code(tex)
    return f"\n{formula}\n" if is_outer else f"\\[{formula}\\]\n"
