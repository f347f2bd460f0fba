"""What replies use and cost, which of the choices they are, and which model has answered."""

from __future__ import annotations

from acceptance.rows import Removal, Row

USAGE = "providers/test_openai_usage.py"
CHOICES = "providers/test_openai_choices.py"
OUTPUT = f"{USAGE}::test_output_has_all_thinking_in_it"
CACHE = f"{USAGE}::test_cached_and_written_tokens_are_found"
PLACES = f"{USAGE}::test_usage_is_found_wherever_it_stands"
STREAM = f"{USAGE}::test_stream_has_its_totals_however_they_come"
HOSTILE = f"{USAGE}::test_hostile_numbers_are_unknown_and_spoil_no_others"
ANTHROPIC = "providers/test_anthropic.py::test_hostile_counts_are_unknown_and_no_error"
COST = f"{USAGE}::test_cost_that_a_server_tells"
AT_HOME = f"{USAGE}::test_servers_own_cost_is_believed_at_home_only"
WRITES = "core/test_prices.py::test_writes_to_the_cache_cost_more_than_other_input_and_for_an_hour_twice_as_much"
HOUR = "providers/test_anthropic.py::test_writes_for_an_hour_and_thinking_are_told_apart"
ONCE = f"{CHOICES}::test_text_of_a_stream_is_there_once"
FIRST = f"{CHOICES}::test_only_the_first_choice_of_a_stream_is_read"
FIRST_WHOLE = f"{CHOICES}::test_only_the_first_choice_of_a_whole_response_is_read"
VERSION = f"{CHOICES}::test_version_is_what_the_server_says_whole_and_streamed"
LATE_VERSION = f"{CHOICES}::test_version_in_the_last_event_only_is_found"
RUN = "frames/test_pandas.py::test_run_shows_thinking_cache_and_version_of_its_replies"
LINE = "text/test_reply_view.py::test_summary_line_says_what_is_known"

