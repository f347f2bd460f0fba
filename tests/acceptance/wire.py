"""What is on the wire: codings and trailers."""

from __future__ import annotations

from acceptance.rows import Removal, Row

MEMBERS = "http/test_decoding.py::test_members_come_out_byte_for_byte_however_they_are_cut"

ROWS: tuple[Row, ...] = (
    Row(
        number=121,
        fault="gzip of several members, cut anywhere",
        outcome="every byte of the body, or an error",
        tests=(
            MEMBERS,
            "http/test_decoding.py::test_a_member_that_is_cut_off_is_an_error",
            "http/test_decoding.py::test_garbage_after_a_member_is_an_error",
            "http/test_decoding.py::test_a_damaged_byte_is_an_error_or_does_not_matter",
            "http/test_decoding.py::test_deflate_comes_out_with_its_frame_and_without",
            "http/test_decoding.py::test_a_list_of_codings_is_undone_from_the_last_to_the_first",
            "http/test_decoding.py::test_what_zlib_holds_back_when_a_piece_is_full_comes_out",
            "http/test_decoding.py::test_what_zlib_leaves_unread_is_copied_a_bounded_number_of_times",
            "http/test_client.py::test_no_member_of_gzip_is_lost_however_the_body_is_cut",
            "http/test_client.py::test_every_usual_coding_is_undone",
            "http/test_client.py::test_garbage_after_a_compressed_body_is_malformed",
            "http/test_client.py::test_an_encoding_nobody_asked_for_is_refused_and_named",
        ),
        removals=(
            # An empty piece was taken for "wants more", and what followed it was lost.
            Removal(
                where="http.decoding:_Stream._decode",
                by="lambda self, data: iter([b'', *original(self, data)])",
                tests=("http/test_client.py::test_no_member_of_gzip_is_lost_however_the_body_is_cut",),
            ),
            Removal(where="http.decoding:_Stream._decode", what="unused_data", by="b''", tests=(MEMBERS,)),
            Removal(where="http.decoding:_Gzip._begin", what="lstrip", by="data", tests=(MEMBERS,)),
            Removal(
                where="http.decoding:_Stream._decode",
                what="len",
                by="0",
                tests=("http/test_decoding.py::test_what_zlib_holds_back_when_a_piece_is_full_comes_out",),
            ),
            Removal(
                where="http.decoding:Decoder.finish",
                what="TruncatedEncodingError",
                by="None",
                tests=("http/test_decoding.py::test_a_member_that_is_cut_off_is_an_error",),
            ),
            Removal(
                where="http.decoding:_INPUT_BYTES",
                by="2**30",
                tests=("http/test_decoding.py::test_what_zlib_leaves_unread_is_copied_a_bounded_number_of_times",),
            ),
            Removal(
                where="http.decoding:_Deflate._begin",
                what="_RAW_BITS",
                by="_ZLIB_BITS",
                tests=("http/test_client.py::test_every_usual_coding_is_undone",),
            ),
            Removal(
                where="http.decoding:decoder_for",
                what="UnknownCodingError",
                by="None",
                tests=("http/test_client.py::test_an_encoding_nobody_asked_for_is_refused_and_named",),
            ),
        ),
    ),
    Row(
        number=128,
        fault="20,000 lines of trailers in small pieces; a line without an end, as a trailer or before a chunk",
        outcome="malformed after 100 lines or 64 KiB; nothing is looked at twice",
        tests=(
            "http/test_response.py::test_trailers_are_read_up_to_a_bound_however_they_are_cut",
            "http/test_response.py::test_a_chunk_line_may_not_grow_without_an_end",
            "http/test_response.py::test_a_few_trailers_are_passed_over",
            "http/test_response.py::test_a_body_of_many_small_chunks_is_read",
        ),
        removals=(
            Removal(
                where="http.response:ResponseReader.on_header",
                what="_refuse",
                by="None",
                tests=("http/test_response.py::test_trailers_are_read_up_to_a_bound_however_they_are_cut",),
            ),
            Removal(
                where="http.response:ResponseReader.feed",
                what="self._framing_left",
                by="0",
                tests=("http/test_response.py::test_trailers_are_read_up_to_a_bound_however_they_are_cut",),
            ),
            Removal(
                where="http.response:_FRAMING_PER_BYTE",
                by="10**6",
                tests=("http/test_response.py::test_a_chunk_line_may_not_grow_without_an_end",),
            ),
        ),
    ),
)
