"""The flags of a `%%aichat` line, in one parser that parsing, help and completion share."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from typing import NoReturn

from ..core.errors import BadInputError
from ..core.options import REASONING_LEVELS, TIERS, UNSET
from ..text.words import nearest_name, shorten

# The hyphen, and what word processors and chats make of it: en dash, em dash, minus.
_DASHES = "-\N{EN DASH}\N{EM DASH}\N{MINUS SIGN}"
_FORMATS = ("markdown", "text", "json", "code")


class ArgumentError(BadInputError):
    """Error: the magic line cannot be understood. Nothing was sent."""


class MagicLineParser(argparse.ArgumentParser):
    """An argument parser that raises instead of ending the process."""

    def error(self, message: str) -> NoReturn:
        """Raise the message that argparse would print before it exits."""
        raise ArgumentError(f"{message[:1].upper()}{message[1:]}. %aichat help shows all flags.")

    def parse_words(self, words: Sequence[str]) -> argparse.Namespace:
        """Parse words; for an unknown flag, the error names the nearest one."""
        flags = [flag for action in self._actions for flag in action.option_strings]
        # To argparse, `-model x` is `-m odel`.
        short = [word for word in words if re.match(r"-[^\W\d][^\s=]", word)]
        for word in short:
            if meant := _long_flag(word, flags):
                raise _unknown(word, meant)
        problem: ArgumentError | None = None
        rest: list[str] = []
        try:
            parsed, rest = self.parse_known_args(words)
        except ArgumentError as error:
            problem = error
        for word in short if problem or rest else ():
            begun = [flag for flag in flags if flag.startswith(f"-{_flag_part(word)}")]
            if meant := begun[0] if len(begun) == 1 else nearest_name(f"-{_flag_part(word)}", flags, least=0.8):
                raise _unknown(word, meant)
        if problem:
            raise problem
        if rest:
            word = rest[0]
            if word[0] in _DASHES:
                raise _unknown(word, _long_flag(word, flags) or nearest_name(_flag_part(word), flags))
            meant = _long_flag(word, flags) if "=" in word else ""
            raise ArgumentError(
                f"{shorten(word, 40)!r} on the line of {self.prog} is not a flag. "
                + (f"Did you mean {meant!r}? " if meant else "")
                + "The prompt goes below the line; a value with spaces needs quotes. "
                "To ask in one line: %aichat ask TEXT"
            )
        return parsed


def _flag_part(word: str) -> str:
    """Return a word without what stands after an equals sign."""
    return word.partition("=")[0]


def _long_flag(word: str, flags: Sequence[str]) -> str:
    """Return the flag of the same name, whatever dashes the word begins with; empty if there is none."""
    name = f"--{_flag_part(word).lstrip(_DASHES).replace('_', '-')}"
    return name if name in flags else ""


def _unknown(word: str, meant: str) -> ArgumentError:
    """Return the error for an unknown flag."""
    suggestion = f" Did you mean {meant!r}?" if meant else ""
    return ArgumentError(f"Unknown flag {shorten(_flag_part(word), 40)!r}.{suggestion} %aichat help shows all flags.")


def _number(text: str) -> float | int:
    """Parse a number as it was written: 0 stays an int, 0.5 is a float."""
    try:
        return int(text)
    except ValueError:
        return float(text)


# argparse names a type by its __name__ in errors: "invalid number value: 'x'".
_number.__name__ = "number"


def _count_or_auto(text: str) -> int | str:
    """Parse a whole number, or the word auto."""
    return text if text == "auto" else int(text)


_count_or_auto.__name__ = "number"


def _number_or_unset(text: str) -> float | int | str:
    """Parse a number, or the word unset."""
    return text if text == UNSET else _number(text)


def _count_or_unset(text: str) -> int | str:
    """Parse a whole number, or the word unset."""
    return text if text == UNSET else int(text)


_number_or_unset.__name__ = "number"
_count_or_unset.__name__ = "int"


def cell_parser() -> MagicLineParser:
    """Return the parser of the `%%aichat` line."""
    parser = MagicLineParser(prog="%%aichat", add_help=False, allow_abbrev=False, usage=argparse.SUPPRESS)
    model = parser.add_argument_group("models")
    model.add_argument(
        "-m",
        "--model",
        action="append",
        default=[],
        metavar="MODEL",
        help="provider/model or alias; twice: both",
    )
    model.add_argument("--keep", type=int, metavar="N", help="with several models: number N goes on")
    model.add_argument("--base-url", default="", metavar="URL", help="address of an OpenAI-compatible server")
    model.add_argument("--proxy", default="", metavar="URL", help="http, https, socks5 or socks5h proxy")
    model.add_argument("--timeout", type=_number, metavar="S", help="time limit of one attempt, in seconds")
    model.add_argument("--allow-not-working", action="store_true", help="use a provider known not to work")
    sampling = parser.add_argument_group("options")
    number, count = _number_or_unset, _count_or_unset
    sampling.add_argument("-t", "--temperature", type=number, metavar="T", help="randomness, 0 (least) to 2")
    sampling.add_argument("--top-p", type=number, metavar="P", help="nucleus sampling, 0 to 1")
    sampling.add_argument("--max-tokens", type=count, metavar="N", help="maximum length of the reply, in tokens")
    sampling.add_argument("--presence-penalty", type=number, metavar="X", help="against repeating topics, -2 to 2")
    sampling.add_argument("--frequency-penalty", type=number, metavar="X", help="against repeating words, -2 to 2")
    sampling.add_argument(
        "--stop", action="append", default=[], metavar="TEXT", help="stop the reply at this text; repeatable"
    )
    sampling.add_argument("--seed", type=count, metavar="N", help="for repeatable replies, if the server can")
    sampling.add_argument(
        "--reasoning", choices=(*REASONING_LEVELS, UNSET), metavar="LEVEL", help="thinking, from none to max"
    )
    sampling.add_argument(
        "--tier", choices=(*TIERS, UNSET), metavar="TIER", help="auto, flex (cheaper), priority or flex,auto"
    )
    sampling.add_argument(
        "-O", "--option", action="append", default=[], metavar="NAME=VALUE", help="a vendor's own; repeatable"
    )
    sampling.add_argument("--strict-options", action="store_true", help="fail if the server refuses an option")
    conversations = parser.add_argument_group("conversations")
    conversations.add_argument("-s", "--system", default="", metavar="TEXT", help="system message, from here on")
    conversations.add_argument(
        "-c", "--chat", default="", metavar="NAME", help="use this conversation, for this cell only"
    )
    conversations.add_argument("--new", action="store_true", help="start the conversation over")
    conversations.add_argument("--no-history", action="store_true", help="ask without the conversation; keep nothing")
    rows = parser.add_argument_group("tables")
    rows.add_argument("--batch", default="", metavar="DF", help="ask for each row of df; {column} is filled in")
    rows.add_argument("--into", default="", metavar="COLUMN", help="put the replies into this column")
    rows.add_argument(
        "--concurrency", type=_count_or_auto, metavar="N", help="maximum number of requests at once, or auto"
    )
    rows.add_argument("--requests-per-minute", type=_number, metavar="N", help="maximum number of requests per minute")
    rows.add_argument("--tokens-per-minute", type=_number, metavar="N", help="maximum number of tokens per minute")
    rows.add_argument("--max-cost-usd", type=_number, metavar="X", help="stop before the run costs more than this")
    rows.add_argument("--max-total-tokens", type=int, metavar="N", help="stop before the run uses more tokens")
    rows.add_argument("--max-retries", type=int, metavar="N", help="maximum number of retries of a request")
    rows.add_argument(
        "--outage-patience-s", type=_number, metavar="S", help="how long to wait for a server that is down"
    )
    rows.add_argument("--limit-patience-s", type=_number, metavar="S", help="how long to wait for a limit to move")
    rows.add_argument("--fresh", action="store_true", help="ask again even if a reply is stored")
    rows.add_argument("--no-store", action="store_true", help="neither use nor keep stored replies")
    rows.add_argument("--no-progress", action="store_true", help="show no progress bar")
    prompt = parser.add_argument_group("context")
    named = "add data: a variable, err, cells:5, df:schema"
    prompt.add_argument("-i", "--include", action="append", default=[], metavar="NAME", help=named)
    prompt.add_argument(
        "--attach", action="append", default=[], metavar="PATH", help="attach a file: text, PDF or image"
    )
    prompt.add_argument("--raw", action="store_true", help="leave every {name} as it is")
    prompt.add_argument("--strict", action="store_true", help="fail if a {name} has no variable")
    reply = parser.add_argument_group("reply")
    reply.add_argument("-o", "--output", default="", metavar="NAME", help="assign the reply to a variable")
    reply.add_argument(
        "-f",
        "--format",
        default="",
        choices=_FORMATS,
        metavar="F",
        help=f"{', '.join(_FORMATS[:-1])} or {_FORMATS[-1]}",
    )
    reply.add_argument("--schema", default="", metavar="NAME", help="class or JSON schema that the reply must fit")
    reply.add_argument("--code", action="store_true", help="put the code into a new cell, without running")
    reply.add_argument("--no-stream", action="store_true", help="ask for the whole reply at once")
    reply.add_argument("--dry-run", action="store_true", help="show what would be sent, and send nothing")
    reply.add_argument("--debug", action="store_true", help="show the full traceback of an error")
    reply.add_argument("-h", "--help", action="store_true", help="show all flags, and send nothing")
    return parser
