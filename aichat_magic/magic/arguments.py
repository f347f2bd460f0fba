"""The magic line: what may stand on it, in one table that parsing, the manual and completion share."""

from __future__ import annotations

import argparse
import keyword
import math
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from ..core.errors import BadInputError
from ..core.options import CallOptions, Options
from ..text.words import nearest, shorten

_FORMATS = ("markdown", "text", "json", "code")
_SECONDS = {"h": 3_600.0, "d": 86_400.0, "w": 7 * 86_400.0, "y": 365 * 86_400.0}
_BYTES = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
_MEASURE = re.compile(r"(?P<number>[0-9]+(?:\.[0-9]+)?)\s*(?P<unit>[A-Za-z]+)", re.ASCII)


class ArgumentError(BadInputError):
    """The magic line cannot be understood. Nothing was sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CellArguments:
    """What a `%%aichat` line says."""

    given: CallOptions
    chat: str = ""
    output: str = ""
    is_new: bool = False
    is_without_history: bool = False
    is_streamed: bool = True
    is_dry_run: bool = False
    format: str = ""
    schema: str = ""
    is_code: bool = False
    is_raw: bool = False
    is_strict: bool = False
    is_debug: bool = False
    is_help: bool = False
    batch: str = ""
    into: str = ""
    include: tuple[str, ...] = ()
    attach: tuple[str, ...] = ()
    batch_options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreArguments:
    """What an `%aichat store` line says.

    Attributes:
        action: ``"clear"``, ``"prune"``, or empty: only look.
        older_s: Age from which on replies go, in seconds; None: whatever their age.
        larger_bytes: Size down to which the oldest go; None: whatever the size.
    """

    action: str = ""
    older_s: float | None = None
    larger_bytes: int | None = None


class _Parser(argparse.ArgumentParser):
    """argparse, which raises instead of ending the process."""

    def error(self, message: str) -> NoReturn:
        """Raise what argparse would print and exit with."""
        raise ArgumentError(f"{message[:1].upper()}{message[1:]}. %aichat help shows all flags.")

    def parse_words(self, words: Sequence[str]) -> argparse.Namespace:
        """Parse, and name the nearest flag for an unknown one."""
        parsed, rest = self.parse_known_args(words)
        if rest:
            word = rest[0].partition("=")[0]
            if word.startswith("-"):
                flags = [flag for action in self._actions for flag in action.option_strings]
                raise ArgumentError(
                    f"Unknown flag {shorten(word, 40)!r}.{nearest(word, flags)} %aichat help shows all flags."
                )
            raise ArgumentError(
                f"{shorten(rest[0], 40)!r} on the line of {self.prog} is no flag. "
                f"The prompt goes below it; a value with spaces needs quotes."
            )
        return parsed


def _number(text: str) -> float | int:
    """A number as it was written: 0 stays 0, 0.5 is 0.5."""
    try:
        return int(text)
    except ValueError:
        return float(text)


# argparse names a type by its __name__ in errors: "invalid number value: 'x'".
_number.__name__ = "number"


def _count_or_auto(text: str) -> int | str:
    """A whole number, or the word auto."""
    return text if text == "auto" else int(text)


_count_or_auto.__name__ = "number"


def cell_parser() -> argparse.ArgumentParser:
    """The parser of the `%%aichat` line."""
    return _cell_parser()


def _cell_parser() -> _Parser:
    parser = _Parser(prog="%%aichat", add_help=False, allow_abbrev=False, usage=argparse.SUPPRESS)
    model = parser.add_argument_group("models")
    model.add_argument("-m", "--model", default="", metavar="MODEL", help="provider/model, or an alias of yours")
    model.add_argument("--base-url", default="", metavar="URL", help="address of an OpenAI-compatible server")
    model.add_argument("--proxy", default="", metavar="URL", help="http, https, socks5 or socks5h proxy")
    model.add_argument("--timeout", type=_number, metavar="S", help="longest time of one attempt, in seconds")
    model.add_argument("--allow-not-working", action="store_true", help="use a provider known not to work")
    sampling = parser.add_argument_group("options")
    sampling.add_argument("-t", "--temperature", type=_number, metavar="T", help="0 (likeliest) to 2")
    sampling.add_argument("--top-p", type=_number, metavar="P", help="nucleus sampling, 0 to 1")
    sampling.add_argument("--max-tokens", type=int, metavar="N", help="longest reply, in tokens")
    sampling.add_argument("--presence-penalty", type=_number, metavar="X", help="-2 to 2")
    sampling.add_argument("--frequency-penalty", type=_number, metavar="X", help="-2 to 2")
    sampling.add_argument("--stop", action="append", default=[], metavar="TEXT", help="end there; may be given again")
    sampling.add_argument("--seed", type=int, metavar="N", help="for servers that can repeat a reply")
    talk = parser.add_argument_group("conversations")
    talk.add_argument("-s", "--system", default="", metavar="TEXT", help="system message, kept for the conversation")
    talk.add_argument("-c", "--chat", default="", metavar="NAME", help="which conversation, for this cell only")
    talk.add_argument("--new", action="store_true", help="begin the conversation afresh")
    talk.add_argument("--no-history", action="store_true", help="neither send nor keep the conversation")
    rows = parser.add_argument_group("tables")
    rows.add_argument("--batch", default="", metavar="DF", help="ask once for each row; {column} in the prompt")
    rows.add_argument("--into", default="", metavar="COLUMN", help="the column that gets the replies")
    rows.add_argument("--concurrency", type=_count_or_auto, metavar="N", help="most at once, or auto")
    rows.add_argument("--requests-per-minute", type=_number, metavar="N", help="most requests a minute")
    rows.add_argument("--tokens-per-minute", type=_number, metavar="N", help="most tokens a minute")
    rows.add_argument("--max-cost-usd", type=_number, metavar="X", help="what the run may cost")
    rows.add_argument("--max-total-tokens", type=int, metavar="N", help="what the run may take")
    rows.add_argument("--max-retries", type=int, metavar="N", help="how often one request is sent again")
    rows.add_argument("--outage-patience-s", type=_number, metavar="S", help="how long an outage is waited for")
    rows.add_argument("--fresh", action="store_true", help="ask again what the store knows")
    rows.add_argument("--no-store", action="store_true", help="neither look up nor keep replies")
    rows.add_argument("--no-progress", action="store_true", help="no bar")
    prompt = parser.add_argument_group("context")
    named = "a variable, Out[3], err, cells:5, df:schema"
    prompt.add_argument("-i", "--include", action="append", default=[], metavar="NAME", help=named)
    prompt.add_argument("--attach", action="append", default=[], metavar="PATH", help="a file: text, PDF, image")
    prompt.add_argument("--raw", action="store_true", help="fill no {name}")
    prompt.add_argument("--strict", action="store_true", help="a {name} without a variable is an error")
    reply = parser.add_argument_group("reply")
    reply.add_argument("-o", "--output", default="", metavar="NAME", help="put the Reply into a variable")
    reply.add_argument(
        "-f",
        "--format",
        default="",
        choices=_FORMATS,
        metavar="F",
        help=f"{', '.join(_FORMATS[:-1])} or {_FORMATS[-1]}",
    )
    reply.add_argument("--schema", default="", metavar="NAME", help="a class or JSON schema for reply.value")
    reply.add_argument("--code", action="store_true", help="its code into the next cell, not run")
    reply.add_argument("--no-stream", action="store_true", help="show the reply when it is whole")
    reply.add_argument("--dry-run", action="store_true", help="show what would be sent; send nothing")
    reply.add_argument("--debug", action="store_true", help="full traceback for an error")
    reply.add_argument("-h", "--help", action="store_true", help="all flags; sends nothing")
    return parser


def split_line(line: str) -> list[str]:
    """The words of a magic line, quoted as in a shell. A semicolon at its end is dropped.

    Raises:
        ArgumentError: A quote is not closed.
    """
    line = line.strip()
    try:
        return shlex.split(line[:-1] if line.endswith(";") else line)
    except ValueError:
        pass
    raise ArgumentError(
        f"A quote is not closed in: {shorten(line, 80)} Close it; an apostrophe needs double quotes around its value."
    )


def parse_cell(line: str) -> CellArguments:
    """What a `%%aichat` line says.

    Args:
        line: The text after ``%%aichat``.

    Returns:
        The arguments, ranges checked.

    Raises:
        ArgumentError: An unknown flag (the nearest is named), a missing or wrong value, an open quote.
        OptionError: A sampling option outside its range.
    """
    words = split_line(line)
    if "-h" in words or "--help" in words:
        return CellArguments(given=CallOptions(), is_help=True)
    got = _cell_parser().parse_words(words)
    if got.output and (not got.output.isidentifier() or keyword.iskeyword(got.output)):
        raise ArgumentError(f"--output takes the name of a variable, not {shorten(got.output, 40)!r}.")
    if got.raw and got.strict:
        raise ArgumentError("--raw and --strict exclude each other: --raw fills nothing.")
    options = _batch_options(got)
    if got.into and not got.batch:
        raise ArgumentError("--into needs --batch: %%aichat --batch df --into column")
    if got.batch and not (got.into or got.output or got.dry_run):
        raise ArgumentError("--batch needs a place for its replies: --into COLUMN, or -o NAME for the run.")
    if got.batch and (got.include or got.attach or got.code):
        raise ArgumentError("--include, --attach and --code go with one prompt, not with --batch.")
    if got.batch and (got.schema or got.format):
        raise ArgumentError("--format and --schema go with one prompt; typed columns: df.aichat.extract(...).")
    if options and not got.batch:
        raise ArgumentError(f"--{next(iter(options)).replace('_', '-')} belongs to a run over a table: --batch DF.")
    return CellArguments(
        batch=got.batch,
        into=got.into,
        include=tuple(got.include),
        attach=tuple(got.attach),
        batch_options=options,
        given=CallOptions(
            options=Options(
                temperature=got.temperature,
                top_p=got.top_p,
                max_tokens=got.max_tokens,
                presence_penalty=got.presence_penalty,
                frequency_penalty=got.frequency_penalty,
                stop=tuple(got.stop),
                seed=got.seed,
            ),
            system=got.system,
            model=got.model,
            base_url=got.base_url,
            proxy=got.proxy,
            timeout_s=got.timeout,
            allow_not_working=got.allow_not_working,
        ),
        chat=got.chat,
        output=got.output,
        is_new=got.new,
        is_without_history=got.no_history,
        is_streamed=not got.no_stream,
        is_dry_run=got.dry_run,
        format=got.format,
        schema=got.schema,
        is_code=got.code,
        is_raw=got.raw,
        is_strict=got.strict,
        is_debug=got.debug,
    )


def _batch_options(got: argparse.Namespace) -> dict[str, Any]:
    """The keywords of a run over rows, as `BatchOptions` takes them; only those that were given."""
    names = (
        "concurrency",
        "requests_per_minute",
        "tokens_per_minute",
        "max_cost_usd",
        "max_total_tokens",
        "max_retries",
        "outage_patience_s",
    )
    options = {name: getattr(got, name) for name in names if getattr(got, name) is not None}
    if got.fresh:
        options["fresh"] = True
    if got.no_store:
        options["store"] = False
    if got.no_progress:
        options["progress"] = False
    return options


@dataclass(frozen=True, slots=True)
class Command:
    """One command of `%aichat`: for the manual, for near matches, for completion.

    Attributes:
        name: The word.
        usage: What follows it.
        does: What it does, in a few words.
        topic: Where it belongs in the manual; flags are there by their group.
        more: What else there is to know.
        flags: Flags of its own.
    """

    name: str
    usage: str
    does: str
    topic: str
    more: str = ""
    flags: tuple[str, ...] = ()


COMMANDS = (
    Command("ask", "TEXT", "ask in one line; the text is taken as it stands", "asking",
            "No flags, no {name}, no quotes: all that follows is the prompt. It is a turn of the conversation."),
    Command("fix", "[flags]", "explain the last exception, mend its cell", "asking",
            "The mended cell is put below and not run. Asked beside the conversation; -c NAME puts it into one."),
    Command("explain", "[flags]", "explain the previous cell", "asking",
            "Asked beside the conversation; -c NAME puts it into one. The flags are those of a %%aichat cell."),
    Command("review", "[flags]", "review the previous cell", "asking",
            "Asked beside the conversation; -c NAME puts it into one. The flags are those of a %%aichat cell."),
    Command("doc", "VARIABLE [flags]", "a docstring for a function or class", "asking",
            "VARIABLE may have dots: Model.fit. Its code is read, not run."),
    Command("templates", "", "prompt templates, built in and yours", "asking",
            "A template of yours is a file NAME.md in the folder that is shown, with {name} for what it needs."),
    Command("run", "TEMPLATE X=TEXT ... [flags]", "ask by a template; {x} in it is TEXT", "asking",
            "A text with spaces needs quotes: x=\"two words\"; a variable is x={df}. A {name} of the template that is "
            "not given is a variable of that name, {cell} the previous cell. --dry-run shows what would be sent."),
    Command("use", "MODEL", "the model from now on", "models",
            "provider/model, or an alias. Nothing is sent. For one cell: -m MODEL. For every session: model = "
            "\"provider/model\" in config.toml, or AICHAT_MODEL."),
    Command("models", "[FILTER]", "models of the current or the named provider", "models",
            "FILTER is a provider, a part of a name, or both: openai/mini. The provider's server is asked; it costs "
            "nothing."),
    Command("providers", "", "who can be asked, whether there is a key", "models",
            "Nothing is sent. A key is shown as present or not, and where it is looked for; never itself."),
    Command("doctor", "", "check the setup, and say what to mend", "settings",
            "Python, packages, keys, servers, stores, the model's file, the front end. It asks servers on this machine "
            "and the one of the configured model for their list of models; nothing is billed."),
    Command("set", "[OPTION [VALUE]]", "a setting from now on; none: unset; alone: all", "settings",
            "For this session. For every one: config.toml or the environment, see %aichat help settings."),
    Command("config", "", "where config.toml is, and what it may hold", "settings"),
    Command("chats", "", "the conversations", "conversations"),
    Command("show", "[NAME]", "what was said in a conversation", "conversations"),
    Command("switch", "NAME", "the conversation from now on", "conversations",
            "A name that there is not yet begins a new one. For one cell: %%aichat -c NAME. main@..., as chats and "
            "search show it, is another notebook's: main goes on here from there, and that one stays as it is."),
    Command("undo", "[N]", "take the last N turns out (default 1)", "conversations",
            "They are no longer sent; %aichat search finds them."),
    Command("fork", "NAME", "go on in a copy of the current conversation", "conversations"),
    Command("reset", "[NAME]", "begin a conversation afresh; it stays stored", "conversations"),
    Command("delete", "NAME", "remove a conversation for good", "conversations"),
    Command("search", "TEXT", "turns of all conversations that hold a text", "conversations",
            "All that is stored, other notebooks and earlier terminals included."),
    Command("export", "FILE [NAME]", "write a conversation: .md, .json or .ipynb", "conversations"),
    Command("import", "FILE [NAME]", "read one that was exported as .json", "conversations"),
    Command("store", "[clear|prune]", "stored replies of tables: how many, where", "tables",
            "They are paid for: none is removed by itself. prune --older 90d removes what was stored more than 90 days "
            "ago (h, d, w, y), prune --larger 500MB the oldest until the file is no larger (kB, MB, GB); clear all.",
            ("--older", "--larger")),
    Command("usage", "[PERIOD]", "tokens and cost: session, day, month, all", "settings"),
    Command("help", "[TOPIC]", "this; or a command, a flag, a topic; all", "settings"),
)  # fmt: skip


def command_named(name: str) -> Command:
    """The command of a name that exists."""
    return next(command for command in COMMANDS if command.name == name)


def parse_command(line: str) -> tuple[str, str]:
    """The command of an `%aichat` line, and the rest of the line as it stands.

    Args:
        line: The text after ``%aichat``.

    Returns:
        The command's name (empty for a bare ``%aichat``), and what follows it.

    Raises:
        ArgumentError: There is no such command; names the nearest.
    """
    name, _, rest = line.strip().partition(" ")
    names = [command.name for command in COMMANDS]
    if name in ("-h", "--help"):
        return "help", ""
    if name and name not in names:
        raise ArgumentError(
            f"%aichat knows no command {shorten(name, 40)!r}.{nearest(name, names)} "
            f"%aichat help lists them; to ask in one line: %aichat ask TEXT"
        )
    return name, rest.strip()


def parse_store(rest: str) -> StoreArguments:
    """Read what follows `%aichat store`.

    Args:
        rest: The text.

    Returns:
        What is wanted.

    Raises:
        ArgumentError: It cannot be understood, or `prune` does not say what to remove.
    """
    form = "Write it as: %aichat store, %aichat store clear, or %aichat store prune --older 90d (or --larger 500MB)."
    words = split_line(rest)
    if not words or words == ["clear"]:
        return StoreArguments(action="".join(words))
    if words[0] != "prune":
        raise ArgumentError(f"%aichat store knows no {shorten(words[0], 40)!r}. {form}")
    parser = _Parser(prog="%aichat store prune", add_help=False, allow_abbrev=False, usage=argparse.SUPPRESS)
    parser.add_argument("--older")
    parser.add_argument("--larger")
    got = parser.parse_words(words[1:])
    if got.older is None and got.larger is None:
        raise ArgumentError(f"prune must be told what to remove. {form}")
    older_s = None if got.older is None else _measured("--older", got.older, _SECONDS, "90d, 12h, 8w or 2y")
    larger = None if got.larger is None else _measured("--larger", got.larger, _BYTES, "500MB, 1.5GB or 800kB")
    return StoreArguments(action="prune", older_s=older_s, larger_bytes=None if larger is None else int(larger))


def _measured(flag: str, text: str, units: Mapping[str, float], form: str) -> float:
    """A number with its unit, as the value of a flag.

    Raises:
        ArgumentError: It is none, or not more than 0.
    """
    match = _MEASURE.fullmatch(text.strip())
    unit = None if match is None else next((n for n in units if n.casefold() == match["unit"].casefold()), None)
    if match is None or unit is None or not 0 < (value := float(match["number"]) * units[unit]) < math.inf:
        raise ArgumentError(f"{flag} takes a number with its unit, such as {form}, not {shorten(text, 40)!r}.")
    return value


def words_of(command: str, rest: str, *, least: int, most: int) -> list[str]:
    """The words after a command, counted.

    Args:
        command: The command's name.
        rest: What follows it.
        least: Fewest words.
        most: Most words.

    Returns:
        The words.

    Raises:
        ArgumentError: Too few or too many, or an open quote.
    """
    words = split_line(rest)
    if not least <= len(words) <= most:
        raise ArgumentError(f"Write it as: %aichat {command} {command_named(command).usage}".rstrip())
    return words
