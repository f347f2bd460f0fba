"""Addresses, keys and certificates: rows 85, 86, 89a and 89c."""

from __future__ import annotations

from acceptance.rows import Removal, Row

ENDPOINTS = "core/test_endpoints.py"
PRESETS = "providers/test_presets.py"
KEYS = "magic/test_key_command.py"
CERTIFICATES = "http/test_certificates.py"
FORMS = f"{ENDPOINTS}::test_address_may_end_with_a_call_and_carry_a_query"
REACHES = f"{PRESETS}::test_address_in_any_form_reaches_the_server"
HEADERS = f"{ENDPOINTS}::test_headers_of_a_provider_go_to_its_own_server_only"
ONE_HOST = f"{ENDPOINTS}::test_names_of_this_machine_are_one_server_to_a_key_for_it"
HELD_BACK = f"{PRESETS}::test_refusal_without_a_key_says_that_none_was_sent_and_how_to_set_one"
STALE = f"{CERTIFICATES}::test_variable_that_names_nothing_is_named_with_its_path_and_plain_http_does_without"
RULE = f"{ENDPOINTS}::test_base_url_is_for_openai_and_for_the_model_that_was_not_set_nearer"
ON_THE_LINE = f"{KEYS}::test_key_on_the_line_is_refused_and_not_repeated"
IN_A_KERNEL = f"{KEYS}::test_kernel_asks_in_a_field_for_passwords_and_keeps_the_key_out_of_everything"
IN_THE_FILE = "core/test_config_edit.py::test_file_that_cannot_be_changed_safely_stays_as_it_is"

