"""Thinking, wherever a server puts it: in fields, parts and blocks of its own, or between tags in the text.

Sources: API references of DeepSeek (`reasoning_content`), OpenRouter (`reasoning`, `reasoning_details`), Mistral (parts
of type ``thinking``), Google ("OpenAI compatibility": `extra_content.google.thought`, ``<thought>``) and Anthropic
("Extended thinking"); vLLM and llama.cpp for ``<think>`` without a parser (all read 2026-11).
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from ..core.messages import Chunk, FinishReason
from ..text.characters import is_blank

# Tags that open thinking at the beginning of a text, and those that close it: DeepSeek, Qwen and most others; Gemini;
# Seed; Magistral; Kimi.
_CLOSING: Final[Mapping[str, str]] = {
    "<think>": "</think>",
    "<thought>": "</thought>",
    "<seed:think>": "</seed:think>",
    "[THINK]": "[/THINK]",
    "◁think▷": "◁/think▷",
}
_CLOSING_TAGS: Final = tuple(_CLOSING.values())
_ALL_TAGS: Final = (*_CLOSING, *_CLOSING_TAGS)
_BEGINNINGS: Final = frozenset({*(tag[0] for tag in _ALL_TAGS), *" \t\r\n\v\f"})
# All beginnings of a closing tag at the end of a piece, to wait for the next one.
_BEGUN: Final = re.compile(
    "(?:" + "|".join(re.escape(tag[:n]) for tag in _CLOSING_TAGS for n in range(len(tag) - 1, 0, -1)) + r")\Z"
)
_FIRST_OF_CLOSER: Final = re.compile("[" + re.escape("".join({tag[0] for tag in _CLOSING_TAGS})) + "]")
_CLOSER: Final = re.compile("|".join(map(re.escape, _CLOSING_TAGS)))
_FENCE: Final = re.compile(r"^ {0,3}(?:```|~~~)", re.M)
# Between thinking and the answer; the indentation of the answer may be code's.
_BLANK_LINES: Final = re.compile(r"\A(?:[^\S\n]*\n)+")
THINKING_PARTS: Final = ("thinking", "reasoning")
_FIELDS: Final = ("reasoning_content", "reasoning", "thinking")
_JSON_AS_THINKING: Final = "The model sent its JSON as thinking; it counts as the answer."


def thinking_in(message: Mapping[str, Any]) -> str:
    """Return the thinking in the fields and parts of a message of the OpenAI dialect, or of a piece of one.

    Some servers send it in several fields at once; it is taken from one of them.
    """
    get = message.get
    content = get("content")
    # Written out, because a run does this for every row: most messages have none of these.
    if type(content) is str and not (
        get("reasoning_content")
        or get("reasoning")
        or get("thinking")
        or get("reasoning_details")
        or "extra_content" in message
    ):
        return ""
    for name in _FIELDS:
        if isinstance(found := get(name), str) and found:
            return found
    if "reasoning_details" in message:
        return "".join(_texts(message["reasoning_details"]))
    if isinstance(content, list):
        parts = [part for part in content if isinstance(part, dict) and part.get("type") in THINKING_PARTS]
        return "".join(text for part in parts for text in _texts(part.get("thinking") or part.get("summary") or part))
    return content if isinstance(content, str) and is_thought(message) else ""


def is_thought(message: Mapping[str, Any]) -> bool:
    """Tell whether Gemini marks the text of a message as thinking. Where there are tags in it, they say it better."""
    extra = message.get("extra_content")
    google = extra.get("google") if isinstance(extra, dict) else None
    if not isinstance(google, dict) or google.get("thought") is not True:
        return False
    return not any(tag in str(message.get("content")) for tag in ("<thought>", "</thought>"))


def _texts(value: Any) -> Iterator[str]:
    """Yield the texts in parts of thinking: texts, or objects with one under one of two names, or encrypted ones."""
    for part in value if isinstance(value, list) else [value]:
        text = (part.get("text") or part.get("summary")) if isinstance(part, dict) else part
        if isinstance(text, str):
            yield text


def thinking_in_blocks(blocks: Any) -> str:
    """Return the thinking in the blocks of a message of Anthropic's dialect, or in a piece of one."""
    return "\n\n".join(
        block["thinking"] for block in blocks if isinstance(block, dict) and isinstance(block.get("thinking"), str)
    )


