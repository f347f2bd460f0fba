"""Secrets and hostile content: rows 38 to 52."""

from __future__ import annotations

from acceptance.rows import Removal, Row

BROWSER = "test_browser.py::test_hostile_reply_neither_runs_nor_fetches"
VIEWS = "test_parsers.py::test_any_text_is_harmless_in_every_view"

ROWS: tuple[Row, ...] = (
    Row(
        number=38,
        fault="a canary key with every %xmode, in all that is shown, logged and written",
        outcome="absent everywhere",
        tests=(
            "test_secrets.py::test_the_search_finds_the_canary_in_every_form",
            "test_secrets.py::test_no_value_on_the_way_to_a_provider_shows_its_key",
            "test_secrets.py::test_no_error_shows_the_key_even_when_the_server_repeats_it",
            "test_secrets.py::test_no_mode_of_tracebacks_shows_the_key",
            "test_secrets.py::test_no_mode_shows_a_key_that_is_refused",
            "test_secrets.py::test_key_or_proxy_that_cannot_be_used_is_refused_and_not_shown",
            "test_secrets.py::test_way_that_fails_shows_neither_key_nor_password",
            "test_secrets.py::test_nothing_that_a_kernel_shows_logs_or_writes_holds_the_key",
            "test_secrets.py::test_saved_notebook_holds_no_key",
            "core/test_secrets.py::test_secret_never_prints",
            "core/test_secrets.py::test_secret_cannot_be_pickled_copied_or_changed",
        ),
        removals=(
            Removal(
                where="core.secrets:Secret.__repr__",
                by="lambda self: self.reveal()",
                tests=("test_secrets.py::test_no_value_on_the_way_to_a_provider_shows_its_key",),
            ),
            Removal(
                where="core.secrets:Environment.__repr__",
                by="lambda self: repr(dict(self._get()))",
                tests=("test_secrets.py::test_no_value_on_the_way_to_a_provider_shows_its_key",),
            ),
            Removal(
                where="core.secrets:Scrubber.error",
                by="lambda self, text: text",
                tests=("test_secrets.py::test_no_mode_of_tracebacks_shows_the_key",),
            ),
            Removal(
                where="core.secrets:Scrubber.reply",
                by="lambda self, text: text",
                tests=("test_secrets.py::test_nothing_that_a_kernel_shows_logs_or_writes_holds_the_key",),
            ),
            Removal(
                where="core.config_file:_parsed",
                what="Secret",
                by="table[name]",
                tests=("test_secrets.py::test_key_or_proxy_that_cannot_be_used_is_refused_and_not_shown",),
            ),
            Removal(
                where="providers.aichat.provider:create_completion",
                by="lambda *given, **kwargs: "
                "__import__('aichat_magic.core.sync').core.sync.run_sync(Aichat.create_async(*given, **kwargs))",
                tests=("test_secrets.py::test_key_or_proxy_that_cannot_be_used_is_refused_and_not_shown",),
            ),
        ),
    ),
    Row(
        number=39,
        fault="a key that holds a line end, NUL, a space or a character outside ASCII",
        outcome="refused before anything is sent, not shown",
        tests=(
            "core/test_secrets.py::test_key_no_header_can_carry_is_refused_and_not_shown",
            "test_secrets.py::test_key_or_proxy_that_cannot_be_used_is_refused_and_not_shown",
            "http/test_client.py::test_a_key_that_no_header_can_carry_is_not_sent",
            "providers/aichat/test_cookies.py::test_a_value_that_no_header_can_carry_is_refused_and_not_shown",
        ),
        removals=(
            Removal(
                where="core.secrets:key_from",
                what="any",
                by="False",
                tests=("test_secrets.py::test_key_or_proxy_that_cannot_be_used_is_refused_and_not_shown",),
            ),
            Removal(
                where="http.request:check_headers",
                what="_is_header",
                by="True",
                tests=("http/test_client.py::test_a_key_that_no_header_can_carry_is_not_sent",),
            ),
        ),
    ),
    Row(
        number=40,
        fault="a notebook sets a base URL of its own while the key is in the environment",
        outcome="the key stays with its provider's host, unless one is given for the other",
        tests=(
            "magic/test_extension.py::test_key_in_the_environment_does_not_go_to_an_address_of_the_notebook",
            "core/test_settings.py::test_key_does_not_go_to_another_host",
            "core/test_settings.py::test_key_goes_to_its_own_host",
            "core/test_settings.py::test_key_beside_an_address_in_the_same_place_belongs_to_it",
        ),
        removals=(
            Removal(
                where="core.endpoints:EndpointSearch.endpoint",
                what="next",
                by="next((key for home, key in homes if home), None)",
                tests=(
                    "magic/test_extension.py::test_key_in_the_environment_does_not_go_to_an_address_of_the_notebook",
                    "core/test_settings.py::test_key_does_not_go_to_another_host",
                ),
            ),
        ),
    ),
    Row(
        number=41,
        fault="cookies for a host with a similar name, another one, or plain http",
        outcome="never returned, never sent",
        tests=(
            "providers/aichat/test_cookies.py::test_no_other_domain_matches",
            "http/test_client.py::test_cookies_go_with_their_request_only_and_none_is_kept",
            "providers/aichat/test_cookies.py::test_a_cookie_goes_nowhere_else",
            "providers/aichat/test_provider.py::test_only_cookies_of_the_host_are_sent",
            "providers/aichat/test_provider.py::test_cookies_of_a_subdomain_alone_are_none_for_the_service",
            "providers/aichat/test_provider.py::test_a_server_of_ones_own_may_do_without_cookies_and_gets_none_of_others",
            "providers/aichat/test_provider.py::test_no_cookie_is_sent_over_plain_http",
        ),
        removals=(
            Removal(
                where="providers.aichat.cookies:of_domain",
                what="DefaultCookiePolicy",
                by="DefaultCookiePolicy()",
                tests=("providers/aichat/test_cookies.py::test_no_other_domain_matches",),
            ),
            Removal(
                where="providers.aichat.cookies:_is_sent",
                what="DomainStrictNonDomain",
                by="DefaultCookiePolicy.DomainLiberal",
                tests=("providers/aichat/test_cookies.py::test_a_cookie_goes_nowhere_else",),
            ),
            Removal(
                where="providers.aichat.cookies:_is_sent",
                by="lambda cookie, url: original(cookie, url.replace('http://', 'https://'))",
                tests=("providers/aichat/test_provider.py::test_no_cookie_is_sent_over_plain_http",),
            ),
            Removal(
                where="providers.aichat.provider:Aichat._cookies",
                what="sendable_to",
                by="found",
                tests=(
                    "providers/aichat/test_provider.py::test_cookies_of_a_subdomain_alone_are_none_for_the_service",
                ),
            ),
        ),
    ),
    Row(
        number=42,
        fault="a reply with tags that run or fetch, styles with addresses, commands of JupyterLab",
        outcome="escaped, fresh and after save and reload",
        tests=(
            VIEWS,
            "test_parsers.py::test_run_over_hostile_rows_is_harmless_to_look_at",
            "text/test_markdown.py::test_markup_in_a_reply_stays_text",
            "text/test_markdown.py::test_escaped_markup_is_shown_letter_by_letter",
            BROWSER,
        ),
        removals=(
            Removal(
                where="text.markdown:_parser",
                what="_RULES",
                by="(parser.options.update(html=True), "
                "{name: rule for name, rule in original.items() if name[:4] != 'html'})[1]",
                tests=(VIEWS, "text/test_markdown.py::test_markup_in_a_reply_stays_text"),
            ),
            Removal(where="text.markdown:_code_inline", what="escape", by="tokens[index].content", tests=(VIEWS,)),
            Removal(where="text.html_parts:warning_html", what="escape", by="line", tests=(VIEWS,)),
        ),
    ),
    Row(
        number=43,
        fault="links that run code, in any coding; images with an address",
        outcome="no such link; images are text and not fetched",
        tests=(
            "text/test_markdown.py::test_links_elsewhere_than_the_web_or_mail_stay_text",
            "text/test_markdown.py::test_images_are_shown_as_text_and_not_fetched",
            "text/test_markdown.py::test_commands_that_could_do_more_than_typeset_are_shown_as_code",
            VIEWS,
            BROWSER,
        ),
        removals=(
            Removal(
                where="text.markdown:is_safe_link",
                by="lambda _: True",
                tests=("text/test_markdown.py::test_links_elsewhere_than_the_web_or_mail_stay_text",),
            ),
            Removal(
                where="text.markdown:_RULES",
                by="{name: rule for name, rule in original.items() if name != 'image'}",
                tests=("text/test_markdown.py::test_images_are_shown_as_text_and_not_fetched",),
            ),
            Removal(
                where="text.markdown:UNSAFE_TEX",
                by="re.compile('(?!)')",
                tests=("text/test_markdown.py::test_commands_that_could_do_more_than_typeset_are_shown_as_code",),
            ),
        ),
    ),
    Row(
        number=44,
        fault="OSC 52, OSC 8, CSI, C1 and bidi controls in a reply",
        outcome="none reaches the terminal",
        tests=(
            "test_parsers.py::test_terminal_of_ipython_obeys_nothing_of_a_reply",
            "magic/test_views.py::test_terminal_gets_no_control_sequence_even_in_pieces",
            VIEWS,
        ),
        removals=(
            Removal(
                where="text.characters:terminal_text",
                what="text.translate",
                by="text",
                tests=("test_parsers.py::test_terminal_of_ipython_obeys_nothing_of_a_reply",),
            ),
            Removal(
                where="text.characters:_FORBIDDEN",
                by="{char: None for char in original if not 0x80 <= char < 0xA0}",
                tests=("magic/test_views.py::test_terminal_gets_no_control_sequence_even_in_pieces",),
            ),
        ),
    ),
    Row(
        number=45,
        fault="attributes, items, calls, formats, doubled braces, LaTeX and dicts in a prompt",
        outcome="only a single-braced name of a variable is filled; nothing is evaluated",
        tests=(
            "magic/context/test_placeholders.py::test_what_is_no_placeholder_stays_byte_for_byte",
            "magic/context/test_placeholders.py::test_single_braced_variable_is_filled",
            "test_parsers.py::test_only_what_stands_alone_in_one_pair_of_braces_is_replaced",
            "magic/test_extension_in_kernels.py::test_a_prompt_reaches_the_server_byte_for_byte",
        ),
        removals=(
            Removal(
                where="magic.context.placeholders:_PLACEHOLDER",
                by="re.compile(original.pattern.replace('(?<!\\\\{)', '').replace('(?!\\\\})', ''))",
                tests=(
                    "magic/context/test_placeholders.py::test_what_is_no_placeholder_stays_byte_for_byte",
                    "test_parsers.py::test_only_what_stands_alone_in_one_pair_of_braces_is_replaced",
                ),
            ),
        ),
    ),
    Row(
        number=46,
        fault="a value that itself holds {name}",
        outcome="inserted once, literally",
        tests=(
            "magic/context/test_placeholders.py::test_value_that_holds_a_placeholder_is_inserted_literally",
            "magic/context/test_placeholders.py::test_value_is_inserted_whole",
            "frames/test_template.py::test_value_is_never_looked_at_for_braces",
        ),
        removals=(
            Removal(
                where="magic.context.placeholders:fill",
                by="lambda template, values, **more: original(original(template, values, **more).text, values, **more)",
                tests=(
                    "magic/context/test_placeholders.py::test_value_that_holds_a_placeholder_is_inserted_literally",
                ),
            ),
        ),
    ),
    Row(
        number=47,
        fault="{f()} and $c.k on the magic line",
        outcome="nothing is evaluated",
        tests=("magic/test_extension_in_kernels.py::test_a_line_is_not_evaluated",),
        removals=(Removal(where="magic.extension:AIChat.aichat", what="no_var_expand", by="lambda method: method"),),
    ),
    Row(
        number=48,
        fault="the model returns code",
        outcome="never executed by itself",
        tests=("test_secrets.py::test_code_of_a_model_goes_into_the_next_cell_and_is_not_run",),
        removals=(
            Removal(where="magic.extension:AIChat._put_below", what="set_next_input", by="shell.run_cell(text)"),
        ),
    ),
    Row(
        number=49,
        fault="a tampered row of the store: a pickle, a wrong type",
        outcome="a miss; no pickle, eval, exec or marshal anywhere in the package",
        tests=(
            "store/test_sqlite.py::test_tampered_row_is_a_miss",
            "store/test_write_behind.py::test_tampered_turn_is_left_out",
            "test_house.py::test_nothing_pickles_or_evaluates",
        ),
        removals=(
            Removal(
                where="store.rows:reply_from",
                what="_is_valid",
                by="True",
                tests=("store/test_sqlite.py::test_tampered_row_is_a_miss",),
            ),
        ),
        checks=("test_house.py::test_what_pickles_or_evaluates_is_found",),
    ),
    Row(
        number=50,
        fault="a model file with one byte flipped, or cut short",
        outcome="refused, the partial file removed",
        tests=(
            "providers/llama/test_weights.py::test_wheel_with_another_file_is_refused_and_nothing_stays",
            "providers/llama/test_weights.py::test_wheel_cut_short_is_refused_and_nothing_stays",
            "providers/llama/test_weights.py::test_wheel_with_a_flipped_byte_is_refused",
            "providers/llama/test_weights.py::test_damaged_file_in_the_cache_is_replaced_and_told",
            "providers/llama/test_weights.py::test_damaged_file_of_the_user_is_refused_and_stays",
        ),
        removals=(
            Removal(
                where="providers.llama.weights:_unpack",
                what="DownloadError",
                by="None",
                tests=("providers/llama/test_weights.py::test_wheel_with_another_file_is_refused_and_nothing_stays",),
            ),
            Removal(
                where="providers.llama.weights:_problem",
                what="hexdigest",
                by="known.sha256",
                tests=("providers/llama/test_weights.py::test_damaged_file_in_the_cache_is_replaced_and_told",),
            ),
        ),
    ),
    Row(
        number=51,
        fault="import of the package and %load_ext",
        outcome="no network, no file written, pandas not imported",
        tests=("test_public.py::test_loading_touches_no_network_no_file_and_no_heavy_package",),
        removals=(Removal(where=":", what="after_import", by="importlib.import_module('pandas')"),),
    ),
    Row(
        number=52,
        fault="a clean install",
        outcome="no more than 16 packages beyond IPython and pandas",
        tests=(
            "test_packages.py::test_clean_install_brings_these_packages_and_no_other",
            "test_packages.py::test_next_python_takes_the_maintained_successor_and_nothing_more",
        ),
        checks=("test_packages.py::test_one_more_dependency_is_one_more_package",),
    ),
)
