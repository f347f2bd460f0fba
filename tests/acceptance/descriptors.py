"""File descriptors: row 118."""

from __future__ import annotations

from acceptance.rows import Removal, Row

LIMIT = "aichat_magic/connection_limit.py"

ROWS: tuple[Row, ...] = (
    Row(
        number=118,
        fault="RLIMIT_NOFILE 256 and 1,024, with all defaults; 50 runs at once in one process",
        outcome="connections take a quarter of the limit at most, and one host not all of it; without a descriptor "
        "less is asked at once and no row fails; the end of a run closes the idle connections but a few",
        tests=(
            "http/test_connection_limit.py::test_runs_with_all_defaults_get_every_row",
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
                file=LIMIT,
                old="max(_LEAST, descriptors // SHARE)",
                new="_UNTOLD",
                tests=("http/test_connection_limit.py::test_kernel_with_few_descriptors_lives",),
            ),
            Removal(
                file=LIMIT,
                old="self._total < most and self._open[host] < self.most_for_one_host",
                new="self._total < most",
                tests=("http/test_connection_limit.py::test_one_host_leaves_places_to_the_others",),
            ),
            Removal(
                file=LIMIT,
                old="self._idle[host] >= _without_an_eighth(most)",
                new="False",
                tests=("http/test_connection_limit.py::test_idle_connections_leave_places_to_those_in_use",),
            ),
            Removal(
                file="aichat_magic/plans.py",
                old="                share=lambda: chat.http.limit.share,\n",
                new="",
                tests=("http/test_connection_limit.py::test_runs_with_all_defaults_get_every_row",),
            ),
            Removal(
                file="aichat_magic/exchange.py",
                old="if self._loop.time() > patience_at:",
                new="if True:",
                tests=("http/test_connection_limit.py::test_question_waits_for_a_descriptor_for_a_while",),
            ),
            Removal(
                file="aichat_magic/jobs.py",
                old="_MOST_UNSENT = 500",
                new="_MOST_UNSENT = 0",
                tests=("http/test_connection_limit.py::test_rows_spend_nothing_when_there_is_no_descriptor",),
            ),
            Removal(
                file="aichat_magic/jobs.py",
                old="self.outages.unsent(self._clock())",
                new="pass",
                tests=("http/test_connection_limit.py::test_try_without_a_descriptor_tells_nothing_of_an_outage",),
            ),
            Removal(
                file="aichat_magic/jobs.py",
                old="if self._unsent_in_a_row > _MOST_UNSENT:",
                new="if False:",
                tests=("http/test_connection_limit.py::test_run_that_never_finds_a_descriptor_ends",),
            ),
            Removal(
                file="aichat_magic/batches.py",
                old="            await self._chat.http.close_idle()\n",
                new="",
                tests=("http/test_connection_limit.py::test_run_leaves_few_idle_connections",),
            ),
        ),
    ),
)
