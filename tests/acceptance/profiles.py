"""What a model does not take: options, fields, schemas, streams. Rows 78, 79 and 88."""

from __future__ import annotations

from acceptance.rows import Removal, Row

PROFILE = "providers/test_profile.py::"
MODES = "providers/test_schema_modes.py::"
AGAIN = PROFILE + "test_request_is_sent_again_as_the_server_takes_it"
CLAUDE = PROFILE + "test_request_to_claude_is_sent_again_as_the_model_takes_it"
STRICT = PROFILE + "test_strict_options_make_a_refusal_an_error"
BEST = MODES + "test_schema_is_asked_for_in_the_best_way_that_is_taken"
TOLD = "magic/test_extension.py::test_option_that_the_server_refuses_is_told_under_the_reply_once"
NOT_STREAMED = "magic/test_extension.py::test_no_stream_flag_asks_for_the_whole_reply_and_shows_it"

ROWS: tuple[Row, ...] = (
    Row(
        number=78,
        fault="400 or 422 for an option or a field: temperature or one value of it, max_tokens (wants "
        "max_completion_tokens), one of two options, a form of thinking, stream_options, stream",
        outcome="sent again without it or under the other name, at most four times; remembered for the server and the "
        "model, once for all rows and threads; told in one line; an error with strict_options; not learned from other "
        "errors",
        tests=(
            AGAIN,
            PROFILE + "test_field_that_only_a_sentence_names_is_learned",
            CLAUDE,
            STRICT,
            TOLD,
            PROFILE + "test_what_nobody_asked_for_is_left_out_and_what_that_means_is_told",
            PROFILE + "test_server_that_does_not_stream_is_asked_for_the_whole",
            PROFILE + "test_several_refusals_are_learned_one_after_the_other_and_told_in_one_line",
            PROFILE + "test_request_is_sent_again_four_times_at_most",
            PROFILE + "test_error_about_something_else_is_raised_at_once",
            PROFILE + "test_guess_that_does_not_help_is_not_remembered",
            PROFILE + "test_value_that_is_refused_leaves_others_alone",
            PROFILE + "test_refusal_holds_for_its_model_and_its_server_alone",
            PROFILE + "test_option_refused_beside_thinking_is_sent_without_thinking",
            PROFILE + "test_model_that_does_not_think_at_all_is_asked_without_thinking",
            PROFILE + "test_thinking_that_has_no_room_is_left_out_and_told",
            PROFILE + "test_rows_of_a_run_learn_once",
            PROFILE + "test_auto_concurrency_learns_from_its_first_rows",
            PROFILE + "test_key_of_a_request_has_the_options_as_the_user_wrote_them",
            PROFILE + "test_threads_share_what_was_learned",
            PROFILE + "test_scripts_are_warned",
            PROFILE + "test_whatever_is_learned_changes_the_request_and_learning_ends",
            "magic/test_extension.py::test_refused_option_and_cut_reply_are_both_told",
        ),
        removals=(
            Removal(
                where="providers.dialect:Dialect._complete",
                what="fitting.learn",
                by="(_ for _ in ()).throw(error)",
                tests=(AGAIN,),
            ),
            Removal(where="providers.fitting:Fitting.keep", by="lambda self: None", tests=(AGAIN,)),
            Removal(where="providers.fitting:Fitting.remarks", by="lambda self: ()", tests=(AGAIN,)),
            Removal(
                where="providers.fitting:_MAX_RESENT",
                by="99",
                tests=(PROFILE + "test_request_is_sent_again_four_times_at_most",),
            ),
            Removal(where="providers.fitting:Fitting.body", what="OptionError", by="None", tests=(STRICT,)),
            Removal(
                where="providers.fitting:Fitting.learn", what="options.strict_options", by="False", tests=(STRICT,)
            ),
            Removal(where="providers.fitting:_OURS", by="()", tests=(STRICT,)),
            Removal(
                where="providers.learning:_objected_field",
                by="lambda words, body: None",
                tests=(PROFILE + "test_field_that_only_a_sentence_names_is_learned",),
            ),
            Removal(
                where="providers.learning:_OBJECTION",
                by="re.compile('')",
                tests=(PROFILE + "test_error_about_something_else_is_raised_at_once",),
            ),
            Removal(
                where="providers.learning:_ABOUT_VALUE",
                by="re.compile('(?!)')",
                tests=(PROFILE + "test_value_that_is_refused_leaves_others_alone",),
            ),
            Removal(
                where="providers.learning:_other_field",
                by="lambda words, body, name: ''",
                tests=(PROFILE + "test_option_refused_beside_thinking_is_sent_without_thinking",),
            ),
            Removal(where="providers.learning:_squeezed", by="str", tests=(AGAIN,)),
            Removal(where="providers.learning:_with_thinking", by="lambda *given: None", tests=(CLAUDE,)),
            Removal(where="providers.profile:renamed", by="lambda profile, name, instead: None", tests=(AGAIN,)),
            Removal(
                where="providers.profile:_MIN_BUDGET",
                by="0",
                tests=(PROFILE + "test_thinking_that_has_no_room_is_left_out_and_told",),
            ),
            Removal(
                where="providers.profile:ModelProfile.streams",
                by="property(lambda self: True)",
                tests=(PROFILE + "test_server_that_does_not_stream_is_asked_for_the_whole",),
            ),
            Removal(
                where="providers.registry:Registry.resolve",
                what="_profiles",
                by="ModelProfiles()",
                tests=(PROFILE + "test_threads_share_what_was_learned",),
            ),
            Removal(
                where="batching.run:BatchRun.remarks",
                what="sent_otherwise",
                by="[]",
                tests=(PROFILE + "test_rows_of_a_run_learn_once",),
            ),
            Removal(
                where="chat.remarks:warn_of",
                by="lambda remarks: None",
                tests=(PROFILE + "test_scripts_are_warned",),
            ),
            Removal(where="magic.session:Session._remark", what="reply.remarks", by="()", tests=(TOLD,)),
            Removal(where="magic.session:Session._remark", what="_warned.update", by="None", tests=(TOLD,)),
        ),
    ),
    Row(
        number=79,
        fault="a schema asked of a server that takes no schemas (DeepSeek, Groq's small models), of a grammar without "
        "bounds or that fails (llama.cpp), of Anthropic, of older models; an answer that is cut or refused; JSON that "
        "came as thinking",
        outcome="json_schema, without bounds, json_object, words: the best that is taken; checked in every case; a cut "
        "and a refusal are named and not asked again",
        tests=(
            BEST,
            MODES + "test_words_follow_the_users_own_system_message",
            MODES + "test_native_schema_of_anthropic_keeps_what_the_user_wants_of_output_config",
            MODES + "test_one_schema_that_fails_does_not_change_how_others_are_asked_for",
            MODES + "test_answer_that_did_not_fit_is_no_reason_to_ask_otherwise",
            MODES + "test_json_that_came_as_thinking_is_the_answer",
            MODES + "test_answers_are_checked_however_they_are_asked_for",
            MODES + "test_rows_of_an_extraction_learn_once",
            MODES + "test_cut_and_refusal_are_named_and_not_asked_again",
            "schema/test_modes.py::test_bounds_go_into_descriptions",
            "schema/test_modes.py::test_plain_schema_admits_all_that_the_schema_admits",
            "schema/test_modes.py::test_schema_of_known_properties_is_closed",
            "magic/test_reply_format.py::test_reply_that_was_cut_is_named_and_not_asked_for_again",
            "magic/test_reply_format.py::test_second_reply_that_was_cut_is_named",
            "magic/test_reply_format.py::test_schema_that_a_server_does_not_take_is_asked_for_in_words_and_told",
        ),
        removals=(
            Removal(where="providers.profile:PROFILES", by="{}", tests=(BEST,)),
            Removal(where="providers.learning:_is_about_schema", by="lambda option, words: False", tests=(BEST,)),
            Removal(
                where="providers.learning:_ABOUT_ANSWER",
                by="re.compile('(?!)')",
                tests=(MODES + "test_answer_that_did_not_fit_is_no_reason_to_ask_otherwise",),
            ),
            Removal(
                where="providers.learning:_with_next_mode",
                what="is_general",
                by="True",
                tests=(MODES + "test_one_schema_that_fails_does_not_change_how_others_are_asked_for",),
            ),
            Removal(where="providers.fitting:_asked_for", what="instructions", by="'as JSON'", tests=(BEST,)),
            Removal(where="providers.fitting:_asked_for", what="plain_schema", by="wire['schema']", tests=(BEST,)),
            Removal(where="schema.modes:is_closed", by="lambda json_schema: True", tests=(BEST,)),
            Removal(
                where="schema.modes:is_closed",
                what="above",
                by="()",
                tests=("schema/test_modes.py::test_schema_of_known_properties_is_closed",),
            ),
            Removal(
                where="providers.thinking:is_json_only",
                by="lambda text: False",
                tests=(MODES + "test_json_that_came_as_thinking_is_the_answer",),
            ),
            Removal(
                where="frames.extract:Extraction._validated",
                what="incomplete",
                by="''",
                tests=(MODES + "test_cut_and_refusal_are_named_and_not_asked_again",),
            ),
            Removal(
                where="frames.extract:Extraction.frame",
                what="sent_otherwise",
                by="()",
                tests=(MODES + "test_rows_of_an_extraction_learn_once",),
            ),
            Removal(
                where="magic.reply_format:reply_in_format",
                what="incomplete",
                by="''",
                tests=(
                    "magic/test_reply_format.py::test_reply_that_was_cut_is_named_and_not_asked_for_again",
                    "magic/test_reply_format.py::test_second_reply_that_was_cut_is_named",
                ),
            ),
        ),
    ),
    Row(
        number=88,
        fault="--no-stream",
        outcome="no stream is asked for, and the reply is shown when it is complete",
        tests=(
            NOT_STREAMED,
            "magic/test_extension.py::test_no_stream_flag_tries_again_and_keeps_the_conversation_when_it_fails",
        ),
        removals=(
            Removal(where="magic.asking:Question._asked", what="_is_streamed", by="True", tests=(NOT_STREAMED,)),
        ),
    ),
)
