"""Fenced code in Markdown, and the cell that it makes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aichat_magic.text.code_blocks import CodeBlock, blocks, next_cell


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", []),
        ("no ``` fence", []),
        ("```a = 1```", []),
        ("```python\na = 1\n```", [("python", "a = 1")]),
        ("```Python title=x\na = 1\n```\n", [("python", "a = 1")]),
        ("~~~\na\n\n b\n~~~", [("", "a\n\n b")]),
        ("````md\n```\nx\n```\n````", [("md", "```\nx\n```")]),
        ("~~~\n```\n~~~", [("", "```")]),
        ("1. First:\n\n   ```py\n   if a:\n       b\n\n   c\n   ```\n2. Second", [("py", "if a:\n    b\n\nc")]),
        ("```py\nopen", [("py", "open")]),
        ("```\n```", [("", "")]),
        ("```py\na\n```\ntext\n```sh\nls\n```", [("py", "a"), ("sh", "ls")]),
    ],
)
def test_blocks_are_found(text: str, found: list[tuple[str, str]]) -> None:
    assert blocks(text) == tuple(CodeBlock(*block) for block in found)


@given(st.text(alphabet="`~ \n\tapy"))
def test_no_text_makes_it_fail(text: str) -> None:
    next_cell(text)
    assert all(block.text in text or "\n" in block.text for block in blocks(text))


@pytest.mark.parametrize(
    ("text", "cell", "left_out"),
    [
        ("no code", "", ()),
        ("```\n\n```", "", ()),
        ("```python\na\n```\n```py\nb\n```", "a\n\nb", ()),
        ("```\nout\n```\n```py\na\n```\n```bash\nls\n```", "a", ("no language", "bash")),
        ("```bash\nls\n```\n```sql\nselect\n```", "%%bash\nls", ("sql",)),
        ("```\na\n```\n```sql\nselect\n```", "a", ("sql",)),
        ("```sql\nselect 1\n```", "select 1", ()),
        ("```html\n%%html\n<b>\n```", "%%html\n<b>", ()),
    ],
)
def test_cell_is_the_code_of_one_language(text: str, cell: str, left_out: tuple[str, ...]) -> None:
    made = next_cell(text)
    assert (made.text, made.left_out) == (cell, left_out)


@pytest.mark.parametrize(
    ("language", "code", "is_sound"),
    [
        ("python", "a = 1", True),
        ("", "%matplotlib inline\nif x:\n    !ls\n", True),
        ("", "%%time\nwhatever )", True),
        ("py", "a = )", False),
        ("", "ZeroDivisionError: division by zero", False),
        ("", "'\\d'", True),
        ("", "\0", False),
        ("bash", "a = )", True),
        ("python", "# Your code", False),
    ],
)
def test_block_is_sound_when_it_is_what_it_says(language: str, code: str, is_sound: bool) -> None:
    assert CodeBlock(language, code).is_sound is is_sound
