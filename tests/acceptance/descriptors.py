"""File descriptors: row 118."""

from __future__ import annotations

from acceptance.rows import Removal, Row

ROWS: tuple[Row, ...] = (
    Row(
        number=118,
        fault="RLIMIT_NOFILE 256 and 1,024, with all defaults; 50 runs at once in one process",
        outcome="connections take a quarter of the limit at most, and one host not all of it; without a descriptor "
        "less is asked at once and no row fails; the end of a run closes the idle connections but a few",
        tests=(
            "http/test_connection_limit.py::test_runs_with_all_defaults_get_every_row",
            "batching/test_options.py::test_run_has_no_more_workers_than_connections",
            "http/test_connection_limit.py::test_kernel_with_few_descriptors_lives",
            "http/test_connection_limit.py::test_one_host_leaves_places_to_the_others",
            "http/test_connection_limit.py::test_idle_connections_leave_places_to_those_in_use",
            "http/test_connection_limit.py::test_first_come_first_served",
            "http/test_connection_limit.py::test_wait_for_a_place_counts_to_the_deadline",
            "http/test_connection_limit.py::test_limit_falls_to_what_is_open_and_grows_again",
            "http/test_connection_limit.py::test_run_that_finds_few_descriptors_left_goes_on_with_them",
            "http/test_connection_limit.py::test_run_that_finds_no_descriptor_left_waits_for_one",
            "http/test_connection_limit.py::test_question_waits_for_a_descriptor_for_a_while",
            "http/test_connection_limit.py::test_run_leaves_few_idle_connections",
            "http/test_connection_limit.py::test_rows_spend_nothing_when_there_is_no_descriptor",
            "http/test_connection_limit.py::test_try_without_a_descriptor_tells_nothing_of_an_outage",
            "http/test_connection_limit.py::test_run_that_never_finds_a_descriptor_ends",
        ),
        removals=(
            Removal(
                where="http.connection_limit:ConnectionLimit.max_connections",
                what="max",
                by="_UNTOLD",
                tests=("http/test_connection_limit.py::test_kernel_with_few_descriptors_lives",),
            ),
            Removal(
                where="http.connection_limit:ConnectionLimit._has_slot",
                what="max_per_host",
                by="most",
                tests=("http/test_connection_limit.py::test_one_host_leaves_places_to_the_others",),
            ),
            Removal(
                where="http.connection_limit:ConnectionLimit.mark_idle",
                what="_without_an_eighth",
                by="self._max",
                tests=("http/test_connection_limit.py::test_idle_connections_leave_places_to_those_in_use",),
            ),
            Removal(
                where="batching.options:BatchOptions.plan",
                what="limit.share",
                by="10**9",
                tests=("batching/test_options.py::test_run_has_no_more_workers_than_connections",),
            ),
            Removal(
                where="http.exchange:Exchange._send",
                what="patience_at",
                by="0",
                tests=("http/test_connection_limit.py::test_question_waits_for_a_descriptor_for_a_while",),
            ),
            Removal(
                where="batching.queue:_MAX_UNSENT_IN_A_ROW",
                by="0",
                tests=("http/test_connection_limit.py::test_rows_spend_nothing_when_there_is_no_descriptor",),
            ),
            Removal(
                where="batching.queue:RequestQueue._unsent",
                what="outages.probe_unsent",
                by="None",
                tests=("http/test_connection_limit.py::test_try_without_a_descriptor_tells_nothing_of_an_outage",),
            ),
            Removal(
                where="batching.queue:RequestQueue._unsent",
                what="_unsent_in_a_row",
                by="0",
                tests=("http/test_connection_limit.py::test_run_that_never_finds_a_descriptor_ends",),
            ),
            Removal(
                where="batching.runner:BatchRunner.run",
                what="close_idle",
                by="None",
                tests=("http/test_connection_limit.py::test_run_leaves_few_idle_connections",),
            ),
        ),
    ),
)