ROWS: tuple[Row, ...] = (
    Row(
        number=82,
        fault="usage whose total is more than prompt and completion; thinking outside of the completion",
        outcome="output is the total without the prompt, `reasoning_tokens` are told apart, budgets hold",
        tests=(
            OUTPUT,
            f"{USAGE}::test_no_form_bills_less_than_was_written",
            f"{USAGE}::test_budget_holds_where_the_thinking_is_only_in_the_total",
            HOSTILE,
            ANTHROPIC,
            STREAM,
            f"{USAGE}::test_stream_without_usage_has_none",
            RUN,
            LINE,
            "magic/test_usage.py::test_table_shows_the_parts_that_there_are",
            "magic/test_usage.py::test_line_tells_the_parts",
            "core/test_usage.py::test_sum_has_every_number",
            "store/test_conversations.py::test_thinking_and_cache_writes_are_recorded",
        ),
        removals=(
            Removal(
                where="providers.openai_usage:_usage_in",
                what="total",
                by="None",
                tests=(f"{USAGE}::test_budget_holds_where_the_thinking_is_only_in_the_total",),
            ),
            # Thinking that is larger than the output, with a total that does not have it.
            Removal(where="providers.openai_usage:_usage_in", what="reasoning", by="None", tests=(OUTPUT,)),
            Removal(where="providers.openai_usage:_collect", what="type", by="int", tests=(HOSTILE,)),
            Removal(where="providers.dialect:token_count", by="lambda value: value", tests=(ANTHROPIC,)),
            Removal(where="core.usage:Usage.grown", by="lambda self, later: later", tests=(STREAM,)),
            Removal(
                where="core.usage:UsageSum.add",
                what="usage.reasoning_tokens",
                by="None",
                tests=(
                    "magic/test_usage.py::test_line_tells_the_parts",
                    "core/test_usage.py::test_sum_has_every_number",
                ),
            ),
            Removal(
                where="batching.results:BatchResults.set_reply", what="usage.reasoning_tokens", by="None", tests=(RUN,)
            ),
            Removal(
                where="store.usage:usage_values",
                what="usage.reasoning_tokens",
                by="None",
                tests=("store/test_conversations.py::test_thinking_and_cache_writes_are_recorded",),
            ),
        ),
    ),
    Row(
        number=83,
        fault="costs and cached tokens under a provider's own names; writes to the cache; usage in odd places",
        outcome="used; a server's own cost only where it is the provider's own server",
        tests=(
            CACHE,
            PLACES,
            f"{USAGE}::test_response_without_usage_has_none",
            COST,
            AT_HOME,
            HOSTILE,
            WRITES,
            HOUR,
            "core/test_prices.py::test_no_part_of_the_input_is_larger_than_all_of_it",
            "core/test_prices.py::test_published_prices_know_the_cache_too",
            "providers/test_anthropic.py::test_tokens_of_the_cache_are_input_tokens_too",
            ANTHROPIC,
        ),
        removals=(
            Removal(
                where="providers.openai_usage:_COUNTS",
                by="{name: kind for name, kind in original.items() if kind != 'cached' or name == 'cached_tokens'}",
                tests=(CACHE,),
            ),
            Removal(
                where="providers.openai_usage:_COUNTS",
                by="{name: kind for name, kind in original.items() if kind != 'written'}",
                tests=(CACHE,),
            ),
            Removal(where="providers.openai_usage:_llamacpp_usage", by="lambda timings: None", tests=(PLACES,)),
            Removal(where="providers.openai_usage:_usage_elsewhere", by="lambda content: None", tests=(PLACES,)),
            Removal(where="providers.openai_usage:_cost_usd", by="lambda usage: None", tests=(COST,)),
            Removal(where="providers.openai_usage:_amount", by="lambda value: value", tests=(COST,)),
            Removal(where="providers.openai:OpenAI._usage", what="self.is_at_home", by="True", tests=(AT_HOME,)),
            Removal(where="core.prices:_WRITE_FACTOR", by="1.0", tests=(WRITES,)),
            Removal(where="core.prices:_WRITE_1H_FACTOR", by="1.0", tests=(WRITES,)),
            Removal(where="providers.anthropic:_usage", what="lifetimes.get", by="None", tests=(HOUR,)),
            Removal(
                where="core.prices:_input_parts",
                by="lambda usage: (usage.input_tokens, usage.cached_tokens or 0, usage.cache_write_tokens or 0, 0)",
                tests=("core/test_prices.py::test_no_part_of_the_input_is_larger_than_all_of_it",),
            ),
        ),
    ),
    Row(
        number=84,
        fault="the whole message in an event of a stream; several choices, in any order",
        outcome="the text is there once, and only that of the choice with index 0",
        tests=(
            ONCE,
            f"{CHOICES}::test_refusal_that_is_repeated_as_a_message_is_there_once",
            f"{CHOICES}::test_long_stream_of_whole_messages_comes_out_whole",
            FIRST,
            FIRST_WHOLE,
            f"{CHOICES}::test_logprobs_are_the_same_whole_and_streamed",
        ),
        removals=(
            Removal(
                where="providers.openai:OpenAI._read_event", what="single_delta", by="content", tests=(ONCE, FIRST)
            ),
            Removal(where="providers.openai_choices:_added", what="whole.startswith", by="False", tests=(ONCE,)),
            Removal(where="providers.openai_choices:_added", what="state.has_delta", by="False", tests=(ONCE,)),
            Removal(
                where="providers.openai_choices:first_choice",
                by="lambda choices: choices[0]",
                tests=(FIRST, FIRST_WHOLE),
            ),
            Removal(
                where="providers.openai_choices:single_delta",
                what="state.has_delta",
                by="False",
                tests=(f"{CHOICES}::test_logprobs_are_the_same_whole_and_streamed", ONCE),
            ),
        ),
    ),
    Row(
        number=89,
        fault="the server resolves the model's name to a version, or hands the request to another server",
        outcome="`reply.model_version`, whole and streamed; shown where it is not the name asked for",
        tests=(
            VERSION,
            LATE_VERSION,
            f"{CHOICES}::test_endless_name_is_cut",
            LINE,
            RUN,
            "batching/test_results.py::test_reply_comes_back_as_it_went_in",
        ),
        removals=(
            Removal(where="providers.openai:_model_version", by="lambda content: None", tests=(VERSION,)),
            Removal(
                where="providers.openai:_model_version",
                what="shorten",
                by="name",
                tests=(f"{CHOICES}::test_endless_name_is_cut",),
            ),
            Removal(where="providers.dialect:Dialect._stream", what="state.model", by="None", tests=(LATE_VERSION,)),
            Removal(where="batching.results:BatchResults.set_reply", what="reply.model_version", by="''", tests=(RUN,)),
            Removal(where="text.reply_view:_other_version", by="lambda reply: ''", tests=(LINE,)),
        ),
    ),
)