class ThinkingBlocks:
    """The blocks of thinking of one reply of Anthropic's dialect, whole or as they arrive, with their signatures."""

    def __init__(self) -> None:
        """Begin a reply."""
        self._blocks: dict[int, dict[str, Any]] = {}

    def add(self, index: Any, part: Any) -> bool:
        """Add a block, or a piece to one.

        Args:
            index: Its number.
            part: The block or the piece.

        Returns:
            Whether it begins a block of thinking after another one.
        """
        if not isinstance(index, int) or not isinstance(part, dict):
            return False
        if (kind := part.get("type")) in ("thinking", "redacted_thinking"):
            is_next = kind == "thinking" and any(block["type"] == kind for block in self._blocks.values())
            self._blocks[index] = dict(part)
            return is_next
        if (block := self._blocks.get(index)) is not None:
            for name in ("thinking", "signature"):
                if isinstance(piece := part.get(name), str):
                    block[name] = f"{block.get(name) or ''}{piece}"
        return False

    def texts(self) -> tuple[str, ...]:
        """Return the blocks as JSON texts, to be sent back unchanged."""
        return tuple(json.dumps(block, ensure_ascii=False) for _, block in sorted(self._blocks.items()))


def whole(chunk: Chunk) -> Chunk:
    """Return a whole reply with its thinking apart from its text."""
    text = chunk.text
    # Written out, because a run does this for every row: no text with a closing tag has none of these words.
    if (
        not chunk.thinking
        and text[:1] not in _BEGINNINGS
        and not ("think" in text or "</thought>" in text or "[/THINK]" in text)
    ):
        return chunk
    reader = ThinkingReader()
    first, last = reader.read(chunk), reader.end(chunk.finish_reason or "stop")
    thinking, text = first.thinking + last.thinking, first.text + last.text
    if last.replaces:
        thinking, text = last.thinking, last.text
    return dataclasses.replace(chunk, text=text, thinking=thinking, remarks=(*chunk.remarks, *last.remarks))


