"""Formulas that LaTeX can typeset without an error, and that do nothing else.

One formula with an error ends the conversion of a whole notebook, and TeX can read files. So a formula is kept only if
all of its commands are known, and have their arguments.
"""

from __future__ import annotations

import re
from typing import Final

OUTER_ENVIRONMENTS: Final = frozenset("equation multline gather align alignat flalign eqnarray".split())
INNER_ENVIRONMENTS: Final = frozenset(
    "aligned gathered split cases array matrix pmatrix bmatrix Bmatrix vmatrix Vmatrix smallmatrix".split()
)
# By what they need: nothing, a delimiter, one argument, two; operators can have ``limits``.
_PLAIN: Final = frozenset(
    """
    alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi pi varpi rho varrho
    sigma varsigma tau upsilon phi varphi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega
    ell hbar imath jmath Re Im aleph nabla partial infty emptyset varnothing forall exists nexists neg lnot top bot
    angle triangle prime arg dim exp ln log lg sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh coth deg
    hom ker mod bmod cdot cdots ldots dots vdots ddots times div pm mp ast star circ bullet oplus ominus otimes odot
    cup cap setminus wedge vee land lor sqcup sqcap uplus amalg dagger ddagger le leq ge geq ne neq equiv sim simeq
    approx cong propto ll gg prec succ preceq succeq subset supset subseteq supseteq in ni notin not mid parallel
    perp vdash dashv models leqslant geqslant lesssim gtrsim triangleq to gets mapsto leftarrow rightarrow
    leftrightarrow Leftarrow Rightarrow Leftrightarrow longrightarrow longleftarrow Longrightarrow
    Longleftrightarrow implies iff updownarrow nearrow searrow hookrightarrow displaystyle textstyle scriptstyle
    scriptscriptstyle quad qquad because therefore square blacksquare checkmark Box Diamond
    """.split()
)
_OPERATORS: Final = frozenset(
    """
    sum prod coprod int iint iiint oint bigcup bigcap bigoplus bigotimes bigvee bigwedge lim limsup liminf sup inf
    max min det gcd Pr
    """.split()
)
_DELIMITERS: Final = frozenset(
    """
    langle rangle lceil rceil lfloor rfloor lvert rvert lVert rVert vert Vert lbrace rbrace lbrack rbrack uparrow
    downarrow
    """.split()
)
_SIZES: Final = frozenset(
    """
    left right middle big Big bigg Bigg bigl bigr Bigl Bigr biggl biggr Biggl Biggr
    """.split()
)
_ONE_ARGUMENT: Final = frozenset(
    """
    sqrt pmod operatorname xrightarrow hat bar tilde vec dot ddot check breve acute grave widehat widetilde overline
    underline overbrace underbrace overrightarrow boxed mathrm mathbf mathit mathsf mathtt mathcal mathbb mathfrak
    mathscr boldsymbol text textbf textit textrm
    """.split()
)
_TWO_ARGUMENTS: Final = frozenset("frac dfrac tfrac cfrac binom dbinom tbinom overset underset stackrel".split())
_SCRIPTS: Final = frozenset("text textrm mathrm mathbf mathit mathsf mathtt mathcal mathbb".split())
MATH_COMMANDS: Final = frozenset(
    {*_PLAIN, *_OPERATORS, *_DELIMITERS, *_SIZES, *_ONE_ARGUMENT, *_TWO_ARGUMENTS, "limits", "nolimits", "begin", "end"}
)
_SIGNS: Final = frozenset("\\,;:! {}|%&#_$")
_TOKEN: Final = re.compile(r"\\(?:(?:begin|end)\{[^{}]*\}|[A-Za-z]+\*?|.)|\s+|.", re.DOTALL)
_MOST_GROUPS: Final = 200  # each is read again for the one around it
_COLUMNS: Final = re.compile(r"\{[lcr|]{1,20}\}|\{\d\}")


def checked_formula(tex: str, *, is_outer: bool = False) -> str:
    """Return a formula that LaTeX can typeset; empty where that is not certain.

    Args:
        tex: The formula, without delimiters.
        is_outer: Whether it is an environment that stands outside of formulas, such as ``align``.
    """
    if tex.count("{") > _MOST_GROUPS:
        return ""
    tokens = [found[0] for found in _TOKEN.finditer(tex)]
    return re.sub(r"\s*\n\s*", "\n", tex.strip()) if _is_sound([*tokens, " "], is_outer) else ""


