"""What a server does not accept about a request, in the shapes in which servers say so."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aichat_magic.core import errors
from aichat_magic.http.error_bodies import ErrorBody
from aichat_magic.http.errors import status_error
from aichat_magic.http.refusals import unsupported_option


def failed(status, body="", headers=None):
    data = body.encode() if isinstance(body, str) else body
    data = json.dumps(body).encode() if isinstance(body, (dict, list)) else data
    return status_error(status, headers or {}, data, provider="openai", wall_clock=lambda: 1_800_000_000.0)


def openai(message, **more):
    return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None, **more}}


def forbidden(*place):
    return {"type": "extra_forbidden", "loc": ["body", *place], "msg": "Extra inputs are not permitted", "input": "x"}


OPTIONS = {
    "OpenAI, a limit of another name": (
        openai(
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' "
            "instead.",
            param="max_tokens",
            code="unsupported_parameter",
        ),
        "max_tokens",
        "max_completion_tokens",
    ),
    "OpenAI, a value": (
        openai(
            "Unsupported value: 'temperature' does not support 0.2 with this model. Only the default is supported.",
            param="temperature",
            code="unsupported_value",
        ),
        "temperature",
        None,
    ),
    "OpenAI, without code and param": (
        openai("Unsupported parameter: 'top_p' is not supported with this model."),
        "top_p",
        None,
    ),
    "OpenAI, unknown": (
        openai("Unknown parameter: 'colour'.", param="colour", code="unknown_parameter"),
        "colour",
        None,
    ),
    "OpenAI, nested": (
        openai("Unknown parameter: 'stream_options.detail'.", param="stream_options.detail", code="unknown_parameter"),
        "stream_options",
        None,
    ),
    "OpenAI, older": (openai("Unrecognized request argument supplied: top_k"), "top_k", None),
    "OpenAI, a schema": (
        openai(
            "Invalid parameter: 'response_format' of type 'json_schema' is not supported with this model.",
            param="response_format",
        ),
        "response_format",
        None,
    ),
    "OpenAI, not verified": (
        openai("Your organization must be verified to stream this model.", param="stream", code="unsupported_value"),
        "stream",
        None,
    ),
    "not verified, without param": (openai("Your organization must be verified to stream this model."), "stream", None),
    "Azure": (
        openai("Additional properties are not allowed ('stream_options' was unexpected) - 'stream_options'"),
        "stream_options",
        None,
    ),
    "vLLM and Azure, options of streams": (
        openai("The 'stream_options' parameter is only allowed when 'stream' is enabled."),
        "stream_options",
        None,
    ),
    "Mistral": ({"detail": [forbidden("stream_options", "include_usage")]}, "stream_options", None),
    "Mistral, wrapped": ({"object": "error", "message": {"detail": [forbidden("logit_bias")]}}, "logit_bias", None),
    "Mistral, wrapped in a string": (
        {"object": "error", "message": json.dumps({"detail": [forbidden("frequency_penalty")]})},
        "frequency_penalty",
        None,
    ),
    "pydantic 1": ({"detail": [{"loc": ["body", "top_a"], "type": "value_error.extra", "msg": "no"}]}, "top_a", None),
    "pydantic, a value": (
        {
            "detail": [
                {"loc": ["body", "response_format", "type"], "type": "literal_error", "msg": "Input should be ..."}
            ]
        },
        "response_format",
        None,
    ),
    "vLLM, a list as Python writes it": (
        {
            "object": "error",
            "message": "[{'type': 'extra_forbidden', 'loc': ('body', 'top_a'), 'msg': 'Extra inputs are not allowed'}]",
            "code": 400,
        },
        "top_a",
        None,
    ),
    "Anthropic": (
        {
            "type": "error",
            "error": {"type": "invalid_request_error", "message": "seed: Extra inputs are not permitted"},
        },
        "seed",
        None,
    ),
    "Anthropic, nested": (openai("output_config.format: Extra inputs are not permitted"), "output_config", None),
    "Anthropic, deprecated": (openai("`temperature` is deprecated for this model."), "temperature", None),
    "Anthropic, one of two": (
        openai("`temperature` and `top_p` cannot both be specified for this model. Please use only one."),
        "top_p",
        None,
    ),
    "Anthropic, effort": (openai("This model does not support the effort parameter."), "effort", None),
    "Fireworks": (openai("Extra inputs are not permitted, field: 'headers'"), "headers", None),
    "Groq": (openai("property 'logit_bias' is unsupported"), "logit_bias", None),
    "Groq, plain": (openai("`logprobs` is not supported with this model"), "logprobs", None),
    "Groq, a schema": (openai("This model does not support response format `json_schema`."), "response_format", None),
    "Groq, a value": (openai("`reasoning_effort` must be one of `none` or `default`"), "reasoning_effort", None),
    "Cerebras": (
        {"message": "body.top_a: property 'body.top_a' is unsupported", "param": "top_a", "code": "wrong_api_format"},
        "top_a",
        None,
    ),
    "DeepSeek": (openai("This response_format type is unavailable now"), "response_format", None),
    "DeepSeek, an older server": (
        openai(
            "Failed to deserialize the JSON body into the target type: response_format.type: unknown variant "
            "`json_schema`, expected `text` or `json_object` at line 1 column 90"
        ),
        "response_format",
        None,
    ),
    "serde": (openai("Failed to deserialize the JSON body: unknown field `top_a`, expected one of `n`"), "top_a", None),
    "xAI": (
        {
            "code": "Client specified an invalid argument",
            "error": "Argument not supported on this model: presencePenalty",
        },
        "presencePenalty",
        None,
    ),
    "xAI, newer": ({"error": "Model grok-9 does not support parameter presencePenalty."}, "presencePenalty", None),
    "Gemini": (
        [
            {
                "error": {
                    "code": 400,
                    "message": 'Invalid JSON payload received. Unknown name "top_a": Cannot find field.\nInvalid JSON '
                    'payload received. Unknown name "top_b": Cannot find field.',
                    "status": "INVALID_ARGUMENT",
                }
            }
        ],
        "top_a",
        None,
    ),
    "Gemini, nested": (
        [{"error": {"message": "Unknown name \"budget\" at 'extra_body.google': Cannot find field."}}],
        "extra_body",
        None,
    ),
    "Ollama": (openai('"gemma9:4b" does not support thinking'), "thinking", None),
    "Ollama, tools": (openai("registry.ollama.ai/library/gemma9:latest does not support tools"), "tools", None),
    "Ollama, a type": (
        {"error": "json: cannot unmarshal object into Go struct field ChatRequest.format of type string"},
        "format",
        None,
    ),
    "Go": ({"error": 'json: unknown field "top_a"'}, "top_a", None),
    "llama.cpp": ({"error": {"code": 400, "message": "Unsupported param: echo"}}, "echo", None),
    "llama.cpp, tools": ({"error": {"code": 400, "message": "tools param requires --jinja flag"}}, "tools", None),
    "llama.cpp, a schema": (
        {"error": {"message": 'response_format type must be one of "text" or "json_object", but got: json_schema'}},
        "response_format",
        None,
    ),
    "Bedrock": (
        {"message": "Malformed input request: #: extraneous key [top_a] is not permitted, please reformat your input."},
        "top_a",
        None,
    ),
    "Cohere": ({"message": "invalid request: parameter 'top_a' is not a valid field"}, "top_a", None),
    "litellm": (openai("UnsupportedParamsError: m does not support parameters: ['seed'], for model=m"), "seed", None),
    "OpenRouter, the provider's answer in a string": (
        {
            "error": {
                "message": "Provider returned error",
                "code": 400,
                "metadata": {"raw": json.dumps(openai("Unknown parameter: 'top_a'.")), "provider_name": "X"},
            }
        },
        "top_a",
        None,
    ),
    "OpenAI, a tier": (openai("Unsupported service_tier: flex"), "service_tier", None),
    "OpenAI, an effort": (
        openai(
            "Unsupported value: 'reasoning_effort' does not support 'minimal' with this model. Use 'low'",
            param="reasoning_effort",
            code="unsupported_value",
        ),
        "reasoning_effort",
        None,
    ),
    "Moonshot": (openai("invalid temperature: only 1 is allowed for this model"), "temperature", None),
    "Anthropic, while it thinks": (
        openai("`temperature` may only be set to 1 when thinking is on."),
        "temperature",
        None,
    ),
    "Gemini, JSON": (
        [{"error": {"code": 400, "message": "JSON mode is not enabled for models/m"}}],
        "response_format",
        None,
    ),
    "Gemini, thinking": ([{"error": {"code": 400, "message": "Thinking is not enabled for m"}}], "thinking", None),
    "LM Studio": ({"error": "'response_format.type' must be 'json_schema' or 'text'"}, "response_format", None),
    "streaming in prose": (openai("This model does not support streaming."), "stream", None),
    "text": ("Unrecognized request argument supplied: seed", "seed", None),
}


@pytest.mark.parametrize("status", [400, 422])
@pytest.mark.parametrize(("body", "option", "instead"), OPTIONS.values(), ids=OPTIONS)
def test_an_option_that_is_refused_is_named(status, body, option, instead):
    error = failed(status, body)
    assert type(error) is errors.UnsupportedOptionError
    assert (error.option, error.instead, error.status) == (option, instead, status)
    assert not error.is_retryable


@pytest.mark.parametrize(
    "body",
    [
        openai(
            "Unsupported value: 'messages[0].role' does not support 'system' with this model.", param="messages[0].role"
        ),
        openai("Invalid type for 'temperature': expected a number.", param="temperature", code="invalid_type"),
        openai("The requested model 'gpt_9' is not supported.", param="model", code="unsupported_value"),
        openai("Model `my_model` is not supported"),
        openai("max_tokens is too large: 100000. This model supports at most 16384.", param="max_tokens"),
        openai("Invalid schema for response_format 'x': 'required' is missing.", param="response_format"),
        openai("messages.1.cache_control.scope: Extra inputs are not permitted"),
        openai("'messages.1' : for 'role:user' the following must be satisfied: property 'top_a' is unsupported"),
        openai("Failed to deserialize: into the target type: messages[1].role: unknown variant `developer`"),
        openai("This model does not support image input"),
        openai("The system role is not supported"),
        {"detail": [forbidden("messages", 0, "user", "name")]},
        {"detail": [{"type": "missing", "loc": ["body", "model"], "msg": "Unknown parameter: 'x'", "input": "y"}][:0]},
        {"error": {"message": "too long", "input": "Unknown parameter: 'top_a'"}},
        {"error": "json: cannot unmarshal array into Go struct field ChatRequest.messages.content of type string"},
        "",
        "[" * 10_000,
    ],
)
def test_what_is_refused_is_not_always_an_option(body):
    assert type(failed(400, body)) is errors.BadRequestError


def test_an_option_is_named_whatever_the_status_only_where_the_request_is_at_fault():
    assert type(failed(503, openai("Unknown parameter: 'top_a'."))) is errors.ServerError


@given(st.text(max_size=300) | st.text("'`.:[](_ abunkow", max_size=300))
def test_any_words_give_a_name_or_none(words):
    found = unsupported_option(ErrorBody.read(json.dumps(openai(words)).encode()))
    assert found is None or found.option.isidentifier()


@pytest.mark.parametrize(
    "piece", ["unknown parameter ", "'a' and ", "a_b.", "loc': ('body', 'extra_forbidden", "use 'a' ", "_", "["]
)
def test_words_of_any_length_are_read_with_few_steps(piece):
    body = ErrorBody.read(json.dumps({"errors": [openai(piece * 5000)] * 200}).encode())
    assert len(body.words) <= 1
    assert unsupported_option(body) is None or unsupported_option(body).option


# --- the kinds of refusals


def openrouter(message, code, **metadata):
    return {"error": {"message": message, "code": code, "metadata": metadata}}


def google(*quotas, words="You exceeded your current quota, please check your plan and billing details."):
    violations = [{"quotaMetric": "generativelanguage.googleapis.com/requests", "quotaId": quota} for quota in quotas]
    details = [
        {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": violations},
        {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "42s"},
    ]
    return [{"error": {"code": 429, "message": words, "status": "RESOURCE_EXHAUSTED", "details": details}}]


PER_MINUTE, PER_DAY = "GenerateRequestsPerMinutePerProjectPerModel-FreeTier", "GenerateRequestsPerDayPerProjectPerModel"

QUOTAS = {
    "OpenAI": (429, openai("You exceeded ...", type="insufficient_quota", code="insufficient_quota"), None),
    "OpenAI, a hard limit": (429, openai("no", code="billing_hard_limit_reached"), None),
    "OpenAI, requests of a day": (
        429,
        openai("Rate limit reached for m on requests per day (RPD): Limit 200, Used 200. Please try again in 7m12s."),
        432,
    ),
    "Anthropic, no credit": (400, openai("Your credit balance is too low to access the API."), None),
    "Anthropic, own limit": (
        400,
        openai("You have reached your specified API usage limits. You will regain access on 2027-02-01 at 00:00 UTC."),
        1_801_440_000 - 1_800_000_000,
    ),
    "402": (402, {"error": {"message": "Insufficient Balance"}}, None),
    "OpenRouter, no credit": (402, openrouter("Insufficient credits. Add more", 402), None),
    "OpenRouter, the limit of a key": (403, openrouter("Key limit exceeded (total limit).", 403), None),
    "OpenRouter, free models of a day": (
        429,
        openrouter(
            "Rate limit exceeded: free-models-per-day. Add 10 credits to unlock 1000 free model requests per day",
            429,
            headers={"X-RateLimit-Limit": "50", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1800036000000"},
        ),
        36_000,
    ),
    "OpenRouter, the source of a limit": (429, openrouter("no", 429, limit_source="openrouter_free_tier_daily"), None),
    "Groq, tokens of a day": (
        429,
        openai(
            "Rate limit reached for model `m-3.3` on tokens per day (TPD): Limit 100000, Used 97050, Requested 3619. "
            "Please try again in 9m38.016s. Need more tokens? Upgrade",
            type="tokens",
            code="rate_limit_exceeded",
        ),
        578.016,
    ),
    "Google, a day": (429, google(PER_DAY), None),
    "Google, a day and a minute": (429, google(PER_MINUTE, PER_DAY), None),
    "Google, none at all": (
        429,
        google(words="Quota exceeded for metric: googleapis.com/free_tier_requests, limit: 0, model: m"),
        None,
    ),
    "Cerebras": (
        429,
        {"message": "Tokens per day limit exceeded - too many tokens.", "code": "token_quota_exceeded"},
        None,
    ),
    "Bedrock": (429, {"message": "Too many tokens per day, please wait before trying again."}, None),
    "GitHub": (
        429,
        openai("Rate limit of 150 per 86400s exceeded for UserByModelByDay. Please wait 5012 seconds before retrying."),
        5012,
    ),
    "Ollama's cloud": (429, {"error": "you have reached your weekly usage limit, upgrade for more"}, None),
    "Fireworks": (412, {"error": "Account x is suspended, possibly due to reaching the monthly spending limit"}, None),
    "Moonshot": (429, {"error": {"message": "suspended", "type": "exceeded_current_quota_error"}}, None),
    "Z.ai": (429, {"error": {"code": "1113", "message": "Insufficient balance or no resource package."}}, None),
    "xAI": (
        429,
        {"error": "Your team has either used all available credits or reached its monthly spending limit."},
        None,
    ),
}


@pytest.mark.parametrize(("status", "body", "wait_s"), QUOTAS.values(), ids=QUOTAS)
def test_a_quota_that_is_used_up_is_no_matter_of_pace(status, body, wait_s):
    error = failed(status, body)
    assert type(error) is errors.QuotaError
    assert error.is_fatal
    assert not error.is_retryable
    if wait_s is not None:
        assert error.retry_after_s == pytest.approx(wait_s)
        assert "The quota is free again in " in str(error)


@pytest.mark.parametrize(
    "body",
    [
        openai("You exceeded ...", code="insufficient_quota"),
        google(words="Quota exceeded for metric: googleapis.com/free_tier_requests, limit: 0, model: m"),
        google(PER_DAY, words="Quota exceeded for metric: googleapis.com/free_tier_requests, limit: 0, model: m"),
    ],
)
def test_money_is_not_there_again_after_the_wait_for_the_pace(body):
    error = failed(429, body, {"retry-after": "20", "x-ratelimit-reset-requests": "1s"})
    assert error.retry_after_s is None
    assert str(error).endswith("Check plan and billing of the account at 'openai'.")


def test_a_quota_of_a_day_at_google_is_there_again_at_its_midnight():
    # 2027-01-15 08:00 UTC is midnight in California; the delay that it names is that of the minute.
    assert failed(429, google(PER_DAY)).retry_after_s == 24 * 3600
    assert str(failed(429, google(PER_DAY))).endswith("The quota is free again in 1 d.")


PACES = {
    "Google, a minute": google(PER_MINUTE),
    "Google, only words": {"error": {"code": 429, "message": "Resource has been exhausted (e.g. check quota)."}},
    "Groq": openai("Rate limit reached on tokens per minute (TPM): Limit 6000, Used 5900. Please try again in 5s."),
    "OpenRouter": openrouter(
        "Rate limit exceeded: free-models-per-min. Add 10 credits to unlock 1000 free model requests per day", 429
    ),
    "OpenRouter, a shared pool": openrouter(
        "Provider returned error", 429, raw="m is temporarily rate-limited upstream", provider_name="X"
    ),
    "Azure": {
        "error": {
            "code": "429",
            "message": "exceeded token rate limit of your pricing tier. Please retry after 55 seconds.",
        }
    },
    "Anthropic": {
        "error": {"type": "rate_limit_error", "message": "This would exceed your rate limit of 50 requests per minute."}
    },
    "Cerebras": {
        "message": "Requests per minute limit exceeded - too many requests.",
        "code": "request_quota_exceeded",
    },
    "Databricks": {
        "error_code": "REQUEST_LIMIT_EXCEEDED",
        "message": "Exceeded workspace input tokens per minute limit",
    },
    "Bedrock": {"message": "Too many tokens, please wait before trying again."},
    "a limit in words": openai("You exceeded your per-minute token limit."),
    "nothing": "",
}


@pytest.mark.parametrize("body", PACES.values(), ids=PACES)
def test_a_matter_of_pace_is_no_quota(body):
    error = failed(429, body)
    assert type(error) is errors.RateLimitError
    assert error.is_retryable


LENGTHS = {
    "OpenAI": (
        "This model's maximum context length is 8192 tokens. However, your messages resulted in 10000 tokens.",
        (8192, 10000),
    ),
    "OpenAI, with the reply": (
        "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens (8000 in the messages, "
        "1000 in the completion).",
        (8192, 9000),
    ),
    "OpenAI, newer": (
        "Input tokens exceed the configured limit of 272000 tokens. Your messages resulted in 300000 tokens.",
        (272000, 300000),
    ),
    "OpenAI, without numbers": ("Your input exceeds the context window of this model.", (None, None)),
    "OpenRouter": (
        "This endpoint's maximum context length is 131072 tokens. However, you requested about 200000 tokens",
        (131072, 200000),
    ),
    "Anthropic": ("prompt is too long: 210000 tokens > 200000 maximum", (200000, 210000)),
    "Anthropic, with the reply": (
        "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000, decrease input length",
        (200000, 210000),
    ),
    "Gemini, older": (
        "The input token count exceeds the maximum number of tokens allowed 1048576.",
        (1048576, None),
    ),
    "Ollama": ("prompt too long; exceeded max context length by 100 tokens", (None, None)),
    "Gemini": (
        "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
        (1048576, 1200000),
    ),
    "llama.cpp": (
        "request (9000 tokens) exceeds the available context size (4096 tokens), try increasing it",
        (4096, 9000),
    ),
    "vLLM": ("The decoder prompt (length 5000) is longer than the maximum model length of 4096.", (4096, 5000)),
    "Mistral": (
        "Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum context length",
        (32768, 40000),
    ),
    "xAI": ("This model's maximum prompt length is 131072 but the request contains 200000 tokens.", (131072, 200000)),
    "TGI": ("`inputs` must have less than 1024 tokens. Given: 2000", (1024, 2000)),
    "LM Studio": (
        "Trying to keep the first 5000 tokens when context overflows. The model is loaded with context length of only "
        "4096 tokens",
        (4096, 5000),
    ),
    "Cohere": (
        "too many tokens: total number of tokens in the prompt cannot exceed 4081 - received 5000.",
        (4081, 5000),
    ),
    "Bedrock": ("Input is too long for requested model.", (None, None)),
    "Moonshot": ("Your request exceeded model token limit: 8192", (8192, None)),
    "llama-cpp-python": ("Requested tokens (516) exceed context window of 512", (512, 516)),
    "separators": ("maximum context length is 8,192 tokens. However, you requested 10,000 tokens", (8192, 10000)),
}


@pytest.mark.parametrize("status", [400, 413, 422])
@pytest.mark.parametrize(("words", "numbers"), LENGTHS.values(), ids=LENGTHS)
def test_a_prompt_that_is_too_long_is_told_with_its_numbers(status, words, numbers):
    for body in (
        openai(words),
        {"error": words},
        {"object": "error", "message": words},
        [{"error": {"message": words}}],
    ):
        error = failed(status, body)
        assert type(error) is errors.ContextLengthError
        assert (error.limit_tokens, error.sent_tokens) == numbers
        assert not error.is_fatal
        assert not error.is_retryable


def test_a_prompt_that_is_too_long_is_told_by_codes_and_members():
    body = {
        "error": {
            "code": 400,
            "message": "no",
            "type": "exceed_context_size_error",
            "n_prompt_tokens": 1407,
            "n_ctx": 256,
        }
    }
    error = failed(400, body)
    assert type(error) is errors.ContextLengthError
    assert (error.limit_tokens, error.sent_tokens) == (256, 1407)
    assert type(failed(400, openai("no", code="context_length_exceeded"))) is errors.ContextLengthError
    assert type(failed(413, {"error": {"type": "request_too_large", "message": "no"}})) is errors.ContextLengthError


@pytest.mark.parametrize("status", [413, 429])
def test_a_row_that_is_larger_than_the_limit_of_a_minute_is_not_waited_for(status):
    words = (
        "Request too large for model `m` on tokens per minute (TPM): Limit 6000, Requested 9000, reduce your message"
    )
    error = failed(status, openai(words, type="tokens", code="rate_limit_exceeded"))
    assert type(error) is errors.ContextLengthError
    assert (error.limit_tokens, error.sent_tokens) == (6000, 9000)


FLAGGED = {
    "OpenAI": (400, openai("Your request was rejected", code="content_policy_violation")),
    "OpenAI, thinking models": (
        400,
        openai(
            "Invalid prompt: your prompt was flagged as potentially violating our usage policy.", code="invalid_prompt"
        ),
    ),
    "Azure": (
        400,
        {
            "error": {
                "message": "The response was filtered: the prompt triggered Azure OpenAI's content management policy.",
                "code": "content_filter",
                "status": 400,
                "innererror": {
                    "code": "ResponsibleAIPolicyViolation",
                    "content_filter_result": {"hate": {"filtered": True}},
                },
            }
        },
    ),
    "Anthropic": (
        400,
        {"error": {"type": "invalid_request_error", "message": "Output blocked by content filtering policy"}},
    ),
    "OpenRouter": (
        403,
        openrouter("m requires moderation. Your input was flagged", 403, reasons=["violence"], flagged_input="..."),
    ),
    "xAI": (
        403,
        {
            "code": "The caller does not have permission to execute the specified operation",
            "error": "Content violates usage guidelines. Team: t, API key ID: k, Failed check: SAFETY_CHECK_TYPE_BIO",
        },
    ),
    "DeepSeek": (400, openai("Content Exists Risk")),
    "Moonshot": (400, {"error": {"message": "considered high risk", "type": "content_filter", "param": "prompt"}}),
    "Alibaba": (400, openai("Input data may contain inappropriate content.", code="data_inspection_failed")),
    "OpenRouter, in a string": (
        400,
        openrouter("Provider returned error", 400, raw=json.dumps(openai("no", code="content_filter"))),
    ),
}


@pytest.mark.parametrize(("status", "body"), FLAGGED.values(), ids=FLAGGED)
def test_a_flagged_prompt_is_the_refusal_of_one_row(status, body):
    error = failed(status, body)
    assert type(error) is errors.FlaggedPromptError
    assert error.status == status
    assert not error.is_fatal
    assert not error.is_retryable


@pytest.mark.parametrize(
    "body",
    [
        openai("You are not allowed to use this model"),
        {
            "code": "permission-denied",
            "error": "Access to the chat endpoint is denied. Please contact your team admin.",
        },
        openai("Your account has been suspended for violating our usage policies."),
        openai("Your organization was flagged and its access is restricted."),
        "<html><title>Blocked</title>This content violates our policies and was blocked by the content filter.</html>",
        "",
    ],
)
def test_a_403_for_whoever_asks_stays_everybodys(body):
    assert type(failed(403, body)) is errors.PermissionDeniedError


LOADING = {
    "llama.cpp": (503, {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}, None),
    "Hugging Face": (503, {"error": "Model a/b is currently loading", "estimated_time": 20.5}, 20.5),
    "Ollama": (500, {"error": "llm server loading model"}, None),
    "TGI": (503, {"error": "The model a/b is still loading"}, None),
    "a header": (503, {"error": "model is loading"}, None),
}


@pytest.mark.parametrize(("status", "body", "wait_s"), LOADING.values(), ids=LOADING)
def test_a_model_that_is_loading_is_told(status, body, wait_s):
    error = failed(status, body)
    assert type(error) is errors.ModelLoadingError
    assert error.is_retryable
    assert error.retry_after_s == wait_s
    assert "loading the model" in str(error)


@pytest.mark.parametrize("body", [openai("Service Unavailable"), openai("Error while loading shared libraries"), ""])
def test_a_503_is_not_always_a_model_that_is_loading(body):
    assert type(failed(503, body)) is errors.ServerError


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (429, openai("Resource Unavailable", code="resource_unavailable")),
        (429, openai("no", code="resource_unavailable")),
        (498, openai("Flex capacity exceeded", code="capacity_exceeded")),
        (498, ""),
        (429, {"object": "error", "message": "Service tier capacity exceeded for this model.", "code": "3505"}),
    ],
)
def test_no_capacity_is_told_and_waited_for(status, body):
    error = failed(status, body)
    assert type(error) is errors.NoCapacityError
    assert error.is_retryable


def test_the_reason_of_a_server_behind_a_gateway_is_shown_with_its_name():
    raw = json.dumps({"error": {"message": "The GPU is on fire", "type": "server_error"}})
    for text in (raw, "The GPU is on fire"):
        error = failed(502, openrouter("Provider returned error", 502, raw=text, provider_name="Acme"))
        assert str(error) == (
            "openai failed (502): Provider returned error: The GPU is on fire (Acme). Try again later."
        )
