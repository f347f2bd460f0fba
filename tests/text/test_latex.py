"""Markdown to LaTeX: readable when a notebook is converted, and nothing in it does more than typeset."""

import re
from collections.abc import Iterator

import pytest
from hypothesis import example, given, settings
from safe_html import HOSTILE, MARKDOWN

from aichat_magic.core.messages import Reply
from aichat_magic.core.usage import Usage
from aichat_magic.text.latex import markdown_latex
from aichat_magic.text.latex_math import INNER_ENVIRONMENTS, MATH_COMMANDS, OUTER_ENVIRONMENTS, checked_formula
from aichat_magic.text.reply_view import reply_bundle

# All that is written outside of formulas.
OURS = set(
    "sloppy par medskip noindent textbf emph textsubscript textsuperscript texttt underline small footnotesize href "
    "begin end item textbullet leavevmode newline hline rule linewidth ttfamily raggedright textbackslash "
    "textasciicircum textasciitilde textless textgreater textbar textquotesingle textasciigrave char "
    "displaystyle".split()
)
ENVIRONMENTS = {"itemize", "quote", "tabular", *OUTER_ENVIRONMENTS, *INNER_ENVIRONMENTS}


def parts(written: str) -> Iterator[re.Match[str]]:
    return re.finditer(r"\\([A-Za-z]+)|\\(.)|([{}])", written, re.DOTALL)


def check(written: str) -> None:
    """Assert that LaTeX has only commands that are known, each group and environment closed, and no comment."""
    depth = 0
    for part in parts(written):
        if part[1]:
            assert part[1] in OURS | MATH_COMMANDS, part[1]
        depth += {"{": 1, "}": -1}.get(part[3] or "", 0)
        assert depth >= 0
    assert depth == 0
    opened: list[str] = []
    for kind, name in re.findall(r"(?<!\\)\\(begin|end)\{([^{}]*)\}", written):
        assert name.rstrip("*") in ENVIRONMENTS
        if kind == "begin":
            opened.append(name)
        else:
            assert opened.pop() == name
    assert opened == []
    bare = re.sub(r"\\(?:[A-Za-z]+|.)", "", written, flags=re.DOTALL)
    assert bare.count("$") % 2 == 0
    for sign in "%#":
        assert sign not in bare
    assert all(
        re.match(r"https?:|mailto:", found, re.IGNORECASE) for found in re.findall(r"\\href\{([^{}]*)\}", written)
    )


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_only_typeset(text: str) -> None:
    check(markdown_latex(text))


@given(MARKDOWN)
@example(r"$\input{/etc/passwd}$ \input{x} \write18{ls} $\def\x{y}$ $\csname input\endcsname$ $^^5cinput$")
@example("\\begin{align}\n\\begin{verbatim}x\\end{verbatim}\n\\end{align}")
@settings(max_examples=300, deadline=None)
def test_any_text_gives_only_commands_of_ours(text: str) -> None:
    written = markdown_latex(text)
    check(written)
    # qtconsole makes a picture of what looks like a formula.
    assert written[:1] not in ("$", "\\")


@pytest.mark.parametrize(
    "tex",
    [
        r"\input{/etc/passwd}", r"\write18{ls}", r"\def\x{y}", r"\href{javascript:x}{y}", r"\csname x\endcsname",
        "a % b",
        r"\frac{a", "a}{b", r"\left( a", r"a \\ b", "a & b", "x^", "x^_2", r"\begin{pmatrix} a",
        r"\begin{verbatim}x\end{verbatim}",
        r"\unknowncommand", "^^5cinput{x}", r"\frac", r"\frac{a}", r"\hat", "x^a^b", "x^2'", r"x\limits_a",
        r"\left a \right)",
        r"{\left( a} \right)", r"\sqrt[\input]{x}", r"\text{\input{x}}", r"\begin{array}{@{}c}a\end{array}",
        r"\mathbb{$}", r"\end{pmatrix}\begin{pmatrix}",
    ],
)  # fmt: skip
def test_formula_that_could_fail_or_do_more_is_printed_as_code(tex: str) -> None:
    assert checked_formula(tex) == ""


@pytest.mark.parametrize(
    "tex",
    [
        r"x_1^2 + \frac{a}{b}", r"\sum_{i=1}^{n} x_i", r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}",
        r"\left( \hat{\beta} \right)", r"\mathbb{R}^n \to \mathbb{R}", r"P(A \mid B) = \text{a b}", r"96\,\%",
        r"x'^2 + x_a^b", r"\sum\limits_{i} \sqrt[3]{x} \frac12", r"x_\text{max}",
        r"\begin{array}{lc} a & b \end{array}",
    ],
)  # fmt: skip
def test_formulas_are_kept(tex: str) -> None:
    assert f"${tex}$" in markdown_latex(f"so ${tex}$ is")


def test_reply_reads_like_a_document() -> None:
    text = (
        "## Gaps & more\n\nUse **`isna()`**: 50%, [x](https://example.org/a_b?c=1#d).\n\n- one\n- [x] two\n\n"
        "| a | b |\n|---|--:|\n| x<br>y | 1 |\n\n```python\nif a_1:\n    f('x')\n```\n\n> q\n\n"
        "<details><summary>More</summary>H<sub>2</sub>O[^1]</details>\n\n[^1]: Note\n\n$$\na = b\n$$"
    )
    written = markdown_latex(text)
    check(written)
    for words in (
        "\\textbf{Gaps \\& more}", "\\textbf{\\texttt{isna()}}: 50\\%", "\\href{https://example.org/a\\_b?c=1\\#d}{x}",
        "\\item[\\textbullet{}] one", "x\\leavevmode\\newline y & 1", "if a\\_1:\\\\{}\n~~~~f(\\textquotesingle{}x",
        "\\begin{quote}", "\\textbf{More}", "H\\textsubscript{2}O\\textsuperscript{1}", "\\textsuperscript{1} Note",
        "\\[a = b\\]",
    ):  # fmt: skip
        assert words in written, words
    assert "**" not in written
    assert "|-" not in written


def test_lists_deeper_than_latex_allows_are_still_shown() -> None:
    written = markdown_latex("".join("  " * depth + f"- level{depth}\n" for depth in range(12)))
    check(written)
    assert written.count("\\begin{itemize}") == 4
    assert "level11" in written


def test_long_tables_are_broken_into_pieces_and_wide_ones_wrapped() -> None:
    written = markdown_latex("|a|b|\n|-|-|\n" + f"|{'word ' * 30}|y|\n" * 70)
    check(written)
    assert written.count("\\begin{tabular}{p{") == 3


def test_text_that_cannot_be_converted_has_no_latex() -> None:
    assert markdown_latex("> " * 200 + "x") == ""
    assert "text/latex" not in reply_bundle(Reply(text="x" * 100_000))


def test_reply_has_its_header_mark_and_facts_but_no_thinking() -> None:
    reply = Reply(
        text="Hi", model="a/b_c", thinking="Hm", usage=Usage(input_tokens=1, output_tokens=2), finish_reason="length"
    )
    written = reply_bundle(reply, header=["50% left"])["text/latex"]
    assert written.startswith("{\\footnotesize 50\\% left\\par}\n")
    assert "cut by max\\_tokens" in written
    assert "a/b\\_c" in written
    assert "Hm" not in written