class ThinkingReader:
    """Takes thinking out of the text of one reply, as it arrives.

    Thinking between tags counts where the text begins with it; elsewhere a tag is text. Where the chat template of a
    model has the opening tag, only the closing one arrives: all before it was thinking if the tag stands outside of
    code, alone on its line or before a blank line, with an answer behind it, and if nothing else was thinking.

    A reply that has ended by itself without text, and whose thinking is a JSON object or array and nothing else, is
    that JSON: vLLM's parsers of thinking put answers with a schema there.
    """

    def __init__(self) -> None:
        """Begin a reply."""
        self._step: Callable[[str, bool], str] | None = self._at_start
        self._is_in_text = False
        self._held = ""
        self._closing = ""
        self._is_inside = False  # and not only at the beginning of thinking
        # What this piece adds.
        self._thinking: list[str] = []
        self._text: list[str] = []
        self._replaces = False
        # What there is so far. The text is forgotten once it cannot turn out to be thinking.
        self._all_thinking: list[str] = []
        self._text_so_far: list[str] = []
        self._may_be_unopened = True
        self._has_text = False

    def read(self, chunk: Chunk) -> Chunk:
        """Return a chunk with the thinking of its text moved to `thinking`. Some of it may come with a later one."""
        if chunk.thinking:
            self._may_be_unopened = False
            if self._is_inside and self._held:
                chunk = dataclasses.replace(chunk, thinking=self._held + chunk.thinking)
                self._held = ""
            self._all_thinking.append(chunk.thinking)
        text = chunk.text
        if not text:
            return chunk
        if self._is_answering(text):
            self._has_text = self._has_text or not is_blank(text)
            if self._may_be_unopened:
                self._text_so_far.append(text)
            return chunk
        self._feed(text, is_last=False)
        return self._made(chunk)

    def _is_answering(self, piece: str) -> bool:
        """Tell whether a piece goes on with the text of the answer, without a tag or the beginning of one."""
        if self._held or self._replaces:
            return False
        return self._step is None or (self._is_in_text and not _FIRST_OF_CLOSER.search(piece))

    def end(self, finish_reason: FinishReason) -> Chunk:
        """Return what is still missing at the end of a reply.

        Args:
            finish_reason: Why it ended.
        """
        self._feed("", is_last=True)
        made = self._made(Chunk())
        if not self._has_text and finish_reason == "stop" and is_json_only(thinking := "".join(self._all_thinking)):
            return Chunk(text=thinking, replaces=True, remarks=(_JSON_AS_THINKING,))
        return made

    def _made(self, chunk: Chunk) -> Chunk:
        """Return a chunk with what was read of its text."""
        text, thinking = "".join(self._text), "".join(self._thinking)
        replaces, self._replaces = self._replaces, False
        self._text, self._thinking = [], []
        if replaces:
            self._all_thinking, self._has_text = [], False
        if thinking:
            self._all_thinking.append(thinking)
        self._has_text = self._has_text or not is_blank(text)
        if text == chunk.text and not thinking:
            return chunk
        return dataclasses.replace(chunk, text=text, thinking=chunk.thinking + thinking, replaces=replaces)

    # Each step takes what it can of a text, and returns the rest for the step after it; it holds what it cannot decide.

    def _feed(self, piece: str, *, is_last: bool) -> None:
        """Take a piece apart."""
        rest, self._held = self._held + piece, ""
        while rest:
            if self._step is None:
                self._text.append(rest)
                return
            rest = self._step(rest, is_last)

    def _at_start(self, rest: str, is_last: bool) -> str:
        """Look for an opening tag, at the beginning or after thinking."""
        bare = rest.lstrip()
        tag = next((tag for tag in _ALL_TAGS if bare.startswith(tag)), "")
        if tag:
            # A closing tag at the beginning ends thinking that came in a field, or that there was none of.
            self._closing = _CLOSING.get(tag, tag)
            self._may_be_unopened = False
            if tag in _CLOSING:
                self._step = self._in_thinking
                self._thinking += ["\n\n"] if any(self._all_thinking) or any(self._thinking) else []
            return bare[len(tag) :]
        if not is_last and any(tag.startswith(bare) for tag in _ALL_TAGS):
            self._held = rest
            return ""
        self._step, self._is_in_text = self._in_text, True
        return _BLANK_LINES.sub("", rest) if self._closing else rest

    def _in_thinking(self, rest: str, is_last: bool) -> str:
        """Take thinking up to its closing tag."""
        if not self._is_inside:
            rest = rest.lstrip()
            self._is_inside = bool(rest)
        at = rest.find(self._closing)
        if at >= 0:
            self._thinking.append(rest[:at].rstrip())
            self._step, self._is_inside = self._at_start, False
            return rest[at + len(self._closing) :]
        begun = _BEGUN.search(rest)
        until = len(rest) if is_last or not begun else begun.start()
        until = len(rest[:until].rstrip())  # white space before the closing tag is no thinking
        self._thinking.append(rest[:until])
        self._held = "" if is_last else rest[until:]
        return ""

    def _in_text(self, rest: str, is_last: bool) -> str:
        """Take text, and look whether all of it was thinking whose opening tag did not arrive."""
        if not self._may_be_unopened:
            self._step, self._text_so_far = None, []
            return rest
        tag = _CLOSER.search(rest)
        if tag is None:
            begun = None if is_last else _BEGUN.search(rest)
            until = begun.start() if begun else len(rest)
            self._take_text(rest[:until])
            self._held = rest[until:]
            return ""
        answer = rest[tag.end() :].lstrip()
        if not answer and not is_last:
            self._take_text(rest[: tag.start()])
            self._held = rest[tag.start() :]
            return ""
        self._may_be_unopened = False  # one closing tag is looked at
        before = "".join(self._text_so_far) + rest[: tag.start()]
        space = rest[tag.end() : len(rest) - len(answer)]
        if answer and _is_unopened(before, space):
            self._thinking, self._text, self._replaces = [before.strip()], [], True
            return _BLANK_LINES.sub("", rest[tag.end() :])
        return rest

    def _take_text(self, text: str) -> None:
        """Take text that may still turn out to be thinking."""
        self._text.append(text)
        self._text_so_far.append(text)


def _is_unopened(before: str, space: str) -> bool:
    """Tell whether a closing tag ends thinking, with this text before it and this white space behind it."""
    if not before.strip() or any(tag in before for tag in _CLOSING) or len(_FENCE.findall(before)) % 2:
        return False
    is_alone = before.rstrip(" \t").endswith("\n") and "\n" in space
    return is_alone or space.count("\n") >= 2


def is_json_only(text: str) -> bool:
    """Tell whether a text is a JSON object or array, and nothing else."""
    bare = text.strip()
    if bare[:1] not in ("{", "[") or bare[-1:] not in ("}", "]"):
        return False
    try:
        json.loads(bare)
    except (ValueError, RecursionError):
        return False
    return True
