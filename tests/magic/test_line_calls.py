"""`%aichat` in cells of Python: row 96. What is transformed must be Python, and all else stay byte for byte."""

import ast
import contextlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from IPython.core.inputtransformer2 import TransformerManager

from aichat_magic.magic.line_calls import with_calls

QUESTION = 'ask What\'s wrong (if anything) with "this" {x}?'


def transformed(cell: str) -> str:
    """As IPython does it: with its own transformers before and after."""
    manager = TransformerManager()
    manager.cleanup_transforms.append(with_calls)
    return manager.transform_cell(cell)


def asked(cell: str) -> list[str]:
    """Return the lines that the magic gets, in order of the cell."""
    calls = [node for node in ast.walk(ast.parse(transformed(cell))) if isinstance(node, ast.Call)]
    found = [call for call in calls if [ast.unparse(arg) for arg in call.args[:1]] == ["'aichat'"]]
    return [ast.literal_eval(call.args[1]) for call in sorted(found, key=lambda call: (call.lineno, call.col_offset))]


@pytest.mark.parametrize(
    "cell",
    [
        "%aichat {}",
        "q = %aichat {}",
        "q: object = %aichat {}",
        "self.q[0] = a = %aichat {}",
        "q += %aichat {}",
        "q = 1, %aichat {}",
        "q = known or %aichat {}",
        "q = lambda: %aichat {}",
        "def f():\n    return %aichat {}",
        "def f():\n    yield %aichat {}",
        "async def f():\n    if True:\n        %aichat {}\n    return 1",
        "for x in 'ab':\n    q = %aichat {}\n    print(q)",
        "for x in 'ab': %aichat {}",
        "x = 1; %aichat {}",
        "class A:\n\tq = %aichat {}",
        "!echo it's (\nx = !echo it's (\nif x: %aichat {}",
        "print?\n%aichat {}",
        "%timeit it's\n%aichat {}",
        "# it's (\nq = %aichat {}",
        "x = '''\n%aichat no?\n'''\nq = %aichat {}",
        "x = [1,\n     2]\nq = %aichat {}",
        "x = 1 + \\\n    2\nq = %aichat {}",
        "q = \\\n  %aichat {}",
        ">>> q = %aichat {}",
        "In [1]: q = %aichat {}",
        "\n\n    q = %aichat {}\n    x = 1",
        'x = f"{{1}} %aichat no?"\nq = %aichat {}\n',
    ],
)
def test_question_is_asked_whole(cell: str) -> None:
    assert asked(cell.replace("{}", QUESTION).replace("{{1}}", "{1}")) == [QUESTION]


def test_several_in_one_cell_are_asked_in_order() -> None:
    cell = (
        "%aichat ask one?\nq = %aichat ask it's (two\nif q:\n    %aichat use x\n    %aichat ask 'three?\n'%aichat no?'"
    )
    assert asked(cell) == ["ask one?", "ask it's (two", "use x", "ask 'three?"]


def test_line_that_goes_on_is_put_together() -> None:
    assert asked("q = %aichat ask one \\\n    two?\nx = 1") == ["ask one      two?"]
    assert asked("%aichat export C:\\out\\") == ["export C:\\out\\"]


def test_unprintable_line_ends_of_the_text_stay_in_it() -> None:
    assert asked("%aichat ask one\x0ctwo\u2028three?") == ["ask one\x0ctwo\u2028three?"]


@pytest.mark.parametrize(
    "cell",
    [
        "%%aichat\n%aichat ask Why?",
        "%%time\nq = %aichat ask Why?",
        "%aichat?",
        "%aichat??",
        "?%aichat",
        "%aichatty ask Why?",
        "x = 7\naichat = 3\nx %aichat",
        "x = 7 %aichat",
        "x = (7\n%aichat)",
        "x = (7\n%aichat )",
        "x = 7 \\\n%aichat",
        "f(x)%aichat",
        "x[0] %aichat",
        "None %aichat",
        "... %aichat",
        "print(q %aichat)",
        "x = [\n    7\n    %aichat]",
        "text = '''\n%aichat ask Why?\n'''",
        'text = """\nq = %aichat ask Why?\n"""',
        "text = '%aichat ask Why?'",
        "text = rb'%aichat ask Why?'",
        "text = f'{x} %aichat ask Why?'",
        "text = f'''{x}\n%aichat ask {x}?\n'''",
        "# %aichat ask Why?",
        "x = 1  # q = %aichat ask Why?",
        "x = 'one \\\n%aichat ask Why?'",
        "x = '''not closed yet\n%aichat ask Why?",
    ],
)
def test_what_is_no_line_of_ours_stays_byte_for_byte(cell: str) -> None:
    lines = cell.splitlines(keepends=True)
    assert with_calls(lines) is lines


