"""What all rows of a run share: the way to the server, and a budget. Rows 117 and 119."""

from __future__ import annotations

from acceptance.rows import Removal, Row

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
                where="batching.outages:Outages.broke",
                what="self._in_a_row",
                by="0",
                tests=("batching/test_outages.py::test_rows_survive_an_outage",),
            ),
            Removal(
                where="batching.runner:BatchRunner._send",
                what="outages.is_on",
                by="True",
                tests=("batching/test_outages.py::test_rows_survive_an_outage",),
            ),
            Removal(
                where="batching.queue:RequestQueue._break",
                by="lambda self, job, error, others_out: "
                "(spent := job.attempt, original(self, job, error, others_out), setattr(job, 'attempt', spent))",
                tests=("batching/test_outages.py::test_rows_have_all_their_attempts_after_an_outage",),
            ),
            Removal(
                where="batching.queue:RequestQueue.failed",
                what="outages.over_at",
                by="-math.inf",
                tests=(
                    "batching/test_outages.py::test_calls_that_were_sent_before_and_fail_after_an_outage_belong_to_it",
                ),
            ),
            Removal(
                where="batching.queue:RequestQueue.failed",
                what="outages.is_on",
                by="False",
                tests=(
                    "batching/test_outages.py::test_calls_that_hang_in_an_outage_until_their_deadline_belong_to_it",
                ),
            ),
            Removal(
                where="batching.outages:_IN_A_ROW",
                by="1",
                tests=("batching/test_outages.py::test_so_many_breaks_in_a_row_are_an_outage",),
            ),
            Removal(
                where="batching.queue:RequestQueue.failed",
                what="job.breaks",
                by="0",
                tests=(
                    "batching/test_outages.py::test_row_that_breaks_its_own_connection_is_given_up_and_the_others_are_not",
                ),
            ),
            Removal(
                where="batching.outages:MOST_OUTAGES",
                by="30",
                tests=("batching/test_outages.py::test_rows_that_are_too_slow_for_a_proxy_are_not_sent_for_ever",),
            ),
            Removal(
                where="batching.queue:RequestQueue._over",
                by="lambda self: (job := self.outages.trying, breaks := job and job.breaks, original(self), "
                "job and setattr(job, 'breaks', breaks))",
                tests=("batching/test_outages.py::test_last_rows_that_always_break_come_to_an_end",),
            ),
            Removal(
                where="batching.outages:Outages.over",
                what="self._began_at",
                by="now",
                tests=("batching/test_outages.py::test_the_time_away_is_made_up_for_by_time_that_goes_well",),
            ),
            Removal(
                where="batching.queue:RequestQueue._break",
                what="_owner.stop",
                by="None",
                tests=("batching/test_outages.py::test_server_that_was_never_there_is_not_waited_for",),
            ),
            Removal(
                where="batching.outages:Outages.missed",
                what="LONGEST_TRY_S",
                by="self.try_every_s",
                tests=("batching/test_outages.py::test_tries_come_after_1_s_then_after_twice_as_long_up_to_30_s",),
            ),
            Removal(
                where="batching.outages:Outages.over",
                what="self._is_certain",
                by="True",
                tests=("batching/test_outages.py::test_answers_that_always_break_off_are_no_outage",),
            ),
            Removal(
                where="batching.runner:BatchRunner._next_at",
                what="min",
                by="found",
                tests=("batching/test_outages.py::test_progress_says_that_the_network_is_away_and_for_how_long",),
            ),
            Removal(
                where="batching.progress_bar:ProgressBar.__call__",
                what="_bar.refresh",
                by="None",
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
                where="batching.budget:Budget._lease",
                what="self._held_usd",
                by="0",
                tests=("batching/test_budget.py::test_two_dollars_a_reply",),
            ),
            Removal(
                where="batching.budget:_BLIND", by="10**9", tests=("batching/test_budget.py::test_two_dollars_a_reply",)
            ),
            Removal(
                where="batching.budget:_BLIND",
                by="1",
                tests=("batching/test_budget.py::test_run_goes_on_when_the_first_call_hangs",),
            ),
            Removal(
                where="batching.budget:Budget.report",
                what="set_result",
                by="None",
                tests=("batching/test_budget.py::test_tokens_that_the_server_does_not_count",),
            ),
            Removal(
                where="batching.budget:Budget._lease",
                what="is_guess",
                by="False",
                tests=(
                    "batching/test_budget.py::test_replies_that_grow_pass_the_bound_by_no_more_than_calls_in_flight_were_longer_than_thought",
                ),
            ),
            Removal(
                where="batching.budget:Budget._learn",
                what="price",
                by="math.inf",
                tests=("batching/test_budget.py::test_server_that_bills_more_than_its_known_price",),
            ),
            Removal(
                where="batching.budget:Budget._input",
                what="self._input_ratio",
                by="(original and 1.0)",
                tests=("batching/test_budget.py::test_input_that_is_dearer_than_output",),
            ),
            Removal(
                where="batching.runner:BatchRunner._attempt",
                what="budget.report",
                by="used is None or original",
                tests=("batching/test_budget.py::test_failed_calls_give_back_what_was_set_aside",),
            ),
            Removal(
                where="frames.extract:Extraction._run",
                what="budget",
                by="None",
                tests=("frames/test_extract.py::test_second_questions_come_out_of_the_same_budget",),
            ),
        ),
    ),
)
