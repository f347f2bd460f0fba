"""Replies as they are paid for, kept and put into columns: row 120."""

from __future__ import annotations

from acceptance.rows import Removal, Row

ROWS: tuple[Row, ...] = (
    Row(
        number=120,
        fault="the reply store is larger than its soft limit, or its file cannot be written",
        outcome="no reply is removed by itself; one line says that it is large; %aichat store shows the size and "
        "prunes by age and by size, the oldest first, and says what went",
        tests=(
            "test_store.py::test_nothing_goes_by_itself_however_large_the_file_and_one_line_says_so",
            "test_store.py::test_no_reply_is_given_up_while_the_disk_is_full",
            "test_store.py::test_memory_store_keeps_all_and_says_once_that_it_is_large",
            "test_store.py::test_pruning_by_age_removes_what_is_older",
            "test_store.py::test_pruning_by_size_removes_the_oldest_and_no_more_than_it_must",
            "test_store.py::test_pruning_goes_in_parts_so_that_others_can_write_in_between",
            "test_magic.py::test_stored_replies_are_pruned_and_what_went_is_said",
            "test_magic.py::test_line_of_store_that_cannot_be_understood_removes_nothing",
            "test_doctor.py::test_large_store_of_replies_is_noted_with_the_way_to_prune_it",
        ),
        removals=(
            # A store that makes room, as that of 0.1 did.
            Removal(
                file="aichat_magic/store/writer.py",
                old='self._notices.once("large", is_large(size_bytes))',
                new='self._database.connection.execute("DELETE FROM replies WHERE id % 2")',
                tests=("test_store.py::test_nothing_goes_by_itself_however_large_the_file_and_one_line_says_so",),
            ),
            Removal(
                file="aichat_magic/store/memory.py",
                old='self._notices.once("large", is_large(size_bytes))',
                new="self._rows.clear()",
                tests=("test_store.py::test_memory_store_keeps_all_and_says_once_that_it_is_large",),
            ),
            Removal(
                file="aichat_magic/store/prune.py",
                old="        if not give_back(database):\n            return",
                new="        return",
                tests=("test_store.py::test_pruning_by_size_removes_the_oldest_and_no_more_than_it_must",),
            ),
            Removal(
                file="aichat_magic/store/prune.py",
                old="        if removed < _SLICE:\n            return",
                new="        return",
                tests=("test_store.py::test_pruning_goes_in_parts_so_that_others_can_write_in_between",),
            ),
            Removal(
                file="aichat_magic/arguments.py",
                old="if got.older is None and got.larger is None:",
                new="if False:",
                tests=("test_magic.py::test_line_of_store_that_cannot_be_understood_removes_nothing",),
            ),
            Removal(
                file="aichat_magic/doctor.py",
                old='if what == "replies" and state.size_bytes > SOFT_LIMIT_BYTES:',
                new="if False:",
                tests=("test_doctor.py::test_large_store_of_replies_is_noted_with_the_way_to_prune_it",),
            ),
        ),
    ),
)
