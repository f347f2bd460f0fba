"""Notes, transcripts and tables."""

from hypothesis import given, settings
from hypothesis import strategies as st
from safe_html import FORBIDDEN, HOSTILE, Checked

from aichat_magic.core.messages import Image, Message
from aichat_magic.text.widgets import Cell, Note, Table, Transcript
from aichat_magic.text.wrap import text_width


def test_table_is_aligned_plain_text() -> None:
    table = Table("Usage", ("model", "tokens", "cost"), (("a", 12345, 0.0012), ("longer", 7, None)), "since noon")
    assert str(table).splitlines() == [
        "Usage",
        "model   tokens    cost",
        "------  ------  ------",
        "a       12,345  0.0012",
        "longer       7",
        "since noon",
    ]


def test_table_without_headings_has_no_line_of_them() -> None:
    assert str(Table("", ("", ""), (("a", "b"),))) == "a  b"
    assert "<th" not in Table("", ("", ""), (("a", "b"),))._repr_mimebundle_()["text/html"]


def test_table_without_rows_shows_its_headings() -> None:
    assert str(Table("T", ("a", "b"), (), "none")) == "T\na  b\n-  -\nnone"
    Checked(Table("T", ("a", "b"), ())._repr_mimebundle_()["text/html"])


CELLS = st.one_of(
    st.none(), st.integers(), st.floats(), st.text(st.characters(), max_size=120), st.sampled_from(HOSTILE)
)


@given(st.lists(st.tuples(CELLS, CELLS, CELLS), max_size=4), st.text(st.characters(), max_size=20))
@settings(deadline=None)
def test_any_table_is_clean_and_three_lines_a_row_at_most(rows: list[tuple[Cell, ...]], title: str) -> None:
    table = Table(title, ("<b>", "x\n\x1b", "$y$"), tuple(rows), title)
    bundle = table._repr_mimebundle_()
    Checked(bundle["text/html"])
    assert not FORBIDDEN.search(bundle["text/plain"])
    n_rows = len([row for row in rows if any(cell is not None and f"{cell}".strip() for cell in row)])
    assert len(bundle["text/plain"].split("\n")) <= 4 + 3 * len(rows)
    assert len(bundle["text/plain"].split("\n")) >= 2 * bool(n_rows)


@given(st.lists(st.tuples(st.text(max_size=200), st.text(max_size=200), st.integers(0, 10**9)), min_size=1, max_size=4))
@settings(deadline=None)
def test_table_fits_eighty_columns(rows: list[tuple[str, str, int]]) -> None:
    lines = str(Table("", ("model", "address", "tokens"), tuple(rows), "a note of many words " * 9)).split("\n")
    assert max(map(text_width, lines)) <= 80


def test_long_names_take_several_lines_and_are_not_cut() -> None:
    model = "openrouter/anthropic/claude-sonnet-4.5-20250929"
    rows = ((model, "a conversation with a name", 12, 3456, 7890, "unknown", "██████"),)
    table = Table("Usage", ("model", "conversation", "replies", "in", "out", "cost", "share"), rows)
    lines = str(table).split("\n")
    assert max(map(text_width, lines)) <= 80
    assert len(lines) <= 6
    place = lines[1].index("conversation")
    assert "".join(line[:place].strip() for line in lines[3:]) == model
    assert "…" not in str(table)
    html = table._repr_mimebundle_()["text/html"]
    assert f">{model}</td>" in html


def test_text_beyond_the_last_line_of_a_cell_ends_in_an_ellipsis() -> None:
    lines = str(Table("", ("a", "b"), (("x", "word " * 200),), max_lines=2)).split("\n")
    assert [len(line) <= 80 for line in lines] == [True] * 4
    assert lines[-1].endswith("word…")


def test_column_without_a_cell_is_left_out() -> None:
    table = Table("", ("name", "state", "place"), (("a", "", "here"), ("b", "", "there")))
    assert str(table).split("\n")[0].split() == ["name", "place"]
    assert "state" not in table._repr_mimebundle_()["text/html"]


def test_note_is_clean_text_on_one_line_or_several() -> None:
    note = Note("a <b>\x1b[31m\n  --flag")
    assert str(note) == "a <b>[31m\n  --flag"
    assert Checked(note._repr_mimebundle_()["text/html"]).text == str(note)
    assert "<pre" not in Note("short")._repr_mimebundle_()["text/html"]


def test_transcript_shows_messages_exactly_or_as_markdown() -> None:
    messages = (Message("user", "<b> **x**\x1b"), Message("assistant", "**y**"))
    exact = Transcript(title="Would go", messages=messages, note="about 3 tokens", is_exact=True)
    assert str(exact) == "Would go\n\n[user]\n<b> **x**\n\n[assistant]\n**y**\n\nabout 3 tokens"
    assert "<b> **x**" in Checked(exact._repr_mimebundle_()["text/html"]).text
    html = Transcript(title="t", messages=messages)._repr_mimebundle_()["text/html"]
    assert "<strong>y</strong>" in html
    Checked(html)


def test_pictures_of_an_exact_transcript_are_shown_small() -> None:
    picture, large = Image("image/png", b"\x89PNG..."), Image("image/jpeg", b"\xff" * 300_000)
    messages = (Message("user", "<b>Look</b>", (picture, large)),)
    html = Transcript(title="t", messages=messages, is_exact=True)._repr_mimebundle_()["text/html"]
    assert html.count("<img") == 1
    assert 'src="data:image/png;base64,iVBORy4uLg=="' in html
    assert "[image: jpeg, 300,000 bytes]" in html
    assert "<img" not in Transcript(title="t", messages=messages)._repr_mimebundle_()["text/html"]