@pytest.mark.parametrize(
    "cell", ["x = 1\nprint(%aichat ask Why?)", "x = 1\nq = [1, %aichat ask it's]", "\nx = {'a': %aichat ask (}"]
)
def test_line_in_brackets_is_met_with_what_to_do(cell: str) -> None:
    with pytest.raises(SyntaxError, match=r"line 2 of the cell.*q = %aichat"):
        with_calls(cell.splitlines(keepends=True))


# Python that holds the words of our lines in literals and comments only.
TEXT = st.sampled_from(["%aichat ask Why?", "q = %aichat ask it", "x", "{x}", "%", "(", " ", "#", "?"])
LINES = st.lists(TEXT, max_size=4).map(" ".join)
BLOCK = st.lists(LINES, min_size=1, max_size=3).map("\n".join)


def literal(quote: str, prefix: str) -> Callable[[str], str]:
    return lambda text: f"{prefix}{quote}{text}{quote}"


VALUE = st.one_of(
    LINES.map(literal("'", "")),
    LINES.map(literal('"', "rb")),
    BLOCK.map(literal("'''", "")),
    BLOCK.map(literal('"""', "r")),
    LINES.map(lambda text: f"f'{text.replace('{', '{{').replace('}', '}}')} {{x}}'"),
    BLOCK.map(lambda text: f'f"""{text.replace("{", "{{").replace("}", "}}")} {{x}}"""'),
    st.sampled_from(
        ["x", "7 %aichat", "x %aichat", "(7\n%aichat)", "f(x)\\\n  %aichat", "[x,\n # %aichat ask y?\n x]"]
    ),
)
STATEMENT = st.one_of(
    VALUE,
    VALUE.map(lambda value: f"x = {value}"),
    VALUE.map(lambda value: f"if x:\n    y = {value}\nelse:\n    pass"),
    VALUE.map(lambda value: f"def f(x):\n\t'''%aichat ask Why?'''\n\treturn {value}"),
    LINES.map(lambda text: f"x = 1  # {text}"),
    st.just(""),
)
CELL = st.lists(STATEMENT, max_size=5)


@given(CELL)
def test_any_python_without_our_lines_stays_byte_for_byte(statements: list[str]) -> None:
    cell = "\n".join(statements)
    ast.parse(cell)
    lines = cell.splitlines(keepends=True)
    assert with_calls(lines) is lines


WORDS = st.text(alphabet=st.sampled_from("ab '\"()[]{}#?\\%!:="), max_size=15).map(lambda text: f"ask a{text}b?")


@given(CELL, WORDS, st.sampled_from(["%aichat {}", "q = %aichat {}", "def g():\n    return %aichat {}"]), CELL)
def test_line_among_any_python_is_asked_whole_and_nothing_else_changes(
    before: list[str], words: str, line: str, after: list[str]
) -> None:
    cell = "\n".join([*before, line.replace("{}", words), *after, ""])
    call = f"get_ipython().run_line_magic('aichat', {words!r})"
    expected = "\n".join([*before, line.replace("%aichat {}", call), *after, ""])
    assert "".join(with_calls(cell.splitlines(keepends=True))) == expected


@given(st.lists(st.one_of(st.text(max_size=8), st.sampled_from(["%aichat ask ", "'''", "\n", "\\\n", "=", "(", "!"]))))
def test_any_text_ends_and_is_complete_or_not(parts: list[str]) -> None:
    text = "".join(parts)
    with contextlib.suppress(SyntaxError):
        with_calls(text.splitlines(keepends=True))
