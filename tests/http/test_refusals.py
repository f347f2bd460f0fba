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
