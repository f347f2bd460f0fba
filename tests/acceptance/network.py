"""The network: rows 1 to 23."""

from __future__ import annotations

from acceptance.rows import Removal, Row

NO_RETRY = Removal(where="chat.chat:Chat._wait_or_raise", what="next_wait_s", by="None")
NO_RETRY_OF_ROWS = Removal(where="batching.queue:RequestQueue._fail", what="_retries.spend", by="False")
NO_RETRY_OF_BROKEN_ROWS = Removal(where="batching.queue:RequestQueue._hold", what="next_wait_s", by="None")
BEGUN_OR_NOT = Removal(where="http.errors:connection_error", what="has_begun", by="False")

ROWS: tuple[Row, ...] = (
    Row(
        number=1,
        fault="429 with Retry-After",
        outcome="waits so long, then succeeds; in a batch every worker waits",
        tests=(
            "test_faults.py::test_wait_that_a_server_asks_for_is_waited",
            "test_faults.py::test_every_worker_waits_while_a_server_asks_for_it",
            "chat/test_retry.py::test_what_the_server_asks_for_is_waited_at_least",
            "batching/test_faults.py::test_every_call_waits_for_the_retry_after",
        ),
        removals=(
            Removal(
                where="chat.retry:next_wait_s",
                what="_requested_wait_s",
                by="None",
                tests=("test_faults.py::test_wait_that_a_server_asks_for_is_waited",),
            ),
            Removal(
                where="batching.server_limit:ServerLimit._follow_retry_after",
                by="lambda *_: None",
                tests=("test_faults.py::test_every_worker_waits_while_a_server_asks_for_it",),
            ),
        ),
    ),
    Row(
        number=2,
        fault="Retry-After as an HTTP date; retry-after-ms",
        outcome="the right wait; after a past date the usual one",
        tests=(
            "test_faults.py::test_wait_that_a_server_asks_for_is_waited",
            "test_faults.py::test_wait_that_makes_no_sense_is_the_usual_one",
            "http/test_errors.py::test_seconds_milliseconds_and_dates_are_read",
            "http/test_errors.py::test_a_date_in_the_past_is_none",
        ),
        removals=(
            Removal(where="http.durations:date_s", by="lambda _: math.nan"),
            Removal(
                where="http.waits:_header_s",
                by="lambda headers, now: original({**headers, 'retry-after-ms': ''}, now)",
            ),
            Removal(
                where="http.waits:retry_after_s",
                by="lambda headers, body, limits, now: original(headers, body, limits, now) "
                "or date_s(headers.get('retry-after', '')) - now",
                tests=("test_faults.py::test_wait_that_makes_no_sense_is_the_usual_one",),
            ),
        ),
    ),
    Row(
        number=3,
        fault="Retry-After 0, -10, nan, inf, year 100000, garbage",
        outcome="no crash, the usual wait",
        tests=(
            "test_faults.py::test_wait_that_makes_no_sense_is_the_usual_one",
            "http/test_errors.py::test_a_wait_that_makes_no_sense_is_none",
            "http/test_errors.py::test_any_header_gives_a_positive_number_or_none",
        ),
        removals=(
            Removal(
                where="http.waits:retry_after_s",
                by="lambda headers, body, limits, now: original(headers, body, limits, now) "
                "or {'-10': -10.0, 'nan': float('nan'), 'inf': float('inf')}.get(headers.get('retry-after'))",
                tests=("test_faults.py::test_wait_that_makes_no_sense_is_the_usual_one",),
            ),
            Removal(where="http.durations:date_s", by="lambda text: parsedate_to_datetime(text).timestamp()"),
        ),
    ),
    Row(
        number=4,
        fault="Retry-After above the cap",
        outcome="no retry; the error names the wait",
        tests=(
            "test_faults.py::test_wait_above_the_cap_is_named_and_not_waited",
            "chat/test_retry.py::test_a_server_that_asks_for_too_much_is_not_waited_for",
            "batching/test_limiter.py::test_retry_after_of_an_hour_pauses_nobody",
        ),
        removals=(
            Removal(where="chat.retry:stop_reason", what="policy.retry_after_cap_s", by="math.inf"),
            Removal(
                where="chat.chat:Chat._wait_or_raise",
                what="give_up",
                by="error",
                tests=("test_faults.py::test_wait_above_the_cap_is_named_and_not_waited",),
            ),
        ),
    ),
    Row(
        number=5,
        fault="408, 409, 425, 500, 502, 503, 504, 529, then 200",
        outcome="two calls, success",
        tests=("test_faults.py::test_status_that_may_pass_is_tried_again",),
        removals=(
            NO_RETRY,
            NO_RETRY_OF_ROWS,
            Removal(where="http.errors:_ERROR_TYPES", by="{**original, 425: BadRequestError}"),
            Removal(where="http.errors:_kind", what="ServerError", by="BadRequestError"),
        ),
    ),
    Row(
        number=6,
        fault="400, 401, 403, 404, 413, 422",
        outcome="exactly one call",
        tests=("test_faults.py::test_status_that_stays_is_one_call",),
        removals=(Removal(where="chat.retry:stop_reason", what="error.is_retryable", by="True"),),
    ),
    Row(
        number=7,
        fault="429 for an exhausted quota",
        outcome="one call; a batch stops and keeps the finished rows",
        tests=(
            "test_faults.py::test_exhausted_quota_is_one_call",
            "test_faults.py::test_exhausted_quota_stops_a_run_and_keeps_what_is_finished",
            "http/test_errors.py::test_an_exhausted_account_is_a_quota_error",
            "http/test_errors.py::test_a_minute_that_is_used_up_is_none",
            "batching/test_faults.py::test_spent_quota_stops_the_run_and_keeps_what_is_finished",
        ),
        removals=(
            Removal(
                where="http.errors:_kind",
                what="QuotaError",
                by="RateLimitError",
                tests=("test_faults.py::test_exhausted_quota_is_one_call",),
            ),
            Removal(
                where="batching.refusals:Refusals.final_error",
                what="error.is_fatal",
                by="False",
                tests=("test_faults.py::test_exhausted_quota_stops_a_run_and_keeps_what_is_finished",),
            ),
        ),
    ),
    Row(
        number=8,
        fault="always 500, for 1,000 rows",
        outcome="the retries stay within their budget; the run ends soon and says why",
        tests=(
            "test_faults.py::test_server_that_always_fails_costs_a_run_no_more_than_its_retry_budget",
            "chat/test_retry.py::test_a_budget_never_gives_more_than_it_says",
            "batching/test_runner.py::test_server_that_is_down_ends_the_run_soon_and_says_why",
            "batching/test_faults.py::test_server_that_always_fails_ends_the_run_soon_and_says_why",
        ),
        removals=(
            Removal(
                where="chat.retry:RetryBudget.spend",
                by="lambda _: True",
                tests=("test_faults.py::test_server_that_always_fails_costs_a_run_no_more_than_its_retry_budget",),
            ),
            Removal(
                where="batching.queue:_MAX_FAILURES_IN_A_ROW",
                by="10**9",
                tests=("test_faults.py::test_server_that_always_fails_costs_a_run_no_more_than_its_retry_budget",),
            ),
        ),
    ),
    Row(
        number=9,
        fault="connection refused",
        outcome="tried again, then one line that names URL and cause",
        tests=("test_faults.py::test_closed_port_is_tried_again_and_then_named",),
        removals=(
            NO_RETRY,
            NO_RETRY_OF_BROKEN_ROWS,
            Removal(where="http.errors:_cause", what="_REFUSED", by="''"),
        ),
    ),
    Row(
        number=10,
        fault="reset before the headers",
        outcome="tried again",
        tests=(
            "test_faults.py::test_break_before_the_headers_is_tried_again",
            "http/test_client.py::test_a_break_before_the_headers_can_be_tried_again",
        ),
        removals=(
            NO_RETRY,
            NO_RETRY_OF_BROKEN_ROWS,
            Removal(where="http.errors:_cause", by="lambda *_: ''"),
        ),
    ),
    Row(
        number=11,
        fault="reset inside a body, short Content-Length, truncated gzip",
        outcome="a typed error, never a short answer; the history is as it was",
        tests=(
            "test_faults.py::test_body_that_breaks_off_is_an_error_and_no_short_reply",
            "test_faults.py::test_body_that_breaks_off_once_is_asked_for_again",
            "http/test_client.py::test_a_body_cut_short_is_never_a_short_answer",
            "http/test_client.py::test_a_long_answer_over_tls_is_whole_when_the_server_closes_at_once",
        ),
        removals=(
            Removal(
                where="http.connection:Connection.start_tls",
                what="_Decrypted",
                by="self",
                tests=("http/test_client.py::test_a_long_answer_over_tls_is_whole_when_the_server_closes_at_once",),
            ),
            BEGUN_OR_NOT,
            Removal(where="http.decoding:Decoder.finish", what="TruncatedEncodingError", by="None"),
            Removal(where="http.errors:parse_json", what="is_framed", by="True"),
        ),
    ),
    Row(
        number=12,
        fault="a hang after accept; a drip of a byte every 0.1 s",
        outcome="the total deadline ends it",
        tests=(
            "test_faults.py::test_deadline_holds_for_the_whole_of_a_request",
            "http/test_client.py::test_the_total_deadline_holds",
            "http/test_client.py::test_the_total_deadline_comes_at_its_time",
            "magic/test_extension.py::test_timeout_flag_ends_a_hanging_request",
            "batching/test_runner.py::test_a_run_goes_on_while_calls_that_nobody_answers_take_every_place",
            "batching/test_limiter.py::test_calls_that_nobody_answers_do_not_hold_up_the_others",
            "http/test_client.py::test_total_deadline_holds_while_bytes_arrive_in_every_turn_of_the_loop",
        ),
        removals=(
            Removal(
                where="http.connection:Connection._wait_for_more",
                what="DeadlineExpiredError",
                by="None",
                tests=("http/test_client.py::test_total_deadline_holds_while_bytes_arrive_in_every_turn_of_the_loop",),
            ),
            Removal(
                where="batching.server_limit:ServerLimit._slots",
                what="_outstanding.overdue",
                by="0",
                tests=("batching/test_limiter.py::test_calls_that_nobody_answers_do_not_hold_up_the_others",),
            ),
            Removal(
                where="batching.runner:BatchRunner._replace_overdue",
                what="self._start_workers",
                by="None",
                tests=("batching/test_runner.py::test_a_run_goes_on_while_calls_that_nobody_answers_take_every_place",),
            ),
            Removal(
                where="http.exchange:Exchange._wait",
                what="self._deadline",
                by="self._deadline + 2",
                tests=("http/test_client.py::test_the_total_deadline_comes_at_its_time",),
            ),
        ),
    ),
    Row(
        number=13,
        fault="a stream without [DONE] and finish_reason",
        outcome="the text stays visible and marked, and enters no history; a row is asked for again",
        tests=(
            "test_faults.py::test_text_of_a_stream_that_is_cut_stays_visible_and_marked_and_is_not_kept",
            "test_faults.py::test_body_that_breaks_off_once_is_asked_for_again",
            "magic/test_extension.py::test_text_before_a_broken_stream_stays_visible_and_is_marked",
            "magic/test_extension.py::test_failed_turn_does_not_enter_the_history",
            "chat/test_chat.py::test_stream_is_never_tried_again_after_its_first_text",
            "providers/test_openai.py::test_stream_without_its_end_is_incomplete",
            "providers/test_anthropic.py::test_stream_without_its_end_is_incomplete_and_what_came_is_kept",
        ),
        removals=(
            Removal(
                where="providers.dialect:Dialect._stream",
                what="IncompleteReplyError",
                by="None",
                tests=(
                    "test_faults.py::test_text_of_a_stream_that_is_cut_stays_visible_and_marked_and_is_not_kept",
                    "providers/test_anthropic.py::test_stream_without_its_end_is_incomplete_and_what_came_is_kept",
                ),
            ),
            Removal(
                where="chat.chat:Chat._chunks",
                what="draft.text",
                by="''",
                tests=("chat/test_chat.py::test_stream_is_never_tried_again_after_its_first_text",),
            ),
            Removal(
                where="batching.queue:RequestQueue._fail",
                what="_retries.spend",
                by="False",
                tests=("test_faults.py::test_body_that_breaks_off_once_is_asked_for_again",),
            ),
        ),
    ),
    Row(
        number=14,
        fault="SSE comments, CRLF, CR, data in several lines, BOM, a split emoji, U+2028 and U+0085",
        outcome="the same text as in the plain form",
        tests=(
            "test_faults.py::test_stream_in_any_form_is_the_same_text",
            "http/test_sse.py::test_lines_end_at_cr_lf_and_crlf",
            "http/test_sse.py::test_separators_inside_json_do_not_end_a_line",
            "http/test_sse.py::test_any_cut_of_the_bytes_gives_the_same_events",
            "http/test_client.py::test_events_are_the_same_however_the_bytes_are_cut",
        ),
        removals=(
            Removal(where="http.sse:EventParser.feed", what="self._follows_cr", by="False"),
            Removal(
                where="http.sse:EventParser.feed",
                what="splitlines",
                by="[one.encode() for one in piece[start:].decode('utf-8', 'replace').splitlines(True)]",
                tests=("test_faults.py::test_stream_in_any_form_is_the_same_text",),
            ),
            Removal(where="http.sse:_BOM", by="b''"),
            Removal(where="http.sse:EventParser._dispatch", what="join", by="data[-1]"),
        ),
    ),
    Row(
        number=15,
        fault="an error event in a stream that began well",
        outcome="a typed error; the text stays visible",
        tests=(
            "test_faults.py::test_stream_that_reports_an_error_keeps_its_text_visible_and_enters_no_history",
            "providers/test_openai.py::test_error_inside_a_stream_is_told_in_the_servers_words",
            "providers/test_anthropic.py::test_error_in_the_middle_of_a_reply_is_not_tried_again",
        ),
        removals=(
            Removal(
                where="providers.openai:OpenAI._read_event",
                what="self._reported_error",
                by="None",
                tests=(
                    "test_faults.py::test_stream_that_reports_an_error_keeps_its_text_visible_and_enters_no_history",
                ),
            ),
        ),
    ),
    Row(
        number=16,
        fault="an HTML page with status 200 or 502",
        outcome="a short typed error",
        tests=(
            "test_faults.py::test_page_in_place_of_a_reply_is_a_short_error",
            "http/test_client.py::test_an_html_page_is_a_short_error",
            "http/test_errors.py::test_an_html_page_becomes_a_short_note",
        ),
        removals=(
            Removal(where="http.errors:parse_json", what="html_note", by="''"),
            Removal(
                where="http.errors:status_error",
                what="html_note",
                by="''",
                tests=("test_faults.py::test_page_in_place_of_a_reply_is_a_short_error",),
            ),
        ),
    ),
    Row(
        number=17,
        fault="JSON 10,000 deep, an integer of 5,000 digits, bad UTF-8, NaN",
        outcome="a typed error",
        tests=(
            "test_faults.py::test_hostile_json_is_a_typed_error",
            "http/test_errors.py::test_hostile_json_is_a_typed_error",
            "http/test_client.py::test_hostile_json_is_a_typed_error",
        ),
        removals=(
            Removal(where="http.errors:parse_json", what="RecursionError", by="KeyError"),
            Removal(where="http.errors:_refuse", by="lambda constant: None"),
            Removal(
                where="http.errors:parse_json",
                what="_value_of",
                by="_value_of(data.removeprefix(codecs.BOM_UTF8).decode('utf-8', 'replace'))",
            ),
        ),
    ),
    Row(
        number=18,
        fault="a lone surrogate and a NUL in a reply",
        outcome="stored and shown without a crash",
        tests=(
            "test_faults.py::test_strange_characters_are_shown_stored_and_sent_again",
            "test_faults.py::test_strange_characters_are_stored_for_rows",
            "store/test_sqlite.py::test_any_text_survives",
        ),
        removals=(
            Removal(
                where="providers.dialect:encode_json",
                what="encode",
                by="_JSON.encode(content).encode()",
                tests=("test_faults.py::test_strange_characters_are_shown_stored_and_sent_again",),
            ),
            Removal(
                where="text.characters:terminal_text",
                by="lambda text: text",
                tests=("test_faults.py::test_strange_characters_are_shown_stored_and_sent_again",),
            ),
            Removal(where="store.rows:row_from", what="reply.text.encode", by="reply.text.encode('utf-8', 'replace')"),
        ),
    ),
    Row(
        number=19,
        fault="a gzip bomb of 200 MB; a body without an end",
        outcome="reading stops at the cap, and little memory is taken",
        tests=(
            "test_faults.py::test_bomb_is_a_typed_error_and_one_call",
            "http/test_client.py::test_a_bomb_stops_at_the_cap_and_costs_little_memory",
            "http/test_client.py::test_a_small_cap_is_a_cap",
            "http/test_client.py::test_an_endless_error_body_is_read_in_part",
            "http/test_client.py::test_a_compressed_body_that_gives_nothing_stops_at_the_cap",
            "http/test_decoding.py::test_no_piece_is_larger_than_64_kib_and_none_is_empty",
        ),
        removals=(
            Removal(
                where="http.exchange:Exchange.next_piece",
                what="max_bytes",
                by="float('inf')",
                tests=("http/test_client.py::test_a_small_cap_is_a_cap",),
            ),
            Removal(
                where="http.decoding:_Stream._decode",
                what="inflate.decompress",
                by="inflate.decompress(data)",
                tests=("http/test_decoding.py::test_no_piece_is_larger_than_64_kib_and_none_is_empty",),
            ),
            Removal(
                where="http.decoding:_Stream.feed",
                what="self._left",
                by="0",
                tests=("http/test_client.py::test_a_compressed_body_that_gives_nothing_stops_at_the_cap",),
            ),
        ),
    ),
    Row(
        number=20,
        fault="a redirect to another host, out of TLS, or in a loop",
        outcome="refused; the other server sees nothing",
        tests=(
            "test_faults.py::test_redirect_to_another_server_reaches_nobody",
            "test_faults.py::test_redirect_out_of_tls_reaches_nobody",
            "test_faults.py::test_redirect_to_itself_is_one_call",
            "http/test_client.py::test_a_redirect_is_not_followed",
            "http/test_client.py::test_any_redirect_is_refused",
            "providers/aichat/test_provider.py::test_a_redirect_names_its_target_and_is_not_followed",
        ),
        removals=(Removal(where="http.exchange:Exchange._raise_for_status", what="self._refuse_redirect", by="None"),),
    ),
    Row(
        number=21,
        fault="a self-signed certificate",
        outcome="one try; the error names TLS; verification stays on",
        tests=(
            "test_faults.py::test_certificate_of_nobody_is_tried_once_and_named",
            "http/test_client.py::test_a_certificate_that_does_not_hold_is_refused",
            "http/test_client.py::test_verification_is_off_for_the_request_that_says_so_and_no_other",
            "http/test_client.py::test_what_comes_before_the_tls_handshake_is_no_answer",
            "http/test_connection.py::test_what_came_in_the_clear_is_no_answer_over_tls",
        ),
        removals=(
            Removal(
                where="http.connection:Connection.start_tls",
                what="is_clean",
                by="True",
                tests=("http/test_connection.py::test_what_came_in_the_clear_is_no_answer_over_tls",),
            ),
            Removal(where="http.errors:connection_error", what="_tls_cause", by="None"),
            Removal(
                where="http.client:HttpClient._context", what="tls_context", by="tls_context(False, self._environ)"
            ),
        ),
    ),
    Row(
        number=22,
        fault="a proxy that refuses or is dead, with a password in its URL",
        outcome="no error holds the password",
        tests=(
            "test_faults.py::test_password_of_a_proxy_is_in_no_error",
            "http/test_client.py::test_a_dead_proxy_is_named_without_its_password",
            "http/test_client.py::test_a_proxy_that_refuses_says_so",
            "core/test_urls.py::test_a_proxy_is_named_without_its_password",
        ),
        removals=(Removal(where="core.urls:without_password", by="lambda url: url"),),
    ),
    Row(
        number=23,
        fault="a base URL with port 99999, with ftp://, without a scheme",
        outcome="an error of one line, no group of exceptions",
        tests=(
            "test_faults.py::test_address_that_is_none_is_one_line",
            "core/test_urls.py::test_what_is_no_url_is_one_clear_error",
            "http/test_client.py::test_a_url_that_is_none_is_a_config_error",
            "http/test_client.py::test_a_group_of_exceptions_becomes_one_error",
        ),
        removals=(
            Removal(where="core.urls:_problem", what="schemes", by="(parts.scheme,)"),
            Removal(where="core.urls:_split", what="parts.port", by="1"),
        ),
    ),
)
