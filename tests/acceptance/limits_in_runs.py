"""Limits, quotas, refusals and full queues, as a run over rows meets them. Rows 69 to 71, 74, 77, 80 and 89b."""

from __future__ import annotations

from acceptance.rows import Removal, Row

_LIMITS = "batching/test_limits.py::"
_SHARED = "batching/test_process_limits.py::"
_REFUSALS = "batching/test_refusals.py::"

ROWS: tuple[Row, ...] = (
    Row(
        number=69,
        fault="429 whose wait is known, 15 a minute, 40 rows; 2,000 rows at other limits; fifty runs at once",
        outcome="every row right, few calls wasted; neither attempts of rows nor retries of the run are spent; all "
        "runs of a process keep one limit",
        tests=(
            f"{_LIMITS}test_fifteen_a_minute_answer_every_row",
            f"{_LIMITS}test_two_thousand_rows_come_out_whole_with_few_calls_wasted",
            f"{_LIMITS}test_refusals_for_pace_leave_the_retries_to_other_failures",
            f"{_LIMITS}test_retries_that_a_run_may_make_are_not_needed_for_a_limit",
            f"{_LIMITS}test_row_that_alone_is_refused_is_given_up",
            f"{_LIMITS}test_hints_of_a_refusal_are_those_of_an_answer",
            f"{_LIMITS}test_usage_is_counted_once_whatever_is_sent_again",
            f"{_SHARED}test_fifty_runs_at_once_keep_the_limit_that_one_has",
            f"{_SHARED}test_pause_of_one_run_is_that_of_all",
            f"{_SHARED}test_all_runs_together_have_the_window_of_one",
            f"{_SHARED}test_runs_are_served_in_turn",
            f"{_SHARED}test_paced_runs_are_served_in_turn",
            f"{_SHARED}test_own_limits_of_a_run_stay_its_own",
            f"{_SHARED}test_runs_in_threads_share_a_window",
            f"{_SHARED}test_run_that_is_over_gives_its_places_back",
            f"{_SHARED}test_run_that_is_forgotten_gives_its_places_back",
            f"{_SHARED}test_run_that_does_not_take_its_turn_is_passed_over",
            f"{_SHARED}test_probe_that_is_dropped_is_followed_by_another",
            f"{_SHARED}test_limit_belongs_to_key_host_and_model",
            f"{_SHARED}test_limits_are_those_of_the_parent_no_more_after_a_fork",
            f"{_SHARED}test_runs_of_all_chats_of_a_process_share_their_limits",
        ),
        removals=(
            Removal(
                where="batching.queue:RequestQueue.failed",
                what="RateLimitError",
                by="()",
                tests=(f"{_LIMITS}test_retries_that_a_run_may_make_are_not_needed_for_a_limit",),
            ),
            Removal(
                where="batching.server_limit:ServerLimit._slow_down",
                what="_admitted.start_from",
                by="None",
                tests=(f"{_LIMITS}test_two_thousand_rows_come_out_whole_with_few_calls_wasted",),
            ),
            Removal(
                where="batching.queue:_MAX_LONE_REFUSALS",
                by="10**9",
                tests=(f"{_LIMITS}test_row_that_alone_is_refused_is_given_up",),
            ),
            Removal(
                where="batching.leases:outcome_of",
                what="getattr",
                by="getattr(result, 'retry_after_s', None) if 'status' in dir(result) else None",
                tests=(f"{_LIMITS}test_hints_of_a_refusal_are_those_of_an_answer",),
            ),
            Removal(
                where="batching.process_limits:ProcessLimits._name",
                by="lambda self, endpoint, model: __import__('os').urandom(9)",
                tests=(f"{_SHARED}test_fifty_runs_at_once_keep_the_limit_that_one_has",),
            ),
            Removal(
                where="batching.process_limits:ProcessLimits._name",
                what="endpoint.key",
                by="None",
                tests=(f"{_SHARED}test_limit_belongs_to_key_host_and_model",),
            ),
            Removal(
                where="batching.process_limits:ProcessLimits.home",
                what="self._pid",
                by="__import__('os').getpid()",
                tests=(f"{_SHARED}test_limits_are_those_of_the_parent_no_more_after_a_fork",),
            ),
            Removal(
                where="batching.server_limit:ServerLimit.leave",
                what="self._end_call",
                by="run.leases.pop() if run.leases else None",
                tests=(f"{_SHARED}test_run_that_is_over_gives_its_places_back",),
            ),
            Removal(
                where="batching.limiter:RunLimiter._join",
                what="weakref.finalize",
                by="None",
                tests=(f"{_SHARED}test_run_that_is_forgotten_gives_its_places_back",),
            ),
            Removal(
                where="batching.server_limit:_LATE_S",
                by="10**6",
                tests=(f"{_SHARED}test_run_that_does_not_take_its_turn_is_passed_over",),
            ),
            Removal(
                where="batching.server_limit:ServerLimit._end_call",
                what="self._probe",
                by="self.n_runs",
                tests=(f"{_SHARED}test_probe_that_is_dropped_is_followed_by_another",),
            ),
        ),
    ),
    Row(
        number=70,
        fault="a 429 without any hint",
        outcome="one pause for all, growing to a minute, one probe after it; the run goes on until the limit has not "
        "moved for limit_patience_s, and then stops with nothing lost",
        tests=(
            f"{_LIMITS}test_fifteen_a_minute_answer_every_row",
            f"{_LIMITS}test_two_thousand_rows_come_out_whole_with_few_calls_wasted",
            f"{_LIMITS}test_one_call_probes_after_a_pause_that_grows_to_a_minute",
            f"{_LIMITS}test_limit_that_does_not_move_stops_the_run_and_loses_nothing",
            f"{_SHARED}test_fifty_runs_at_once_keep_the_limit_that_one_has",
        ),
        removals=(
            Removal(
                where="batching.server_limit:ServerLimit._stand_still",
                by="lambda *_: None",
                tests=(f"{_LIMITS}test_one_call_probes_after_a_pause_that_grows_to_a_minute",),
            ),
            Removal(
                where="batching.server_limit:ServerLimit._start_call",
                what="self._standstill",
                by="None",
                tests=(f"{_LIMITS}test_one_call_probes_after_a_pause_that_grows_to_a_minute",),
            ),
            Removal(
                where="batching.standstill:Standstill._MAX_PAUSE_S",
                by="{'limit': 10**6, 'loading': 10.0}",
                tests=(f"{_LIMITS}test_one_call_probes_after_a_pause_that_grows_to_a_minute",),
            ),
            Removal(
                where="batching.queue:RequestQueue._refused",
                what="verdict.stuck_s",
                by="0.0",
                tests=(f"{_LIMITS}test_limit_that_does_not_move_stops_the_run_and_loses_nothing",),
            ),
        ),
    ),
    Row(
        number=71,
        fault="a wait beyond the cap: a quota by the day, Retry-After 25,000; an account with nothing left",
        outcome="stops within 60 calls, no row spent; says when the quota is there again and how to go on",
        tests=(
            f"{_LIMITS}test_wait_of_hours_stops_the_run_and_says_when_the_quota_is_there_again",
            f"{_LIMITS}test_exhausted_quota_spends_no_row",
            f"{_LIMITS}test_one_row_that_the_quota_of_today_does_not_cover_is_its_own_error",
            f"{_REFUSALS}test_quota_is_there_again_at_a_time_of_the_clock",
        ),
        removals=(
            Removal(
                where="batching.queue:_MAX_LONG_WAITS",
                by="100",
                tests=(f"{_LIMITS}test_wait_of_hours_stops_the_run_and_says_when_the_quota_is_there_again",),
            ),
            Removal(
                where="batching.queue:RequestQueue._wait_too_long",
                what="is_alone",
                by="False",
                tests=(f"{_LIMITS}test_one_row_that_the_quota_of_today_does_not_cover_is_its_own_error",),
            ),
            Removal(
                where="batching.queue:RequestQueue._stop",
                what="quota_text",
                by="''",
                tests=(f"{_LIMITS}test_exhausted_quota_spends_no_row",),
            ),
        ),
    ),
    Row(
        number=74,
        part="r",
        fault="503 while the model is being loaded, in a run; no capacity at the tier that was asked for",
        outcome="all rows wait up to two minutes, the bar says so; without capacity they wait as at a limit, or go to "
        "the other tier where the user allows it",
        tests=(
            f"{_LIMITS}test_run_waits_for_a_model_that_is_being_loaded_and_says_so",
            f"{_LIMITS}test_model_that_is_never_loaded_stops_the_run_after_two_minutes",
            f"{_LIMITS}test_no_capacity_waits_like_a_limit",
            f"{_LIMITS}test_where_the_user_allows_it_rows_without_capacity_go_to_the_other_tier_at_once",
            "test_looks.py::test_bar_says_why_a_run_pauses",
        ),
        removals=(
            Removal(
                where="batching.queue:RequestQueue.failed",
                what="ModelLoadingError",
                by="RateLimitError",
                tests=(f"{_LIMITS}test_run_waits_for_a_model_that_is_being_loaded_and_says_so",),
            ),
            Removal(
                where="chat.retry:RetryPolicy.loading_patience_s",
                by="10**6",
                tests=(f"{_LIMITS}test_model_that_is_never_loaded_stops_the_run_after_two_minutes",),
            ),
            Removal(
                where="batching.queue:RequestQueue._refused",
                what="self._has_other_tier",
                by="False",
                tests=(f"{_LIMITS}test_where_the_user_allows_it_rows_without_capacity_go_to_the_other_tier_at_once",),
            ),
            Removal(
                where="batching.progress_bar:ProgressBar.__call__",
                what="progress.pause_reason",
                by="''",
                tests=("test_looks.py::test_bar_says_why_a_run_pauses",),
            ),
        ),
    ),
    Row(
        number=77,
        fault="an error that meets every row: a wrong option, a value that is not supported, a page instead of JSON",
        outcome="stops once the first 8 to 20 answers are the same refusal and nothing has succeeded; says the "
        "server's words and the way out",
        tests=(
            f"{_REFUSALS}test_refusal_of_the_first_rows_stops_the_run",
            f"{_REFUSALS}test_faults_between_them_do_not_hide_it",
            f"{_REFUSALS}test_answers_from_the_store_do_not_hide_that_nothing_succeeds",
            f"{_REFUSALS}test_words_are_the_same_whatever_numbers_and_quotes_are",
            f"{_REFUSALS}test_other_words_are_others",
            f"{_REFUSALS}test_what_goes_wrong_in_the_middle_for_everybody_stops_the_run",
        ),
        removals=(
            Removal(
                where="batching.refusals:SAME_AT_FIRST",
                by="10**9",
                tests=(f"{_REFUSALS}test_refusal_of_the_first_rows_stops_the_run",),
            ),
            Removal(
                where="batching.refusals:same_words",
                by="lambda error: str(error)",
                tests=(f"{_REFUSALS}test_refusal_of_the_first_rows_stops_the_run",),
            ),
            Removal(
                where="batching.queue:RequestQueue._fail",
                what="self._stop",
                by="(self._owner.stop(final), self._owner.finish(request, final))",
                tests=(f"{_REFUSALS}test_refusal_of_the_first_rows_stops_the_run",),
            ),
        ),
    ),
    Row(
        number=80,
        fault="403 or 400 for one flagged prompt among 300; a 403 for the first rows of all",
        outcome="one row's error; the run stops",
        tests=(
            f"{_REFUSALS}test_refusal_of_single_rows_is_theirs",
            f"{_REFUSALS}test_rows_that_are_bad_by_themselves_may_be_many",
            f"{_REFUSALS}test_wrong_rows_at_the_end_of_a_run_are_errors_of_theirs",
            f"{_REFUSALS}test_refusal_of_the_first_rows_stops_the_run",
            f"{_REFUSALS}test_what_goes_wrong_in_the_middle_for_everybody_stops_the_run",
        ),
        removals=(
            Removal(
                where="batching.refusals:is_own",
                by="lambda error: False",
                tests=(f"{_REFUSALS}test_rows_that_are_bad_by_themselves_may_be_many",),
            ),
            Removal(
                where="batching.refusals:SAME_AT_FIRST",
                by="1",
                tests=(f"{_REFUSALS}test_refusal_of_single_rows_is_theirs",),
            ),
            Removal(
                where="batching.refusals:SAME_IN_A_ROW",
                by="10**9",
                tests=(f"{_REFUSALS}test_what_goes_wrong_in_the_middle_for_everybody_stops_the_run",),
            ),
        ),
    ),
    Row(
        number=89,
        part="b",
        fault='`concurrency="auto"` on a server with few slots, whose queue is longer than the timeout',
        outcome="the first timeouts cut the window at once and do not count against the rows; all right",
        tests=(
            f"{_LIMITS}test_timeouts_of_a_full_queue_cost_no_row",
            f"{_LIMITS}test_queue_of_one_slot_is_as_fast_as_one_after_the_other",
            f"{_LIMITS}test_queue_that_is_slow_and_times_nobody_out_is_left_alone",
            f"{_LIMITS}test_server_that_stops_to_answer_stops_the_run_when_the_patience_is_over",
            f"{_LIMITS}test_row_that_is_too_slow_for_its_timeout_is_its_own_error",
            "batching/test_limiter.py::test_timeouts_of_all_calls_halve_the_window",
        ),
        removals=(
            Removal(
                where="batching.server_limit:ServerLimit._learn_timeout",
                what="window.cut",
                by="None",
                tests=(f"{_LIMITS}test_queue_of_one_slot_is_as_fast_as_one_after_the_other",),
            ),
            Removal(
                where="batching.queue:RequestQueue._late",
                what="verdict.is_excused",
                by="False",
                tests=(f"{_LIMITS}test_timeouts_of_a_full_queue_cost_no_row",),
            ),
            Removal(
                where="batching.server_limit:ServerLimit._learn_timeout",
                what="self._n_abandoned",
                by="0",
                tests=(f"{_LIMITS}test_timeouts_of_a_full_queue_cost_no_row",),
            ),
            Removal(
                where="batching.queue:_MAX_LONE_TIMEOUTS",
                by="10**9",
                tests=(f"{_LIMITS}test_server_that_stops_to_answer_stops_the_run_when_the_patience_is_over",),
            ),
        ),
    ),
)
