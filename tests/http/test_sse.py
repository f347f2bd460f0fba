"""Server-sent events, parsed from bytes."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aichat_magic.core.errors import MalformedReplyError, TooLargeError
from aichat_magic.http.sse import EventParser, ServerSentEvent


def parsed(*pieces: bytes) -> list[ServerSentEvent]:
    parser = EventParser("test")
    return [event for piece in pieces for event in parser.feed(piece)]


def texts(*pieces: bytes) -> list[str]:
    return [event.data for event in parsed(*pieces)]


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_lines_end_at_cr_lf_and_crlf(end):
    assert texts(b"data: a" + end + b"data: b" + end + end + b"data: c" + end + end) == ["a\nb", "c"]


def test_a_crlf_cut_in_two_is_one_line_end():
    assert texts(b"data: a\r", b"\ndata: b\r", b"\n\r", b"\n") == ["a\nb"]


def test_an_event_comes_with_its_blank_line_and_not_later():
    parser = EventParser()
    assert parser.feed(b"data: a\r\n\r") == [ServerSentEvent("", "a")]
    assert parser.feed(b"\ndata: b\n\n") == [ServerSentEvent("", "b")]


def test_comments_unknown_fields_and_events_without_data_give_nothing():
    assert parsed(b": hello\n\nid: 1\nretry: 5\nnonsense\n\nevent: ping\n\ndata: x\n\n") == [ServerSentEvent("", "x")]


def test_the_event_name_belongs_to_one_event():
    assert parsed(b"event: error\ndata: x\n\ndata: y\n\n") == [
        ServerSentEvent("error", "x"),
        ServerSentEvent("", "y"),
    ]


def test_one_space_after_the_colon_is_dropped_and_only_one():
    assert texts(b"data:a\n\ndata: a\n\ndata:  a\n\ndata\n\n") == ["a", "a", " a", ""]


def test_a_bom_is_dropped_at_the_beginning_only():
    bom = b"\xef\xbb\xbf"
    assert texts(bom[:1], bom[1:] + b"data: a\n\n") == ["a"]
    assert texts(b"data: a\n\n" + bom + b"data: b\n\n") == ["a"]


def test_separators_inside_json_do_not_end_a_line():
    value = {"text": "a\u2028b\u2029c\u0085d\x0be\x0cf\x1cg 😀"}
    line = b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n"
    alone = [line[i : i + 1] for i in range(len(line))]
    assert json.loads(texts(*alone)[0]) == value


def test_text_that_is_not_utf8_is_an_error():
    with pytest.raises(MalformedReplyError, match="UTF-8"):
        parsed(b"data: \xff\n\n")


@pytest.mark.parametrize("piece", [b"data: aaaaaaa\n", b"data: aaaaaaa", b":aaaaaaaaaaaa"])
def test_an_endless_event_stops_at_the_cap(piece):
    parser = EventParser(max_event_bytes=10_000)
    for _ in range(10_000 // len(piece.rstrip())):
        parser.feed(piece)
    with pytest.raises(TooLargeError):
        parser.feed(piece)


def test_a_long_stream_of_small_events_and_comments_is_not_capped():
    parser = EventParser(max_event_bytes=100)
    assert sum(len(parser.feed(b": keep alive\ndata: abc\n\n")) for _ in range(1000)) == 1000
    assert all(not parser.feed(b": keep alive\n") for _ in range(1000))


@pytest.mark.parametrize("rest", [b"data: [DONE]", b"data: [DONE]\n", b"data: [DONE]\r\n"])
def test_a_whole_stream_may_lack_its_last_blank_line(rest):
    parser = EventParser()
    assert parser.feed(b"data: a\n\n" + rest) == [ServerSentEvent("", "a")]
    assert parser.finish() == [ServerSentEvent("", "[DONE]")]
    assert parser.finish() == []


@given(
    events=st.lists(
        st.tuples(
            st.sampled_from(["", "error"]), st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]))
        )
    ),
    end=st.sampled_from([b"\n", b"\r", b"\r\n"]),
    data=st.data(),
)
def test_any_cut_of_the_bytes_gives_the_same_events(events, end, data):
    lines = []
    for name, text in events:
        lines += [b"event: " + name.encode()] if name else []
        lines += [b"data: " + text.encode(), b""]
    stream = b"".join(line + end for line in lines)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=10)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert parsed(*pieces) == [ServerSentEvent(name, text) for name, text in events]


@given(st.lists(st.binary()))
def test_no_bytes_raise_anything_but_our_error(pieces):
    parser = EventParser()
    try:
        for piece in pieces:
            parser.feed(piece)
        parser.finish()
    except MalformedReplyError:
        pass
