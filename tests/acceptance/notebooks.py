"""Which notebook a conversation belongs to: rows 90 to 93."""

from __future__ import annotations

from acceptance.rows import Removal, Row

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
            "magic/test_notebook_identity.py::test_text_that_is_no_question_tells_nothing",
        ),
        removals=(
            Removal(
                where="magic.notebook_identity:_is_question",
                by="lambda source: True",
                tests=("magic/test_notebook_identity.py::test_text_that_is_no_question_tells_nothing",),
            ),
            Removal(
                where="magic.notebook_identity:_is_sequence",
                by="lambda digits: False",
                tests=(
                    "magic/test_notebook_identity.py::test_id_that_other_notebooks_have_tells_only_with_the_prompt",
                ),
            ),
            # As in 0.1: whoever has the name has the conversation.
            Removal(
                where="magic.notebook_identity:NotebookIdentity._is_evident",
                by="lambda *_: True",
                tests=(
                    "magic/test_notebook_identity.py::test_new_notebook_at_an_old_path_sends_nothing_of_the_old_one",
                    "magic/test_notebook_identity_in_jupyter.py::test_new_rename_new_again_restart_and_rename_back",
                ),
            ),
            # The other way round: told by the path as well.
            Removal(
                where="magic.notebook_identity:NotebookIdentity._find",
                what="moved",
                by="[]",
                tests=("magic/test_notebook_identity.py::test_renamed_notebook_goes_on_and_back",),
            ),
            Removal(
                where="magic.notebook_identity:NotebookIdentity._find",
                what="_has_cells_elsewhere",
                by="False",
                tests=(
                    "magic/test_notebook_identity.py::test_copy_begins_anew_and_neither_writes_into_the_other",
                    "magic/test_notebook_identity_in_jupyter.py::test_copy_and_original_keep_apart",
                ),
            ),
            Removal(
                where="magic.notebook_identity:NotebookIdentity._find",
                what="len",
                by="1",
                tests=("magic/test_notebook_identity.py::test_copy_and_original_that_both_moved_are_not_confused",),
            ),
            Removal(
                where="magic.notebook_identity:NotebookIdentity._cells",
                what="any",
                by="True",
                tests=(
                    "magic/test_notebook_identity.py::test_renamed_notebook_does_not_take_what_is_at_its_old_path_by_now",
                ),
            ),
            Removal(
                where="magic.notebook_identity:NotebookIdentity._is_evident",
                by="lambda self, known, cells: original(self, known, cells) or bool(known.cells & cells.keys())",
                tests=(
                    "magic/test_notebook_identity.py::test_id_that_other_notebooks_have_tells_only_with_the_prompt",
                ),
            ),
            Removal(
                where="magic.notebook_identity:NotebookIdentity._is_evident",
                what="all",
                by="True",
                tests=(
                    "magic/test_notebook_identity.py::test_conversation_of_0_1_that_may_be_of_two_notebooks_is_listed_only",
                ),
            ),
            Removal(
                where="magic.notebook_identity:NotebookIdentity._find",
                what="self._looked",
                by="(0, '')",
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
                where="magic.extension:AIChat._notebook_path",
                what="is_inherited",
                by="False",
                tests=("magic/test_notebook_identity_in_jupyter.py::test_kernels_inside_a_kernel_have_their_own",),
            ),
            Removal(
                where="magic.notebook_identity:NotebookIdentity._with_this_text",
                what="is_own_path",
                by="True",
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
                where="magic.history:ChatHistory.cell_id",
                what="location.cell_id",
                by="(original or '?')",
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
            Removal(where="magic.history:ChatHistory.cell_id", what="lasting_cell_id", by="location.cell_id"),
            Removal(
                where="magic.notebook_identity:outlives_kernel",
                by="bool",
                tests=("magic/test_notebook_identity.py::test_handle_of_a_window_is_good_for_this_kernel_only",),
            ),
        ),
    ),
)
