"""The magic line: what may stand on it, in one table that parsing, the manual and completion share."""

from __future__ import annotations

import argparse
import keyword
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from .errors import BadInputError, nearest, shorten
from .messages import Options
from .settings import Given

_FORMATS = ("markdown", "text", "json", "code")


class ArgumentError(BadInputError):
    """The magic line cannot be understood. Nothing was sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CellArguments:
    """What a `%%aichat` line says."""

    given: Given
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
    model = parser.add_argument_group("which model")
    model.add_argument("-m", "--model", default="", metavar="MODEL", help="provider/model, or an alias of yours")
    model.add_argument("--base-url", default="", metavar="URL", help="address of an OpenAI-compatible server")
    model.add_argument("--proxy", default="", metavar="URL", help="http, https, socks5 or socks5h proxy")
    model.add_argument("--timeout", type=_number, metavar="S", help="longest time of one attempt, in seconds")
    model.add_argument("--allow-not-working", action="store_true", help="use a provider known not to work")
    sampling = parser.add_argument_group("sampling")
    sampling.add_argument("-t", "--temperature", type=_number, metavar="T", help="0 (likeliest) to 2")
    sampling.add_argument("--top-p", type=_number, metavar="P", help="nucleus sampling, 0 to 1")
    sampling.add_argument("--max-tokens", type=int, metavar="N", help="longest reply, in tokens")
    sampling.add_argument("--presence-penalty", type=_number, metavar="X", help="-2 to 2")
    sampling.add_argument("--frequency-penalty", type=_number, metavar="X", help="-2 to 2")
    sampling.add_argument("--stop", action="append", default=[], metavar="TEXT", help="end there; may be given again")
    sampling.add_argument("--seed", type=int, metavar="N", help="for servers that can repeat a reply")
    talk = parser.add_argument_group("conversation")
    talk.add_argument("-s", "--system", default="", metavar="TEXT", help="system message, kept for the conversation")
    talk.add_argument("-c", "--chat", default="", metavar="NAME", help="which conversation (default: the current one)")
    talk.add_argument("--new", action="store_true", help="begin the conversation afresh")
    talk.add_argument("--no-history", action="store_true", help="neither send nor keep the conversation")
    rows = parser.add_argument_group("a whole table")
    rows.add_argument("--batch", default="", metavar="DF", help="ask once for each row; {column} in the prompt")
    rows.add_argument("--into", default="", metavar="COLUMN", help="the column that gets the replies")
    rows.add_argument("--concurrency", type=_count_or_auto, metavar="N", help="most at once, or auto")
    rows.add_argument("--requests-per-minute", type=_number, metavar="N", help="most requests a minute")
    rows.add_argument("--tokens-per-minute", type=_number, metavar="N", help="most tokens a minute")
    rows.add_argument("--max-cost-usd", type=_number, metavar="X", help="what the run may cost")
    rows.add_argument("--max-total-tokens", type=int, metavar="N", help="what the run may take")
    rows.add_argument("--max-retries", type=int, metavar="N", help="how often one request is sent again")
    rows.add_argument("--fresh", action="store_true", help="ask again what the store knows")
    rows.add_argument("--no-store", action="store_true", help="neither look up nor keep replies")
    rows.add_argument("--no-progress", action="store_true", help="no bar")
    prompt = parser.add_argument_group("prompt and reply")
    named = "a variable, Out[3], err, cells:5, df:schema"
    prompt.add_argument("-i", "--include", action="append", default=[], metavar="NAME", help=named)
    prompt.add_argument("--attach", action="append", default=[], metavar="PATH", help="a file: text, PDF, image")
    prompt.add_argument("--raw", action="store_true", help="fill no {name}")
    prompt.add_argument("--strict", action="store_true", help="a {name} without a variable is an error")
    prompt.add_argument("-o", "--output", default="", metavar="NAME", help="put the Reply into a variable")
    prompt.add_argument(
        "-f",
        "--format",
        default="",
        choices=_FORMATS,
        metavar="F",
        help=f"{', '.join(_FORMATS[:-1])} or {_FORMATS[-1]}",
    )
    prompt.add_argument("--schema", default="", metavar="NAME", help="a class or JSON schema for reply.value")
    prompt.add_argument("--code", action="store_true", help="its code into the next cell, not run")
    prompt.add_argument("--no-stream", action="store_true", help="show the reply when it is whole")
    prompt.add_argument("--dry-run", action="store_true", help="show what would be sent; send nothing")
    prompt.add_argument("--debug", action="store_true", help="full traceback for an error")
    prompt.add_argument("-h", "--help", action="store_true", help="this manual; sends nothing")
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
        return CellArguments(given=Given(), is_help=True)
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
        given=Given(
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
    )
    options = {name: getattr(got, name) for name in names if getattr(got, name) is not None}
    if got.fresh:
        options["fresh"] = True
    if got.no_store:
        options["store"] = False
    if got.no_progress:
        options["progress"] = False
    return options


_CELL_HEAD = """\
%%aichat [flags]
prompt

