"""Content codings: a body is decoded byte for byte, however it is cut, or an error is raised."""

from __future__ import annotations

import gzip
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aichat_magic.http import decoding
from aichat_magic.http.decoding import (
    EncodedTooLargeError,
    NotEncodedError,
    TruncatedEncodingError,
    UnknownCodingError,
    decoder_for,
)

LARGE = 1 << 30
ERRORS = (TruncatedEncodingError, NotEncodedError)


def decoded(coding, pieces, max_bytes=LARGE):
    """Return the decoded body of these pieces, after checking that it is complete."""
    decoder = decoder_for(coding, max_bytes)
    body = b"".join(out for piece in pieces for out in decoder.feed(piece))
    decoder.finish()
    return body


def cut(data, places):
    """Return the data in pieces that end at these positions."""
    ends = [*sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]


# --- what is encoded


def member(body, *, level=6, name=b"", comment=b"", extra=b"", has_check=False):
    """Return a gzip member with these parts in its header."""
    flags = 2 * has_check + 4 * bool(extra) + 8 * bool(name) + 16 * bool(comment)
    start = struct.pack("<BBBBIBB", 0x1F, 0x8B, 8, flags, 1_700_000_000, 0, 255)
    start += struct.pack("<H", len(extra)) + extra if extra else b""
    start += name + b"\0" if name else b""
    start += comment + b"\0" if comment else b""
    start += struct.pack("<H", zlib.crc32(start) & 0xFFFF) if has_check else b""
    return start + raw_deflate(body, level) + struct.pack("<II", zlib.crc32(body), len(body))


def raw_deflate(body, level=6):
    packer = zlib.compressobj(level, zlib.DEFLATED, -15)
    return packer.compress(body) + packer.flush()


words = st.binary(min_size=1, max_size=12).map(lambda word: word.replace(b"\0", b"x"))
bodies = st.one_of(st.just(b""), st.binary(max_size=60), st.binary(min_size=1, max_size=3).map(lambda b: b * 40_000))
members = st.builds(
    lambda body, **header: (body, member(body, **header)),
    bodies,
    level=st.integers(0, 9),
    name=st.one_of(st.just(b""), words),
    comment=st.one_of(st.just(b""), words),
    extra=st.one_of(st.just(b""), words),
    has_check=st.booleans(),
)
places = st.lists(st.integers(0, 1 << 20), max_size=12)
padding = st.integers(0, 40).map(lambda count: b"\0" * count)


@st.composite
def series(draw):
    """Draw some members with zeros after each: the body, the data, and where each member ends."""
    body, data, ends = b"", b"", {0}
    for one, packed in draw(st.lists(members, min_size=1, max_size=4)):
        body, data = body + one, data + packed
        zeros = draw(padding)
        ends |= set(range(len(data), len(data) + len(zeros) + 1))
        data += zeros
    return body, data, ends


@given(series(), places)
def test_members_come_out_byte_for_byte_however_they_are_cut(one, at):
    body, data, _ = one
    assert decoded("gzip", cut(data, at)) == body
    if len(data) < 300:
        assert decoded("x-gzip", [data[i : i + 1] for i in range(len(data))]) == body


@given(series(), st.integers(0, 1 << 20), places)
def test_a_member_that_is_cut_off_is_an_error(one, end, at):
    body, data, ends = one
    end %= len(data) + 1
    if end in ends:
        assert body.startswith(decoded("gzip", cut(data[:end], at)))
    else:
        with pytest.raises(TruncatedEncodingError):
            decoded("gzip", cut(data[:end], at))


@given(series(), st.binary(min_size=1, max_size=20).filter(lambda b: b.strip(b"\0")), places)
def test_garbage_after_a_member_is_an_error(one, garbage, at):
    with pytest.raises(ERRORS):
        decoded("gzip", cut(one[1] + garbage, at))


@given(series(), st.integers(0, 1 << 20), st.integers(1, 255), places)
def test_a_damaged_byte_is_an_error_or_does_not_matter(one, at, change, cuts):
    body, data, _ = one
    at %= len(data)
    damaged = data[:at] + bytes([data[at] ^ change]) + data[at + 1 :]
    try:
        assert decoded("gzip", cut(damaged, cuts)) == body
    except ERRORS:
        return


