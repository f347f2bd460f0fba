"""What a server says about its limits and about itself, on the wire. Rows 72 to 74; and the parts of others' rows."""

from __future__ import annotations

from acceptance.rows import Removal, Row

WAITS = "http/test_waits.py"
REFUSALS = "http/test_refusals.py"
OPENAI = "providers/test_openai.py"
ASKED = "chat/test_chat.py"

# Row 69, the part that reads; what a run makes of it stands with its row.
READING_TESTS = (
    f"{WAITS}::test_a_wait_in_a_header_is_read",
    f"{WAITS}::test_a_wait_in_a_member_of_the_body_is_read",
    f"{WAITS}::test_a_wait_in_words_is_read",
    f"{WAITS}::test_words_without_a_wait_give_none",
    f"{WAITS}::test_the_latest_of_several_waits_counts",
    f"{WAITS}::test_limits_tell_the_wait_only_where_none_is_named",
    f"{WAITS}::test_the_limit_that_is_used_up_tells_the_wait",
    f"{WAITS}::test_a_refusal_gives_the_same_limits_as_a_success",
    f"{WAITS}::test_limits_in_the_body_of_a_gateway_are_read",
    f"{WAITS}::test_a_wait_that_makes_no_sense_is_none",
    f"{WAITS}::test_any_words_and_headers_give_a_wait_that_makes_sense_or_none",
    f"{WAITS}::test_words_of_any_length_take_bounded_work",
    f"{WAITS}::test_a_huge_body_of_an_error_inside_a_200_is_walked_within_bounds",
    f"{ASKED}::test_wait_that_stands_only_in_the_body_is_kept",
)
READING_REMOVALS = (
    Removal(where="http.waits:_members_s", by="lambda *_: ()", tests=(READING_TESTS[1],)),
    Removal(where="http.waits:_words_s", by="lambda *_: ()", tests=(READING_TESTS[2],)),
    Removal(where="http.waits:_words_s", by="lambda *_: ()", tests=(READING_TESTS[-1],)),
    Removal(where="http.waits:_exhausted_s", by="lambda *_: None", tests=(READING_TESTS[5],)),
    Removal(where="http.waits:retry_after_s", what="max", by="min(waits, default=None)", tests=(READING_TESTS[4],)),
    Removal(where="http.waits:headers_in", by="lambda body: {}", tests=(READING_TESTS[8],)),
    Removal(where="http.durations:MAX_WAIT_S", by="float('inf')", tests=(READING_TESTS[9],)),
    Removal(where="http.errors:_error_for", what="limits_of", by="None", tests=(READING_TESTS[7],)),
)
# Row 71, what tells a quota from a matter of pace.
QUOTA_TESTS = (
    f"{REFUSALS}::test_a_quota_that_is_used_up_is_no_matter_of_pace",
    f"{REFUSALS}::test_a_quota_of_a_day_at_google_is_there_again_at_its_midnight",
    f"{REFUSALS}::test_a_matter_of_pace_is_no_quota",
)
QUOTA_REMOVALS = (
    Removal(where="http.refusals:is_daily_limit", by="lambda body: False", tests=(QUOTA_TESTS[0],)),
    Removal(where="http.refusals:is_out_of_money", by="lambda body: False", tests=(QUOTA_TESTS[0],)),
    Removal(where="http.refusals:_USED_UP", by="re.compile('')", tests=(QUOTA_TESTS[2],)),
    Removal(where="http.errors:_quota_wait_s", what="told.has_google_details", by="False", tests=(QUOTA_TESTS[1],)),
)
# Row 80, what tells the refusal of one row from everybody's.
ROWS_OWN_TESTS = (
    f"{REFUSALS}::test_a_flagged_prompt_is_the_refusal_of_one_row",
    f"{REFUSALS}::test_a_403_for_whoever_asks_stays_everybodys",
    f"{REFUSALS}::test_a_prompt_that_is_too_long_is_told_with_its_numbers",
    f"{REFUSALS}::test_a_row_that_is_larger_than_the_limit_of_a_minute_is_not_waited_for",
)
ROWS_OWN_REMOVALS = (
    Removal(where="http.refusals:is_flagged", by="lambda body: False", tests=(ROWS_OWN_TESTS[0],)),
    Removal(where="http.refusals:_BANNED", by="re.compile('(?!)')", tests=(ROWS_OWN_TESTS[1],)),
    Removal(where="http.refusals:too_long", by="lambda body: None", tests=(ROWS_OWN_TESTS[2],)),
    Removal(where="http.errors:_TOO_LARGE_TO_EVER_FIT", by="re.compile('(?!)')", tests=(ROWS_OWN_TESTS[3],)),
)

