"""Servers that object to parts of a request, each in the shape and with the kind of words of some real one.

::

    with ChatServer(picky(no_temperature)) as server: ...
    with ChatServer(picky(no_schema_mode, answer=fits)) as server: ...
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from servers import Answer, Received, payload, text

# Returns the body of the refusal; None: no objection to this request.
Objection = Callable[[Mapping[str, Any]], Any]


def openai_error(message: str, **more: Any) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None, **more}}


def claude_error(message: str) -> dict[str, Any]:
    return {"type": "error", "error": {"type": "invalid_request_error", "message": message}}


def objects_to(
    name: str, body: Any, *, value: Any = ..., beside: str = "", unless: Callable[[Any], bool] | None = None
) -> Objection:
    """An objection to a field, to one value of it, or to it beside another field; `name` may have dots in it."""

    def objection(sent: Mapping[str, Any]) -> Any:
        found: Any = sent
        for part in name.split("."):
            found = found.get(part) if isinstance(found, Mapping) else None
        is_there = found is not None and (value is ... or found == value) and (not beside or beside in sent)
        return body if is_there and not (unless is not None and unless(found)) else None

    return objection


def picky(
    *objections: Objection,
    answer: Callable[[Received, int], Answer] = lambda received, attempt: text("as you like"),
    code: int = 400,
) -> Callable[[Received, int], Answer]:
    """The first objection to a request is its answer; without one it is `answer`."""

    def choose(received: Received, attempt: int) -> Answer:
        refusals = (objection(received.json) for objection in objections)
        body = next((body for body in refusals if body is not None), None)
        return answer(received, attempt) if body is None else payload(body, code=code)

    return choose


no_temperature = objects_to(
    "temperature",
    openai_error(
        "Unsupported parameter: 'temperature' is not supported with this model.",
        param="temperature",
        code="unsupported_parameter",
    ),
)
only_temperature_1 = objects_to(
    "temperature",
    openai_error(
        "Unsupported value: 'temperature' does not take this value with this model. Only the default (1) is supported.",
        param="temperature",
        code="unsupported_value",
    ),
    unless=lambda value: value == 1,
)
other_token_limit = objects_to(
    "max_tokens",
    openai_error(
        "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
        param="max_tokens",
        code="unsupported_parameter",
    ),
)
no_stream_options = objects_to(
    "stream_options", {"detail": [{"type": "extra_forbidden", "loc": ["body", "stream_options"], "msg": "Extra"}]}
)
no_streams = objects_to(
    "stream",
    openai_error("Your organization must be verified to stream this model.", param="stream", code="unsupported_value"),
    value=True,
)
# DeepSeek, Groq, llama.cpp of old: JSON, but no schemas; and a server that knows neither.
no_json_schema = objects_to(
    "response_format.type", openai_error("This response_format type is unavailable now"), value="json_schema"
)
no_response_format = objects_to(
    "response_format", openai_error("Unknown parameter: 'response_format'.", param="response_format")
)


def no_bounds(sent: Mapping[str, Any]) -> Any:
    """A grammar that knows no bounds: the words of Anthropic for its own, which others have alike."""
    found = re.search(r'"((?:exclusive)?(?:min|max)imum|(?:min|max)(?:Items|Length)|pattern)": ', json.dumps(sent))
    form = sent.get("response_format") or sent.get("output_config", {}).get("format")
    if not isinstance(form, Mapping) or found is None or found[1] not in json.dumps(form):
        return None
    if re.search(rf'"{found[1]}": (?!.*description)', json.dumps(form)):
        return openai_error(f"output_config.format.schema: For 'integer' type, property '{found[1]}' is not supported")
    return None