def _is_sound(tokens: list[str], is_outer: bool) -> bool:
    """Tell whether all tokens of a formula are allowed where they stand."""
    opened: list[str] = []  # groups, environments, and what begins with \\left
    scripts = ""  # of the atom before
    before, place = "", 0
    while place < len(tokens):
        token, name = tokens[place], tokens[place][1:].rstrip("*")
        place += 1
        if token.isspace():
            continue
        if token in "^_":
            place = _argument_end(tokens, place, is_script=True)
            if token in scripts or place < 0:
                return False
            scripts += token
            before = token
            continue
        if token == "'":
            if "^" in scripts:
                return False
            continue
        scripts = ""
        if token == "{":
            opened.append(token)
        elif token == "}":
            if not opened or opened.pop() != "{":
                return False
        elif token == "&" or token == "\\\\":
            if not opened or opened[-1] in ("{", "left"):
                return False
        elif token.startswith(("\\begin{", "\\end{")):
            place = _environment(tokens, place, opened, is_outer)
        elif token in ("\\left", "\\right"):
            if token == "\\left":
                opened.append("left")
            elif not opened or opened.pop() != "left":
                return False
            place = _delimiter_end(tokens, place)
        elif token.startswith("\\"):
            place = _command_end(tokens, place, name, before)
        elif token in '$%#~"' or not token.isprintable():
            return False
        if place < 0:
            return False
        before = token
    return not opened


def _environment(tokens: list[str], place: int, opened: list[str], is_outer: bool) -> int:
    """Open or close an environment; return where it goes on, -1 where it may not stand."""
    kind, _, name = tokens[place - 1][1:-1].partition("{")
    if kind == "end":
        return place if opened and opened.pop() == name else -1
    if name.rstrip("*") not in (OUTER_ENVIRONMENTS if is_outer and not opened else INNER_ENVIRONMENTS):
        return -1
    opened.append(name)
    if name.rstrip("*") not in ("array", "alignat"):
        return place
    rest = "".join(tokens[place : place + 30])
    found = _COLUMNS.match(rest)
    return place + len(found[0]) if found else -1


def _command_end(tokens: list[str], place: int, name: str, before: str) -> int:
    """Return where a command ends, with its arguments; -1 where it is not known, or lacks one."""
    if name in _PLAIN or name in _OPERATORS or name in _DELIMITERS or name in _SIGNS:
        return place
    if name in ("limits", "nolimits"):
        return place if before[1:] in _OPERATORS else -1
    if name in _SIZES:
        return _delimiter_end(tokens, place)
    if name == "sqrt" and tokens[place] == "[":
        root = "".join(tokens[place : place + 4])
        found = re.match(r"\[[A-Za-z0-9]\]", root)
        return _argument_end(tokens, place + 3) if found else -1
    if name in _ONE_ARGUMENT:
        return _argument_end(tokens, place)
    return _argument_end(tokens, _argument_end(tokens, place)) if name in _TWO_ARGUMENTS else -1


def _argument_end(tokens: list[str], place: int, *, is_script: bool = False) -> int:
    """Return where an argument ends: a group, a letter or a digit; -1 where there is none, or it is not sound."""
    while 0 <= place < len(tokens) and tokens[place].isspace():
        place += 1
    if not 0 <= place < len(tokens):
        return -1
    token = tokens[place]
    if token == "{":
        depth = 0
        for end in range(place, len(tokens)):
            depth += (tokens[end] == "{") - (tokens[end] == "}")
            if depth == 0:
                return end + 1 if _is_sound([*tokens[place + 1 : end], " "], False) else -1
        return -1
    if token.isalnum() and token.isascii():
        return place + 1
    if is_script and (token in "*+-" or (token.startswith("\\") and token[1:] in _PLAIN)):
        return place + 1
    if is_script and token.startswith("\\") and token[1:] in _SCRIPTS:
        return _argument_end(tokens, place + 1)
    return -1


def _delimiter_end(tokens: list[str], place: int) -> int:
    """Return where a delimiter ends; -1 where there is none."""
    while place < len(tokens) and tokens[place].isspace():
        place += 1
    token = tokens[place] if place < len(tokens) else ""
    is_one = token in tuple("()[]|/.<>") or (
        token[:1] == "\\" and (token[1:] in _DELIMITERS or token[1:] in tuple("{}|"))
    )
    return place + 1 if is_one else -1