_UNIT = f"{WAITS}::test_a_bare_number_has_the_unit_that_fits_limit_remaining_and_period"
_RUN = "batching/test_rate_limit_headers.py::test_run_is_as_fast_as_the_limit_whatever_unit_the_server_writes"
_INSIDE = f"{OPENAI}::test_error_inside_a_200_is_the_one_of_the_status_that_it_stands_for"
_AFTER_TEXT = f"{OPENAI}::test_error_inside_a_200_after_some_text_ends_the_reply"
_RAW = f"{REFUSALS}::test_the_reason_of_a_server_behind_a_gateway_is_shown_with_its_name"
_LOADING = f"{REFUSALS}::test_a_model_that_is_loading_is_told"
_WAITED = f"{ASKED}::test_model_that_takes_a_minute_to_load_is_waited_for_and_it_is_said"

ROWS: tuple[Row, ...] = (
    Row(
        number=72,
        fault="bare numbers in rate headers: Azure's milliseconds, with a period and without; the IETF's, OpenRouter's",
        outcome="the unit that fits limit, remaining and period; a run of 2,000 rows is as fast as with any other "
        "form, and none of its calls is refused",
        tests=(_UNIT, _RUN, f"{WAITS}::test_the_forms_of_limits"),
        removals=(
            Removal(where="http.rate_limits:_unit_s", by="lambda *_: 1.0", tests=(_UNIT,)),
            Removal(where="http.rate_limits:_unit_s", by="lambda *_: 1.0", tests=(_RUN,)),
            Removal(where="http.rate_limits:_unit_s", by="lambda *_: 0.001", tests=(_UNIT,)),
            Removal(where="http.rate_limits:_period_s", by="lambda *_: None", tests=(_UNIT,)),
            Removal(
                where="http.rate_limits:_structured", by="lambda *_: ()", tests=(f"{WAITS}::test_the_forms_of_limits",)
            ),
        ),
    ),
    Row(
        number=73,
        fault="429 or 5xx inside a response of status 200, whole, in a choice or in a stream; OpenRouter's reason in "
        "error.metadata.raw",
        outcome="before any text it is the error of the status that it stands for, with its hints, and tried again; "
        "after text the reply has failed; the reason is shown with the name of the server behind",
        tests=(
            _INSIDE,
            _AFTER_TEXT,
            _RAW,
            f"{ASKED}::test_rate_limit_inside_a_200_is_waited_for",
            "providers/test_anthropic.py::test_errors_are_told_in_the_servers_words_by_status_and_inside_a_stream",
            "providers/test_anthropic.py::test_error_in_the_middle_of_a_reply_is_not_tried_again",
        ),
        removals=(
            Removal(where="http.errors:reported_error", what="told.status", by="None", tests=(_INSIDE,)),
            Removal(where="http.errors:reported_error", what="has_text", by="False", tests=(_AFTER_TEXT,)),
            Removal(
                where="http.errors:reported_error",
                what="told.status",
                by="None",
                tests=(f"{ASKED}::test_rate_limit_inside_a_200_is_waited_for",),
            ),
            Removal(where="http.error_bodies:ErrorBody.message", what="self.values", by="iter(())", tests=(_RAW,)),
        ),
    ),
    Row(
        number=74,
        fault="503 while the model is loaded: llama.cpp, Ollama, TGI, Hugging Face with its estimate",
        outcome="waited for up to two minutes in all, and said in the status line; then given up with a reason",
        tests=(
            _LOADING,
            _WAITED,
            f"{REFUSALS}::test_a_503_is_not_always_a_model_that_is_loading",
            f"{ASKED}::test_model_that_never_loads_is_given_up_after_two_minutes",
            "chat/test_retry.py::test_a_model_that_loads_is_waited_for_up_to_two_minutes",
            "chat/test_retry.py::test_the_servers_estimate_is_waited_for_and_does_not_make_it_longer",
            "chat/test_retry.py::test_a_model_that_loads_is_waited_for_exactly_as_long_as_the_policy_says",
            "chat/test_retry.py::test_without_retries_a_model_that_loads_is_not_waited_for",
        ),
        removals=(
            Removal(where="http.refusals:is_loading", by="lambda body: False", tests=(_LOADING,)),
            Removal(where="http.refusals:is_loading", by="lambda body: False", tests=(_WAITED,)),
            Removal(
                where="http.refusals:is_loading",
                by="lambda body: True",
                tests=(f"{REFUSALS}::test_a_503_is_not_always_a_model_that_is_loading",),
            ),
            Removal(
                where="chat.retry:_MAX_ESTIMATE_S",
                by="1e9",
                tests=("chat/test_retry.py::test_the_servers_estimate_is_waited_for_and_does_not_make_it_longer",),
            ),
            Removal(
                where="chat.retry:_loading_wait_s",
                what="left_s",
                by="1e9",
                tests=(f"{ASKED}::test_model_that_never_loads_is_given_up_after_two_minutes",),
            ),
        ),
    ),
)
