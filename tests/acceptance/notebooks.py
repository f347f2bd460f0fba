"""Which notebook a conversation belongs to: rows 90 to 93."""

from __future__ import annotations

from acceptance.rows import Removal, Row

IDENTITY = "aichat_magic/identity.py"

ROWS: tuple[Row, ...] = (
    Row(
        number=90,
        fault="Untitled.ipynb is renamed, a new one takes its name; a copy; a conversation of 0.1 that two have shared",
        outcome="a conversation is taken up only where ids of its cells stand in the notebook; else a new one, and one "
        "line says how to take the old one up",
        tests=(
            "magic/test_notebook_identity_in_jupyter.py::test_new_rename_new_again_restart_and_rename_back",
            "magic/test_notebook_identity_in_jupyter.py::test_older_conversation_is_taken_up_with_the_command_that_is_shown",
            "magic/test_notebook_identity_in_jupyter.py::test_copy_and_original_keep_apart",
            "magic/test_notebook_identity.py::test_new_notebook_at_an_old_path_sends_nothing_of_the_old_one",
            "magic/test_notebook_identity.py::test_copy_begins_anew_and_neither_writes_into_the_other",
            "magic/test_notebook_identity.py::test_copy_and_original_that_both_moved_are_not_confused",
            "magic/test_notebook_identity.py::test_renamed_notebook_goes_on_and_back",
            "magic/test_notebook_identity.py::test_renamed_notebook_does_not_take_what_is_at_its_old_path_by_now",
            "magic/test_notebook_identity.py::test_id_that_other_notebooks_have_tells_only_with_the_prompt",
            "magic/test_notebook_identity.py::test_conversation_of_0_1_that_may_be_of_two_notebooks_is_listed_only",
            "magic/test_notebook_identity.py::test_turn_is_stored_where_its_past_came_from",
        ),
        removals=(
            # As in 0.1: whoever has the name has the conversation.
            Removal(
                file=IDENTITY,
                old="evident = [one for one in known if self._is_evident(one, cells)]",
                new="evident = list(known)",
                tests=(
                    "magic/test_notebook_identity.py::test_new_notebook_at_an_old_path_sends_nothing_of_the_old_one",
                    "magic/test_notebook_identity_in_jupyter.py::test_new_rename_new_again_restart_and_rename_back",
                ),
            ),
            # The other way round: told by the path as well.
            Removal(
                file=IDENTITY,
                old="found = here or (moved if len({one.path for one in moved}) == 1 else [])",
                new="found = here",
                tests=("magic/test_notebook_identity.py::test_renamed_notebook_goes_on_and_back",),
            ),
            Removal(
                file=IDENTITY,
                old=" and not self._has_cells_elsewhere(one)]",
                new="]",
                tests=(
                    "magic/test_notebook_identity.py::test_copy_begins_anew_and_neither_writes_into_the_other",
                    "magic/test_notebook_identity_in_jupyter.py::test_copy_and_original_keep_apart",
                ),
            ),
            Removal(
                file=IDENTITY,
                old="(moved if len({one.path for one in moved}) == 1 else [])",
                new="moved",
                tests=("magic/test_notebook_identity.py::test_copy_and_original_that_both_moved_are_not_confused",),
            ),
            Removal(
                file=IDENTITY,
                old="if any(cell in in_file for cell in cells) or (not cells and self._with_this_text()):",
                new="if True:",
                tests=(
                    "magic/test_notebook_identity.py::test_renamed_notebook_does_not_take_what_is_at_its_old_path_by_now",
                ),
            ),
            Removal(
                file=IDENTITY,
                old="if not common or (known.is_certain and any(map(_is_random, common))):",
                new="if True:",
                tests=(
                    "magic/test_notebook_identity.py::test_id_that_other_notebooks_have_tells_only_with_the_prompt",
                ),
            ),
            Removal(
                file=IDENTITY,
                old="if not known.is_certain and not all(cell in cells for cell, _ in by_cell):",
                new="if False:",
                tests=(
                    "magic/test_notebook_identity.py::test_conversation_of_0_1_that_may_be_of_two_notebooks_is_listed_only",
                ),
            ),
            Removal(
                file=IDENTITY,
                old=" or (place.execution and self._looked == (place.execution, place.cell_id)):",
                new=":",
                tests=("magic/test_notebook_identity.py::test_turn_is_stored_where_its_past_came_from",),
            ),
        ),
    ),
    Row(
        number=91,
        fault="a kernel started from a kernel (nbclient, papermill) inherits the session's name",
        outcome="own conversation",
        tests=(
            "magic/test_notebook_identity_in_jupyter.py::test_kernels_inside_a_kernel_have_their_own",
            "magic/test_notebook_identity.py::test_name_is_inherited_where_the_launcher_has_the_same",
            "magic/test_notebook_identity.py::test_front_end_that_names_no_cell_is_told_by_the_text_in_its_own_file",
        ),
        removals=(
            Removal(
                file="aichat_magic/magic.py",
                old="self._is_inherited = is_inherited(os.environ)",
                new="self._is_inherited = False",
                tests=("magic/test_notebook_identity_in_jupyter.py::test_kernels_inside_a_kernel_have_their_own",),
            ),
            Removal(
                file=IDENTITY,
                old="if not text or not place.is_own_path:",
                new="if not text:",
                tests=(
                    "magic/test_notebook_identity.py::test_front_end_that_names_no_cell_is_told_by_the_text_in_its_own_file",
                ),
            ),
        ),
    ),
    Row(
        number=92,
        fault="front end without cell ids: the same prompt in two cells",
        outcome="two turns; only an id that outlives the kernel can say that a cell is run again",
        tests=(
            "magic/test_session.py::test_front_end_without_cell_names_asks_the_same_twice_as_two_turns",
            "magic/test_history_in_kernels.py::test_front_end_without_cell_ids_asks_the_same_twice_as_two_turns",
        ),
        removals=(
            Removal(
                file="aichat_magic/talks.py",
                old="if not place.is_notebook or not place.cell_id:",
                new="if not place.is_notebook:",
                tests=("magic/test_session.py::test_front_end_without_cell_names_asks_the_same_twice_as_two_turns",),
            ),
        ),
    ),
    Row(
        number=93,
        fault="ids that are handles of a window (VS Code's URIs)",
        outcome="good for this kernel only",
        tests=(
            "magic/test_notebook_identity.py::test_handle_of_a_window_is_good_for_this_kernel_only",
            "magic/test_history_in_kernels.py::"
            "test_notebook_in_vs_code_goes_on_by_its_file_and_not_by_the_names_of_its_window",
        ),
        removals=(
            Removal(
                file="aichat_magic/talks.py",
                old='place.lasting_cell_id or f"{place.process}#{place.cell_id}"',
                new="place.cell_id",
            ),
            Removal(
                file=IDENTITY,
                old="return bool(_CELL_ID.fullmatch(cell_id))",
                new="return bool(cell_id)",
                tests=("magic/test_notebook_identity.py::test_handle_of_a_window_is_good_for_this_kernel_only",),
            ),
        ),
    ),
)