The cell is a prompt. It goes out with the conversation so far; the reply
streams in below and is the value of the cell: str(_) is its text, and _.code,
_.json, _.usage, _.model, _.finish_reason what else there is to know.

{name} in the prompt is replaced by the notebook's variable of that name.
Nothing is evaluated, and every other use of braces stays as it is. Tables go
as their schema and first rows; figures as images, to models that take them.

Examples:

    %%aichat --temperature 0.7
    Explain this table to a new colleague: {df}

    %%aichat -m ollama/llama3.2 -s "Answer in French." -o answer
    What is a confidence interval?

    %%aichat -i err -i cells:3 --attach notes.txt
    What went wrong?

    %%aichat --no-history --dry-run
    What would be sent?

    %%aichat --batch df --into label --temperature 0
    Classify as good or bad: {title} {body}
"""

# Name, what follows it, what it does: for the manual, for near matches, for completion.
COMMANDS: tuple[tuple[str, str, str], ...] = (
    ("ask", "TEXT", "ask in one line; the text is taken as it stands"),
    ("use", "MODEL", "the model from now on"),
    ("set", "OPTION VALUE", "a setting or option from now on; none: unset"),
    ("fix", "[flags]", "explain the last exception, mend its cell"),
    ("explain", "[flags]", "explain the previous cell"),
    ("review", "[flags]", "review the previous cell"),
    ("doc", "VARIABLE [flags]", "a docstring for a function or class"),
    ("templates", "", "prompt templates, built in and yours"),
    ("run", "TEMPLATE X=TEXT ...", "ask by a template; {x} in it is TEXT"),
    ("models", "[FILTER]", "models of the current or the named provider"),
    ("providers", "", "who can be asked, whether there is a key"),
    ("chats", "", "the conversations"),
    ("show", "[NAME]", "what was said in a conversation"),
    ("switch", "NAME", "the conversation from now on"),
    ("undo", "[N]", "take the last N turns out (default 1)"),
    ("fork", "NAME", "go on in a copy of the current conversation"),
    ("reset", "[NAME]", "begin a conversation afresh; it stays stored"),
    ("delete", "NAME", "remove a conversation for good"),
    ("store", "[clear]", "stored replies of tables: how many, where"),
    ("search", "TEXT", "turns of all conversations that hold a text"),
    ("export", "FILE [NAME]", "write a conversation: .md, .json or .ipynb"),
    ("import", "FILE [NAME]", "read one that was exported as .json"),
    ("usage", "[PERIOD]", "tokens and cost: session, day, month, all"),
    ("help", "", "this manual"),
)


def cell_manual() -> str:
    """The manual of `%%aichat`, for `--help` and `%%aichat?`."""
    return f"{_CELL_HEAD}\n{_flags(_cell_parser())}"


def line_manual() -> str:
    """The manual of `%aichat`, for `--help` and `%aichat?`."""
    rows = [(f"%aichat {name} {what}".rstrip(), text) for name, what, text in COMMANDS]
    rows.insert(0, ("%aichat", "model, conversation and totals of this session"))
    return "\n".join(["%aichat [command]", "", *(f"  {left:<28} {right}" for left, right in rows)])


def _flags(parser: argparse.ArgumentParser) -> str:
    """The flags of a parser by group, one a line, 80 columns."""
    lines: list[str] = []
    for group in parser._action_groups:
        actions: list[Any] = [action for action in group._group_actions if action.option_strings]
        if actions:
            lines.append(f"{group.title}:")
        for action in actions:
            metavar = f" {action.metavar}" if action.metavar else ""
            lines.append(f"  {', '.join(action.option_strings) + metavar:<28} {action.help}")
    return "\n".join(lines)


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
    names = [command[0] for command in COMMANDS]
    if name in ("-h", "--help"):
        return "help", ""
    if name and name not in names:
        raise ArgumentError(
            f"%aichat knows no command {shorten(name, 40)!r}.{nearest(name, names)} "
            f"%aichat help lists them; to ask in one line: %aichat ask TEXT"
        )
    return name, rest.strip()


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
        what = next(what for name, what, _ in COMMANDS if name == command)
        raise ArgumentError(f"Write it as: %aichat {command} {what}".rstrip())
    return words