@given(bodies, st.integers(0, 9), st.booleans(), places)
def test_deflate_comes_out_with_its_frame_and_without(body, level, is_framed, at):
    data = zlib.compress(body, level) if is_framed else raw_deflate(body, level)
    assert decoded("deflate", cut(data, at)) == body
    for end in {1, min(2, len(data) - 1), len(data) // 2, len(data) - 1}:
        with pytest.raises(TruncatedEncodingError):
            decoded("Deflate", cut(data[:end], at))
    for surplus in (b"\0", b"x", data):
        with pytest.raises(NotEncodedError):
            decoded("deflate", cut(data + surplus, at))


ENCODE = {
    "gzip": gzip.compress,
    "X-GZIP": lambda body: member(body[:5], name=b"a") + member(b"") + member(body[5:]),
    "deflate": zlib.compress,
    "identity": bytes,
    "": bytes,
}


@given(bodies, st.lists(st.sampled_from(sorted(ENCODE)), max_size=4), places)
def test_a_list_of_codings_is_undone_from_the_last_to_the_first(body, codings, at):
    data = body
    for coding in codings:
        data = ENCODE[coding](data)
    header = " ,\t".join(codings)
    if not set(codings) - {"identity", ""}:
        assert decoder_for(header, LARGE) is None
    else:
        assert decoded(header, cut(data, at)) == body


@given(st.binary(max_size=200), st.sampled_from(["gzip", "deflate", "deflate, gzip"]), places)
def test_any_bytes_are_decoded_or_refused(data, coding, at):
    try:
        decoded(coding, cut(data, at))
    except ERRORS:
        return


@pytest.mark.parametrize("coding", ["gzip", "deflate", "gzip, deflate"])
def test_a_body_without_a_byte_is_empty(coding):
    assert decoded(coding, []) == b""
    assert decoded(coding, [b""]) == b""


@pytest.mark.parametrize(
    ("header", "named"), [("br", "br"), ("gzip, ZSTD ", "ZSTD"), ("gzip;q=1", "gzip;q=1"), ("none", "none")]
)
def test_a_coding_that_is_not_known_is_named(header, named):
    with pytest.raises(UnknownCodingError) as caught:
        decoder_for(header, LARGE)
    assert caught.value.coding == named


def test_more_codings_than_anybody_uses_are_refused():
    assert decoder_for(", ".join(["gzip"] * 4), LARGE) is not None
    with pytest.raises(UnknownCodingError):
        decoder_for(", ".join(["gzip"] * 5), LARGE)


# --- size


def test_no_piece_is_larger_than_64_kib_and_none_is_empty():
    data = gzip.compress(bytes(20_000_000))
    for coding in ("gzip", "gzip, identity"):
        sizes = [len(piece) for piece in decoder_for(coding, LARGE).feed(data)]
        assert max(sizes) == 64 * 1024
        assert min(sizes) > 0
        assert sum(sizes) == 20_000_000


def test_what_zlib_holds_back_when_a_piece_is_full_comes_out():
    """zlib may have read its input to the end and still hold up to 258 bytes of output."""
    for size in range(64 * 1024, 64 * 1024 + 300):
        assert len(decoded("deflate", [raw_deflate(bytes(size))])) == size


@pytest.mark.parametrize(
    ("coding", "data"),
    [
        ("gzip", member(b"") + bytes(20_000_000)),
        ("gzip, gzip", gzip.compress(gzip.compress(b"x") + bytes(20_000_000))),
        ("gzip, gzip", gzip.compress(member(b"") * 1_000_000)),
        ("gzip", member(b"") * 1_000_000),
    ],
    ids=["zeros", "zeros inside", "empty members inside", "empty members"],
)
def test_what_gives_little_or_nothing_is_not_read_for_ever(coding, data):
    with pytest.raises(EncodedTooLargeError):
        decoded(coding, [data], max_bytes=1_000_000)


def test_what_zlib_leaves_unread_is_copied_a_bounded_number_of_times(monkeypatch):
    """Each member's end leaves the rest of the data to be copied, so the data is taken in small blocks."""
    given = []

    class Counting:
        def __init__(self, inflate):
            self._inflate = inflate

        def decompress(self, data, most):
            given.append(len(data))
            return self._inflate.decompress(data, most)

        def __getattr__(self, name):
            return getattr(self._inflate, name)

    make = zlib.decompressobj
    monkeypatch.setattr(decoding.zlib, "decompressobj", lambda bits: Counting(make(bits)))
    one = member(b"")

    def work(count):
        given.clear()
        decoded("gzip", [one * count])
        return sum(given)

    assert work(8_000) < 3 * work(4_000)
