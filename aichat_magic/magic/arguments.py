"""The magic line: what its flags and commands mean, with the table of the commands."""

from __future__ import annotations

import argparse
import keyword
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..core.options import UNSET, CallOptions, options_from
from ..core.vendor_options import parse_option
from ..text.words import nearest_name, shorten
from .flags import ArgumentError, MagicLineParser, cell_parser
from .line_words import split_line

_SECONDS = {"h": 3_600.0, "d": 86_400.0, "w": 7 * 86_400.0, "y": 365 * 86_400.0}
_BYTES = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
_MEASURE = re.compile(r"(?P<number>[0-9]+(?:\.[0-9]+)?)\s*(?P<unit>[A-Za-z]+)", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class CellArguments:
    """The parsed `%%aichat` line."""

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
    """The parsed `%aichat store` line.

    Attributes:
        action: ``"clear"``, ``"prune"``, or empty: only show.
        older_s: Age in seconds above which replies are removed; None: age does not matter.
        larger_bytes: Size in bytes down to which the oldest replies are removed; None: size does not matter.
    """

    action: str = ""
    older_s: float | None = None
    larger_bytes: int | None = None


def parse_cell(line: str) -> CellArguments:
    """Parse a `%%aichat` line.

    Args:
        line: The text after ``%%aichat``.

    Returns:
        The arguments, with their ranges checked.

    Raises:
        ArgumentError: An unknown flag (the nearest is named), a missing or wrong value, an open quote.
        OptionError: A sampling option outside its range.
    """
    return parse_cell_words(split_line(line))


def parse_cell_words(words: list[str]) -> CellArguments:
    """Parse the words of a `%%aichat` line, as `parse_cell` does."""
    if "-h" in words or "--help" in words:
        return CellArguments(given=CallOptions(), is_help=True)
    got = cell_parser().parse_words(words)
    if got.output and (not got.output.isidentifier() or keyword.iskeyword(got.output)):
        raise ArgumentError(f"--output takes the name of a variable, not {shorten(got.output, 40)!r}.")
    if got.raw and got.strict:
        raise ArgumentError("--raw and --strict exclude each other: --raw fills no placeholders.")
    sampling = _sampling(got)
    options = _batch_options(got)
    if got.into and not got.batch:
        raise ArgumentError("--into needs --batch: %%aichat --batch df --into column")
    if got.batch and not (got.into or got.output or got.dry_run):
        raise ArgumentError("--batch needs to know where its replies go: --into COLUMN, or -o NAME for the run.")
    if got.batch and (got.include or got.attach or got.code):
        raise ArgumentError("--include, --attach and --code work with a single prompt, not with --batch.")
    if got.batch and (got.schema or got.format):
        raise ArgumentError(
            "--format and --schema work with a single prompt; for typed columns: df.aichat.extract(...)."
        )
    if options and not got.batch:
        raise ArgumentError(
            f"--{next(iter(options)).replace('_', '-')} is for a run over a table: it needs --batch DF."
        )
    return CellArguments(
        batch=got.batch,
        into=got.into,
        include=tuple(got.include),
        attach=tuple(got.attach),
        batch_options=options,
        given=CallOptions(
            options=options_from(sampling),
            system=got.system,
            model=got.model,
            base_url=got.base_url,
            proxy=got.proxy,
            timeout_s=got.timeout,
            strict_options=got.strict_options or None,
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


def _sampling(got: argparse.Namespace) -> dict[str, Any]:
    """Return the sampling options that were given, as `options_from` takes them.

    Raises:
        ArgumentError: A vendor's own option is given twice.
        OptionError: One is not NAME=VALUE, or its value is broken JSON.
    """
    names = ("temperature", "top_p", "max_tokens", "presence_penalty", "frequency_penalty", "seed", "reasoning", "tier")
    sampling: dict[str, Any] = {name: getattr(got, name) for name in names}
    if got.stop:
        sampling["stop"] = UNSET if got.stop == [UNSET] else got.stop
    vendor: dict[str, Any] = {}
    for text in got.option:
        name, value = parse_option(text)
        if name in vendor:
            raise ArgumentError(f"-O {name} is given twice. Leave one out.")
        vendor[name] = value
    return {**sampling, "options": vendor or None}


def _batch_options(got: argparse.Namespace) -> dict[str, Any]:
    """Return the keywords of a run over rows that were given, as `BatchOptions` takes them."""
    names = (
        "concurrency",
        "requests_per_minute",
        "tokens_per_minute",
        "max_cost_usd",
        "max_total_tokens",
        "max_retries",
        "outage_patience_s",
        "limit_patience_s",
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
    """One command of `%aichat`, described for parsing, help and completion.

    Attributes:
        name: Name of the command.
        usage: Its arguments, as help shows them.
        does: Its purpose, in a few words.
        topic: Help topic that it belongs to; a flag belongs to the topic of its argument group.
        more: Further explanation.
        flags: Flags of its own.
    """

    name: str
    usage: str
    does: str
    topic: str
    more: str = ""
    flags: tuple[str, ...] = ()


COMMANDS = (
    Command("ask", "TEXT", "ask in one line", "asking",
            "Everything after ask is the prompt, word for word: no flags, no quotes; {name} is filled in as in a cell. "
            "It becomes a turn of the conversation. It is a value, too, in functions and loops: q = %aichat ask Why? "
            "For this, an earlier cell must have loaded the extension."),
    Command("fix", "[flags]", "explain the last exception and fix its cell", "asking",
            "The fixed cell is put below, and not run. The question stays out of the conversation unless -c NAME says "
            "which one it belongs to."),
    Command("explain", "[flags]", "explain the previous cell", "asking",
            "The question stays out of the conversation unless -c NAME says which one it belongs to. The flags are "
            "those of a %%aichat cell."),
    Command("review", "[flags]", "review the previous cell", "asking",
            "The question stays out of the conversation unless -c NAME says which one it belongs to. The flags are "
            "those of a %%aichat cell."),
    Command("doc", "VARIABLE [flags]", "write a docstring for a function or class", "asking",
            "VARIABLE may contain dots: Model.fit. Its code is read, not run."),
    Command("templates", "", "list prompt templates, built-in and your own", "asking",
            "To add your own, put a file NAME.md into the folder that is shown, with {name} for each value it needs."),
    Command("run", "TEMPLATE X=TEXT ... [flags]", "ask with a prompt template", "asking",
            "x=TEXT fills {x} in the template. Text with spaces needs quotes: x=\"two words\"; for the value of a "
            "variable write x={df}. Any other {name} in the template is filled from the variable of that name, and "
            "{cell} is the previous cell. --dry-run shows what would be sent."),
    Command("use", "MODEL [--base-url URL]", "use this model from now on", "models",
            "provider/model, an alias, or with --base-url the name of a model of that server, which may be any with an "
            "OpenAI-compatible API. Nothing is sent. For one cell: -m MODEL. For every session: model = "
            "\"provider/model\" in config.toml, or AICHAT_MODEL.", ("--base-url",)),
    Command("key", "PROVIDER [--save]", "enter a provider's key, without showing it", "models",
            "The key is asked for, not written on this line. It is kept for the session and sent only to the "
            "provider's server. --save also keeps it for later sessions, in the system's keyring (extra keyring) or, "
            "if there is none, in config.toml. --forget removes it.", ("--save", "--forget")),
    Command("models", "[FILTER]", "list models of the current or another provider", "models",
            "FILTER is a provider, part of a name, or both: openai/mini. The list comes from the provider's server "
            "and costs nothing."),
    Command("providers", "", "list providers, and whether they have a key", "models",
            "Nothing is sent. You see where a key was found or is looked for, never the key itself."),
    Command("doctor", "", "check the setup, and say what to fix", "settings",
            "Checks Python, packages, keys, servers, stored files, the model file and the front end. It asks the "
            "servers on this machine and the one of the configured model for their list of models; nothing is billed."),
    Command("set", "[OPTION [VALUE]]", "change or show settings; VALUE default undoes it", "settings",
            "It holds for this session. For every session use config.toml or the environment: %aichat help settings. "
            "VALUE unset, for an option such as temperature: it is not sent, whatever config.toml says. "
            "Without arguments it lists all settings."),
    Command("config", "", "show where config.toml is and what goes into it", "settings"),
    Command("chats", "", "list the conversations", "conversations"),
    Command("show", "[NAME | --next]", "show a conversation, or what goes out next", "conversations",
            "--next, with any flags of a cell, shows what the next cell would send: messages, data, pictures, tokens, "
            "and what is left out. Nothing is sent.", ("--next",)),
    Command("switch", "NAME", "use this conversation from now on", "conversations",
            "A new name starts a new conversation. For one cell: %%aichat -c NAME. A name such as main@..., which "
            "chats and search show, belongs to another notebook: main continues here with a copy of it."),
    Command("undo", "[N]", "remove the last N turns (default 1)", "conversations",
            "They are no longer sent, but %aichat search still finds them."),
    Command("fork", "NAME", "continue in a copy of the current conversation", "conversations"),
    Command("reset", "[NAME]", "start a conversation over; old turns stay stored", "conversations"),
    Command("delete", "NAME", "delete a conversation for good", "conversations"),
    Command("search", "TEXT", "find a text in all conversations", "conversations",
            "Searches everything that is stored, also from other notebooks and earlier terminals."),
    Command("export", "FILE [NAME]", "save a conversation as .md, .json or .ipynb", "conversations"),
    Command("import", "FILE [NAME]", "load a conversation that was exported as .json", "conversations"),
    Command("store", "[clear|prune]", "show, prune or clear the stored replies", "tables",
            "These are the replies of runs over tables. You have paid for them, so none is removed automatically. "
            "prune --older 90d removes those stored more than 90 days ago (units: h, d, w, y); prune --larger 500MB "
            "removes the oldest until the file is no larger (kB, MB, GB); clear removes all.",
            ("--older", "--larger")),
    Command("usage", "[PERIOD]", "show tokens and cost: session, day, month, all", "settings"),
    Command("help", "[TOPIC]", "show help on a topic, a command or a flag; all", "settings"),
)  # fmt: skip


def command_named(name: str) -> Command:
    """Return the command of an existing name."""
    return next(command for command in COMMANDS if command.name == name)


def parse_command(line: str) -> tuple[str, str]:
    """Split an `%aichat` line into the command and the unchanged rest.

    Args:
        line: The text after ``%aichat``.

    Returns:
        The command's name (empty for a bare ``%aichat``), and the text after it.

    Raises:
        ArgumentError: There is no such command; names the nearest.
    """
    name, _, rest = line.strip().partition(" ")
    names = [command.name for command in COMMANDS]
    if name in ("-h", "--help"):
        return "help", ""
    if name.endswith("?") and not rest and name.rstrip("?") in ("", *names):
        return "help", name.rstrip("?")
    if name and name not in names:
        raise _unknown_command(line.strip(), name, names)
    return name, rest.strip()


def _unknown_command(line: str, name: str, names: list[str]) -> ArgumentError:
    """Return the error for a line that begins with no command: a misspelt one, flags, or a question."""
    if name.startswith("-"):
        return ArgumentError(
            f"%aichat begins with a command, not with {shorten(name, 40)!r}. With flags, ask in a cell: "
            f"%%aichat {shorten(name, 40)} ..., and the prompt below that line."
        )
    found = "" if line.endswith("?") else nearest_name(name, names, least=0.75)
    meant = [f"%aichat ask {shorten(line, 80)}"]
    if found and " " not in line:
        meant = [f"%aichat {found}"]
    elif found:
        meant.append(f"%aichat {shorten(line.replace(name, found, 1), 80)}")
    return ArgumentError(
        f"%aichat has no command {shorten(name, 40)!r}; %aichat help lists them. Did you mean: {', or: '.join(meant)}"
    )


def parse_store(rest: str) -> StoreArguments:
    """Parse an `%aichat store` line.

    Args:
        rest: The text after ``%aichat store``.

    Returns:
        The arguments.

    Raises:
        ArgumentError: The line cannot be understood, or `prune` does not say what to remove.
    """
    form = "Write it as: %aichat store, %aichat store clear, or %aichat store prune --older 90d (or --larger 500MB)."
    words = split_line(rest)
    if not words or words == ["clear"]:
        return StoreArguments(action="".join(words))
    if words[0] != "prune":
        raise ArgumentError(f"%aichat store has no action {shorten(words[0], 40)!r}. {form}")
    parser = MagicLineParser(prog="%aichat store prune", add_help=False, allow_abbrev=False, usage=argparse.SUPPRESS)
    parser.add_argument("--older")
    parser.add_argument("--larger")
    got = parser.parse_words(words[1:])
    if got.older is None and got.larger is None:
        raise ArgumentError(f"prune needs to know what to remove. {form}")
    older_s = None if got.older is None else _measured("--older", got.older, _SECONDS, "90d, 12h, 8w or 2y")
    larger = None if got.larger is None else _measured("--larger", got.larger, _BYTES, "500MB, 1.5GB or 800kB")
    return StoreArguments(action="prune", older_s=older_s, larger_bytes=None if larger is None else int(larger))


def _measured(flag: str, text: str, units: Mapping[str, float], form: str) -> float:
    """Parse a number with a unit, the value of a flag.

    Raises:
        ArgumentError: The text is not one, or the number is not above 0.
    """
    match = _MEASURE.fullmatch(text.strip())
    unit = None if match is None else next((n for n in units if n.casefold() == match["unit"].casefold()), None)
    if match is None or unit is None or not 0 < (value := float(match["number"]) * units[unit]) < math.inf:
        raise ArgumentError(f"{flag} takes a number with its unit, such as {form}, not {shorten(text, 40)!r}.")
    return value


def parse_use(rest: str) -> tuple[str, str]:
    """Parse an `%aichat use` line: the model, and the address of its server or an empty text.

    Raises:
        ArgumentError: The line cannot be understood.
    """
    parser = MagicLineParser(prog="%aichat use", add_help=False, allow_abbrev=False, usage=argparse.SUPPRESS)
    parser.add_argument("model", nargs="*", default=[])
    parser.add_argument("--base-url", default="")
    got = parser.parse_words(split_line(rest))
    if len(got.model) != 1 or not got.model[0]:
        raise ArgumentError("Write it as: %aichat use MODEL, or %aichat use MODEL --base-url URL")
    return str(got.model[0]), str(got.base_url)


def words_of(command: str, rest: str, *, least: int, most: int) -> list[str]:
    """Split the arguments of a command into words, and check how many there are.

    Args:
        command: The command's name.
        rest: The text after it.
        least: Minimum number of words.
        most: Maximum number of words.

    Returns:
        The words.

    Raises:
        ArgumentError: Too few or too many, or an open quote.
    """
    words = split_line(rest)
    if not least <= len(words) <= most:
        raise ArgumentError(f"Write it as: %aichat {command} {command_named(command).usage}".rstrip())
    return words
