"""What all rows of a run share: the way to the server, and a budget. Rows 117 and 119."""

from __future__ import annotations

from acceptance.rows import Removal, Row

BATCHES = "aichat_magic/batches.py"
BUDGETS = "aichat_magic/budgets.py"
DISPLAY = "aichat_magic/display.py"
EXTRACTION = "aichat_magic/extraction.py"
JOBS = "aichat_magic/jobs.py"
OUTAGES = "aichat_magic/outages.py"

ROWS: tuple[Row, ...] = (
    Row(
        number=117,
        fault="the network is away for 0.5 s, 5 s, 5 min at 64 and 256 in flight; a server on this machine that "
        "answered before is restarted",
        outcome="one event: all pause, one tries after 1 s, doubling to 30 s, the bar says so; goes on with every row "
        "right; gives up after outage_patience_s with nothing lost; a server that was never there fails soon",
        tests=(
            "batching/test_outages.py::test_rows_survive_an_outage",
            "batching/test_outages.py::test_it_does_not_matter_how_connections_fail",
            "batching/test_outages.py::test_rows_spend_no_attempt_in_an_outage",
            "batching/test_outages.py::test_rows_have_all_their_attempts_after_an_outage",
            "batching/test_outages.py::test_the_time_away_is_made_up_for_by_time_that_goes_well",
            "batching/test_outages.py::test_calls_that_were_sent_before_and_fail_after_an_outage_belong_to_it",
            "batching/test_outages.py::test_calls_that_hang_in_an_outage_until_their_deadline_belong_to_it",
            "batching/test_outages.py::test_lone_resets_are_no_outage",
            "batching/test_outages.py::test_row_that_breaks_its_own_connection_is_given_up_and_the_others_are_not",
            "batching/test_outages.py::test_rows_that_are_too_slow_for_a_proxy_are_not_sent_for_ever",
            "batching/test_outages.py::test_last_rows_that_always_break_come_to_an_end",
            "batching/test_outages.py::test_server_that_is_gone_for_good_stops_the_run_when_the_patience_is_over",
            "batching/test_outages.py::test_server_that_answers_now_and_then_is_not_waited_for_without_end",
            "batching/test_outages.py::test_server_that_was_never_there_is_not_waited_for",
            "batching/test_outages.py::test_network_that_goes_before_the_first_answer_and_is_soon_back_costs_no_row",
            "batching/test_outages.py::test_answers_that_always_break_off_are_no_outage",
            "batching/test_outages.py::test_progress_says_that_the_network_is_away_and_for_how_long",
            "batching/test_outages.py::test_so_many_breaks_in_a_row_are_an_outage",
            "batching/test_outages.py::test_tries_come_after_1_s_then_after_twice_as_long_up_to_30_s",
            "batching/test_faults.py::test_rows_survive_a_server_that_is_away",
            "batching/test_faults.py::test_server_on_this_machine_may_be_restarted",
            "batching/test_faults.py::test_interrupt_in_an_outage_ends_the_run_at_once",
            "test_looks.py::test_bar_says_that_the_network_is_away",
        ),
        removals=(
            Removal(
                file=OUTAGES,
                old="            self.is_on = True\n        if wait_s is not None:",
                new="            pass\n        if wait_s is not None:",
                tests=("batching/test_outages.py::test_rows_survive_an_outage",),
            ),
            Removal(
                file=BATCHES,
                old="(is_try or not self._queue.outages.is_on)",
                new="is_try",
                tests=("batching/test_outages.py::test_rows_survive_an_outage",),
            ),
            Removal(
                file=JOBS,
                old="job.attempt -= not is_paying",
                new="pass",
                tests=("batching/test_outages.py::test_rows_have_all_their_attempts_after_an_outage",),
            ),
            Removal(
                file=JOBS,
                old="elif job.sent_at < outages.over_at or (is_late and outages.is_on):",
                new="elif is_late and outages.is_on:",
                tests=(
                    "batching/test_outages.py::test_calls_that_were_sent_before_and_fail_after_an_outage_belong_to_it",
                ),
            ),
            Removal(
                file=JOBS,
                old="or (is_late and outages.is_on):",
                new="or False:",
                tests=(
                    "batching/test_outages.py::test_calls_that_hang_in_an_outage_until_their_deadline_belong_to_it",
                ),
            ),
            Removal(
                file=OUTAGES,
                old="_IN_A_ROW = 3",
                new="_IN_A_ROW = 1",
                tests=("batching/test_outages.py::test_so_many_breaks_in_a_row_are_an_outage",),
            ),
            Removal(
                file=JOBS,
                old="(job.breaks and not outages.is_on)",
                new="False",
                tests=(
                    "batching/test_outages.py::test_row_that_breaks_its_own_connection_is_given_up_and_the_others_are_not",
                ),
            ),
            Removal(
                file=OUTAGES,
                old="MOST_OUTAGES = 3",
                new="MOST_OUTAGES = 10**9",
                tests=("batching/test_outages.py::test_rows_that_are_too_slow_for_a_proxy_are_not_sent_for_ever",),
            ),
            Removal(
                file=JOBS,
                old="trying.breaks += not was_outage",
                new="pass",
                tests=("batching/test_outages.py::test_last_rows_that_always_break_come_to_an_end",),
            ),
            Removal(
                file=OUTAGES,
                old="self._away_s += now - self._began_at",
                new="pass",
                tests=("batching/test_outages.py::test_the_time_away_is_made_up_for_by_time_that_goes_well",),
            ),
            Removal(
                file=JOBS,
                old="if not is_known and (outages.is_on or error.is_fatal):",
                new="if False:",
                tests=("batching/test_outages.py::test_server_that_was_never_there_is_not_waited_for",),
            ),
            Removal(
                file=OUTAGES,
                old="min(2 * self.try_every_s, LONGEST_TRY_S)",
                new="self.try_every_s",
                tests=("batching/test_outages.py::test_tries_come_after_1_s_then_after_twice_as_long_up_to_30_s",),
            ),
            Removal(
                file=OUTAGES,
                old="was_outage = self.is_on and self._is_certain",
                new="was_outage = self.is_on",
                tests=("batching/test_outages.py::test_answers_that_always_break_off_are_no_outage",),
            ),
            Removal(
                file=BATCHES,
                old="found = min(found, self._clock() + _SAY_EVERY_S)",
                new="pass",
                tests=("batching/test_outages.py::test_progress_says_that_the_network_is_away_and_for_how_long",),
            ),
            Removal(
                file=DISPLAY,
                old="self._bar.refresh()  # no row has moved it",
                new="pass",
                tests=("test_looks.py::test_bar_says_that_the_network_is_away",),
            ),
        ),
    ),
    Row(
        number=119,
        fault="max_cost_usd=10 and $2 a reply, at 64 and 256 in flight; max_total_tokens likewise",
        outcome="what a call may take is reserved before it is sent; passed by no more than what the calls in flight "
        "took beyond that, and with max_tokens by 10 % at most",
        tests=(
            "batching/test_budget.py::test_two_dollars_a_reply",
            "batching/test_budget.py::test_a_budget_that_is_large_holds_nobody_up_for_long",
            "batching/test_budget.py::test_tokens_that_the_server_does_not_count",
            "batching/test_budget.py::test_input_that_is_dearer_than_output",
            "batching/test_budget.py::test_replies_that_grow_pass_the_bound_by_no_more_than_calls_in_flight_were_longer_than_thought",
            "batching/test_budget.py::test_server_that_bills_more_than_its_known_price",
            "batching/test_budget.py::test_server_that_does_not_keep_to_max_tokens",
            "batching/test_budget.py::test_failed_calls_give_back_what_was_set_aside",
            "batching/test_budget.py::test_budget_that_does_not_cover_one_call_sends_none_and_says_so",
            "batching/test_budget.py::test_run_goes_on_when_the_first_call_hangs",
            "batching/test_budget.py::test_two_calls_go_out_until_one_has_come_home",
            "batching/test_runner.py::test_budget_is_used_up_and_not_passed",
            "frames/test_extract.py::test_second_questions_come_out_of_the_same_budget",
        ),
        removals=(
            Removal(
                file=BUDGETS,
                old="self._held_usd += cost_usd",
                new="pass",
                tests=("batching/test_budget.py::test_two_dollars_a_reply",),
            ),
            Removal(
                file=BUDGETS,
                old="_BLIND = 2",
                new="_BLIND = 10**9",
                tests=("batching/test_budget.py::test_two_dollars_a_reply",),
            ),
            Removal(
                file=BUDGETS,
                old="_BLIND = 2",
                new="_BLIND = 1",
                tests=("batching/test_budget.py::test_run_goes_on_when_the_first_call_hangs",),
            ),
            Removal(
                file=BUDGETS,
                old="self._home.set_result(None)",
                new="pass",
                tests=("batching/test_budget.py::test_tokens_that_the_server_does_not_count",),
            ),
            Removal(
                file=BUDGETS,
                old="if is_guess else 1.0",
                new="if False else 1.0",
                tests=(
                    "batching/test_budget.py::test_replies_that_grow_pass_the_bound_by_no_more_than_calls_in_flight_were_longer_than_thought",
                ),
            ),
            Removal(
                file=BUDGETS,
                old="self._cost_ratio = max(self._cost_ratio, usage.cost_usd / price)",
                new="pass",
                tests=("batching/test_budget.py::test_server_that_bills_more_than_its_known_price",),
            ),
            Removal(
                file=BUDGETS,
                old="self._input_ratio = max(self._input_ratio or 0.0, sent / max(estimate, 1))",
                new="self._input_ratio = 1.0",
                tests=("batching/test_budget.py::test_input_that_is_dearer_than_output",),
            ),
            Removal(
                file=BATCHES,
                old="self._plan.budget.report(lease, used)",
                new="used is None or self._plan.budget.report(lease, used)",
                tests=("batching/test_budget.py::test_failed_calls_give_back_what_was_set_aside",),
            ),
            Removal(
                file=EXTRACTION,
                old="index, _forget, first.budget)",
                new="index, _forget)",
                tests=("frames/test_extract.py::test_second_questions_come_out_of_the_same_budget",),
            ),
        ),
    ),
)