ROWS: tuple[Row, ...] = (
    Row(
        number=85,
        fault="a base URL with a query or the path of a call; OLLAMA_HOST; further headers; the key in api-key",
        outcome="the server is reached; headers and keys go to their own server only",
        tests=(
            FORMS,
            REACHES,
            HEADERS,
            f"{ENDPOINTS}::test_query_of_a_path_follows_that_of_the_address",
            f"{ENDPOINTS}::test_key_in_the_query_of_an_address_is_refused_and_not_shown",
            f"{ENDPOINTS}::test_headers_beside_an_address_go_to_it",
            f"{ENDPOINTS}::test_header_that_would_be_two_or_frame_a_request_is_refused_and_not_shown",
            f"{ENDPOINTS}::test_token_goes_by_https_to_hosts_of_its_maker_only",
            f"{PRESETS}::test_ollama_host_is_read_as_ollama_reads_it",
            f"{PRESETS}::test_endpoint_of_azure_is_a_resource_or_any_address_that_its_portal_shows",
            f"{PRESETS}::test_usual_variables_are_all_that_is_needed",
            f"{PRESETS}::test_key_of_azure_goes_into_its_own_header_and_the_version_along",
            f"{PRESETS}::test_anthropic_takes_a_query_and_the_path_of_a_call",
            f"{PRESETS}::test_headers_of_the_file_are_sent_and_masked_in_what_comes_back",
            "providers/test_entra.py::test_token_is_kept_until_shortly_before_it_expires",
            "providers/test_entra.py::test_many_that_ask_at_once_fetch_one_and_the_loop_does_not_wait",
            "providers/test_entra.py::test_token_is_sent_as_bearer_and_renewed_between_two_requests",
            "providers/test_entra.py::test_token_stands_in_for_a_key_that_is_not_set_at_hosts_of_microsoft",
            ON_THE_LINE,
            IN_A_KERNEL,
            IN_THE_FILE,
            f"{KEYS}::test_typed_key_is_kept_for_the_session_and_for_its_server_only",
            f"{KEYS}::test_key_for_a_server_that_the_file_does_not_name_is_not_saved_in_it",
            f"{KEYS}::test_where_nobody_can_type_the_variable_is_named",
        ),
        removals=(
            Removal(where="core.urls:base_url_of", what="_CALL.sub", by="parts.path", tests=(FORMS, REACHES)),
            Removal(
                where="core.urls:api_url",
                by="lambda base_url, path: f'{base_url}/{path}'",
                tests=(REACHES, f"{PRESETS}::test_key_of_azure_goes_into_its_own_header_and_the_version_along"),
            ),
            Removal(
                where="core.urls:_SECRET_PARAMETER",
                by="re.compile('(?!)')",
                tests=(f"{ENDPOINTS}::test_key_in_the_query_of_an_address_is_refused_and_not_shown",),
            ),
            Removal(where="core.endpoints:EndpointSearch.endpoint", what="is_mine", by="True", tests=(HEADERS,)),
            Removal(
                where="core.config_file:_header",
                what="isprintable",
                by="True",
                tests=(f"{ENDPOINTS}::test_header_that_would_be_two_or_frame_a_request_is_refused_and_not_shown",),
            ),
            Removal(
                where="core.config_file:_OWN_HEADERS",
                by="frozenset()",
                tests=(f"{ENDPOINTS}::test_header_that_would_be_two_or_frame_a_request_is_refused_and_not_shown",),
            ),
            Removal(
                where="http.exchange:_scrubber_for",
                what="request.secret_headers",
                by="()",
                tests=(f"{PRESETS}::test_headers_of_the_file_are_sent_and_masked_in_what_comes_back",),
            ),
            Removal(
                where="providers.presets:ollama_address",
                by="lambda text: f'http://{text}/v1'",
                tests=(f"{PRESETS}::test_ollama_host_is_read_as_ollama_reads_it",),
            ),
            Removal(
                where="core.endpoints:is_token_host",
                by="lambda url, preset: True",
                tests=(
                    f"{ENDPOINTS}::test_token_goes_by_https_to_hosts_of_its_maker_only",
                    "providers/test_entra.py::test_token_stands_in_for_a_key_that_is_not_set_at_hosts_of_microsoft",
                ),
            ),
            Removal(
                where="providers.entra:_RENEW_S",
                by="-1e9",
                tests=("providers/test_entra.py::test_token_is_sent_as_bearer_and_renewed_between_two_requests",),
            ),
            Removal(
                where="providers.entra:EntraTokens.token",
                what="asyncio.to_thread",
                by="self._fetched()",
                tests=("providers/test_entra.py::test_many_that_ask_at_once_fetch_one_and_the_loop_does_not_wait",),
            ),
            Removal(
                where="core.keys:KeyRing.entered",
                what="is_same_server",
                by="True",
                tests=(f"{KEYS}::test_typed_key_is_kept_for_the_session_and_for_its_server_only",),
            ),
            Removal(
                where="magic.key_command:KeyCommand._saved",
                what="is_same_server",
                by="True",
                tests=(f"{KEYS}::test_key_for_a_server_that_the_file_does_not_name_is_not_saved_in_it",),
            ),
            Removal(
                where="magic.key_command:_parsed",
                by="lambda rest: (rest.split()[0] if rest.split() else '', '')",
                tests=(ON_THE_LINE,),
            ),
            Removal(
                where="core.config_edit:_problem_of",
                what="_changed",
                by="tomllib.loads(after)",
                tests=(IN_THE_FILE,),
            ),
        ),
    ),
    Row(
        number=86,
        fault="certificates of REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE, or of the system only; a stale SSL_CERT_FILE",
        outcome="trusted; plain http needs none; for https the variable and its path are named",
        tests=(
            STALE,
            f"{CERTIFICATES}::test_authority_in_a_file_that_any_usual_variable_names_is_trusted",
            f"{CERTIFICATES}::test_folder_of_certificates_is_trusted",
            f"{CERTIFICATES}::test_without_a_variable_the_certificates_of_the_system_are_trusted",
            f"{CERTIFICATES}::test_where_no_file_holds_the_systems_certificates_truststore_asks_for_them",
            f"{CERTIFICATES}::test_system_without_certificates_gets_those_of_certifi",
            f"{CERTIFICATES}::test_file_that_holds_no_certificate_is_told",
            f"{CERTIFICATES}::test_connection_without_tls_would_trust_nobody",
        ),
        removals=(
            Removal(
                where="http.adapters:CERTIFICATE_VARIABLES",
                by="('SSL_CERT_FILE', 'SSL_CERT_DIR')",
                tests=(f"{CERTIFICATES}::test_authority_in_a_file_that_any_usual_variable_names_is_trusted",),
            ),
            Removal(
                where="http.client:HttpClient._context", what="no_tls_context", by="tls_context(True, self._environ)"
            ),
            Removal(
                where="http.adapters:_system_context",
                by="lambda: ssl.create_default_context(cafile=__import__('certifi').where())",
                tests=(
                    f"{CERTIFICATES}::test_without_a_variable_the_certificates_of_the_system_are_trusted",
                    f"{CERTIFICATES}::test_where_no_file_holds_the_systems_certificates_truststore_asks_for_them",
                ),
            ),
            Removal(
                where="http.adapters:no_tls_context",
                by="lambda: tls_context(False, {})",
                tests=(f"{CERTIFICATES}::test_connection_without_tls_would_trust_nobody",),
            ),
        ),
    ),
    Row(
        number=89,
        part="a",
        fault="a key for a server of this machine, which is called by another of its names or on another port",
        outcome="sent; where a key is held back, the error says so, to which server, and what to set",
        tests=(
            ONE_HOST,
            HELD_BACK,
            f"{ENDPOINTS}::test_key_for_this_machine_stays_on_it",
            f"{ENDPOINTS}::test_key_for_a_server_elsewhere_does_not_go_to_this_machine",
            f"{ENDPOINTS}::test_key_that_is_held_back_is_told_with_its_server_and_the_variable_to_set",
            f"{PRESETS}::test_key_set_for_this_machine_is_sent_under_its_other_names",
            f"{PRESETS}::test_key_of_a_provider_elsewhere_is_not_sent_to_this_machine",
        ),
        removals=(
            Removal(
                where="core.urls:is_same_server",
                by="lambda url, home: host_of(url) == host_of(home)",
                tests=(ONE_HOST, f"{PRESETS}::test_key_set_for_this_machine_is_sent_under_its_other_names"),
            ),
            Removal(
                where="core.urls:is_same_server",
                what="all",
                by="is_loopback(urlsplit(url).hostname or '')",
                tests=(
                    f"{ENDPOINTS}::test_key_for_a_server_elsewhere_does_not_go_to_this_machine",
                    f"{PRESETS}::test_key_of_a_provider_elsewhere_is_not_sent_to_this_machine",
                ),
            ),
            Removal(
                where="core.urls:is_loopback",
                by="lambda host: 'localhost' in host or '127.' in host",
                tests=(f"{ENDPOINTS}::test_key_for_this_machine_stays_on_it",),
            ),
            Removal(where="http.errors:status_error", what="no_key", by="''", tests=(HELD_BACK,)),
        ),
    ),
    Row(
        number=89,
        part="c",
        fault="a base URL that is set, and a model with the prefix of another provider, or none, or no model at all",
        outcome="one rule; nothing meant for a server goes to the embedded model; the address is told with its origin",
        tests=(
            RULE,
            f"{ENDPOINTS}::test_with_a_base_url_and_no_model_nothing_is_meant_for_the_embedded_one",
            "providers/test_registry.py::test_with_a_base_url_set_any_name_without_a_provider_goes_there",
            "providers/test_registry.py::test_prefix_of_another_provider_means_its_own_server",
            "providers/test_registry.py::test_address_without_a_model_asks_for_one_and_not_the_embedded_model",
            f"{KEYS}::test_server_of_ones_own_is_one_line",
            f"{KEYS}::test_address_without_a_model_sends_nothing_to_the_embedded_one",
            "magic/test_doctor.py::test_address_of_the_model_and_of_bare_names_is_told_with_where_they_come_from",
            "magic/test_doctor.py::test_base_url_that_the_model_does_not_use_is_noted",
        ),
        removals=(
            Removal(
                where="core.settings:_nearness",
                by="lambda origin: 0",
                tests=(RULE, "providers/test_registry.py::test_prefix_of_another_provider_means_its_own_server"),
            ),
            Removal(
                where="core.settings:Settings.model_for",
                by="lambda self, base_url='': self.model",
                tests=(f"{KEYS}::test_address_without_a_model_sends_nothing_to_the_embedded_one",),
            ),
            Removal(
                where="magic.commands:Commands._do_use",
                what="was_set",
                by="False",
                tests=(f"{KEYS}::test_server_of_ones_own_is_one_line",),
            ),
            Removal(
                where="magic.doctor:_address",
                what="settings.configured_address",
                by="('x',)",
                tests=("magic/test_doctor.py::test_base_url_that_the_model_does_not_use_is_noted",),
            ),
        ),
    ),
)
