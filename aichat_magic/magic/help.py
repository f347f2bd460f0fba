"""The manual, made from the table of commands, the flags of the parser and docstrings: nothing is written twice."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Iterator, Mapping

from ..core.errors import UnknownNameError
from ..text.words import nearest, shorten
from .arguments import COMMANDS, Command, cell_parser

_WIDTH = 78  # a terminal of 80 columns breaks what fills its last one
_TERM = 14

# What a topic adds to its commands and flags.
TOPICS: Mapping[str, str] = {
    "asking": """\
A %%aichat cell is a prompt. It goes out with the conversation so far; the reply streams in below and is the value of
the cell: str(_) is its text, and _.code, _.json, _.usage, _.model, _.finish_reason what else there is to know.

Run again, a cell of a notebook replaces its own turn and leaves the later ones as they are, where the front end names
its cells, as JupyterLab and VS Code do.""",
    "models": """\
A model is written provider/model: local/smollm2-135m, openai/gpt-5-mini, ollama/llama3.2. The embedded one, local/...,
runs in this process: nothing leaves the machine, nothing is billed. local//path/to/file.gguf runs any GGUF file. A
server that speaks the OpenAI dialect needs no more than -m MODEL --base-url URL.""",
    "keys": """\
A key is looked for in the environment and in config.toml, and goes to the host of its provider only. There is no flag
for a key, so that none ends up in a notebook. In config.toml (chmod 600):

    [providers.openai]
    api_key = "..."         # or: api_key_env = "MY_VARIABLE"

%aichat providers shows which have a key, %aichat config where the file is. For a server of your own: AICHAT_API_KEY
with AICHAT_BASE_URL, or a table with base_url and api_key. The variables of the known providers:""",
    "conversations": """\
Cells go on with the current conversation. `main` belongs to its notebook or terminal; every other name is shared by all
and kept until it is deleted. -c NAME is for one cell, %aichat switch NAME from then on.

A notebook is known by the ids of its cells, not by its name: it keeps `main` when the kernel restarts and when it is
renamed or moved. A new notebook, a copy, and one whose cells have no ids (before nbformat 4.5) begin afresh; if there
is an older `main` that may be meant, one line says how to go on from there: %aichat switch main@...

VS Code names cells for one window only: there the saved file tells. Front ends that name no cell (qtconsole, nbclient)
make each prompt a new turn, and a kernel without a notebook of its own keeps `main` until it ends.""",
    "context": """\
{name} in a prompt is replaced by the notebook's variable of that name. Nothing is evaluated, and every other use of
braces stays as it is. Tables go as their schema and first rows; figures as images, to models that see.""",
    "reply": "What becomes of the reply. --dry-run sends nothing.",
    "tables": """\
One prompt for each row. As a cell: %%aichat --batch df --into COLUMN, with {column} in the prompt. In Python:""",
    "options": "Sampling, for one cell. From now on: %aichat set OPTION VALUE.",
    "settings": """\
A flag wins over %aichat set (and %config AIChat), that over the environment (AICHAT_MODEL, AICHAT_TEMPERATURE, ...),
that over config.toml, that over the default. %aichat set lists what holds now and where it comes from. config.toml:

    model = "openai/gpt-5-mini"
    timeout_s = 120
    [options]
    temperature = 0
    [aliases]
    fast = "groq/llama-3.1-8b-instant" """,
}
_ALIASES = {
    "batch": "tables", "dataframes": "tables", "pandas": "tables", "conversation": "conversations", "key": "keys",
    "model": "models", "table": "tables", "setting": "settings", "option": "options", "placeholders": "context",
}  # fmt: skip
# What a flag needs beyond its line, by the name of its value.
_FLAGS: Mapping[str, str] = {
    "model": "For this cell; %aichat use MODEL: from now on. %aichat providers lists the providers.",
    "base_url": "Such as http://localhost:8000/v1. No key goes to an address that it does not belong to.",
    "proxy": "For this cell. Without it the environment decides (HTTPS_PROXY, ALL_PROXY, NO_PROXY).",
    "timeout": "From the connection to the last word. What has arrived by then stays visible.",
    "max_tokens": "A reply that reaches it says that it was cut.",
    "system": "It holds until another one is given, for the later cells of the same conversation, too.",
    "chat": "Default: the current one. %aichat switch NAME goes there for the cells below, too.",
    "new": "Nothing that was said before is sent. It stays stored: %aichat search TEXT.",
    "no_history": "One question beside it all.",
    "batch": "DF is the name of a DataFrame. Equal prompts are sent once, finished rows are stored, and a run that was "
    "stopped goes on where it was. With --dry-run: rows, tokens and cost; nothing is sent.",
    "into": "An existing column is replaced. Errors of rows go to COLUMN_error, where there are any.",
    "fresh": "Otherwise a reply that was paid for once is taken from the store.",
    "max_cost_usd": "In US dollars; the run stops before it is passed. It needs a model whose price is known.",
    "outage_patience_s": "When the network or a server that has answered is away, all rows wait and one call tries now "
    "and then; nothing is lost. After this many seconds (default: 600) the run stops; run it again to go on.",
    "include": "A variable by name (a table as its schema and first rows, a figure as an image), In[3] and Out[3], err "
    "(the last exception), cells:5 (the last five cells), df:schema (only the columns). May be given again.",
    "attach": "Text and tables are read; an image goes to models that see. May be given again.",
    "raw": "For prompts about LaTeX, JSON or templates.",
    "output": "str(answer) is the text; answer.code, .json, .value, .usage, .finish_reason the rest.",
    "format": "code shows only the code; json is checked, and asked for once more if it is none.",
    "schema": "NAME is a variable of the notebook: a pydantic model, a dataclass, a TypedDict, a NamedTuple, an "
    "Enum or a JSON schema as a dict. The reply is checked, asked for once more if it does not fit, and _.value is "
    "the object.",
    "code": "The Python blocks of the reply, or those of its first language.",
    "dry_run": "The exact messages, the options, the address, and about how many tokens. It needs no key.",
    "debug": "Without it an error is shown in a few lines.",
}  # fmt: skip


def overview() -> str:
    """What there is, on one screen of 24 lines."""
    lines = [
        "%%aichat [flags]    the rest of the cell is a prompt; its value is the reply",
        "%aichat [command]   a line; alone: model, conversation, totals",
        "",
    ]
    for topic in TOPICS:
        words = [command.name for command in _commands(topic)]
        words += [action.option_strings[-1] for action in _flags(topic)]
        if words:
            lines += _wrapped(", ".join(words), first=topic.ljust(_TERM), other=" " * _TERM)
    lines.append("")
    named = ", ".join(TOPICS)
    lines += _wrapped(f"More: %aichat help TOPIC (a command; a flag such as --schema; {named}; or all).")
    return "\n".join(lines)


def page(topic: str, *, variables: Mapping[str, str] | None = None) -> str:
    """What there is to know of one thing.

    Args:
        topic: A command, a flag with or without its dashes, or one of `TOPICS`; ``all``: everything; empty: the
            overview.
        variables: For the topic of keys: the environment variable of each provider.

    Raises:
        UnknownNameError: There is nothing of this name; names the nearest.
    """
    name = topic.strip().removeprefix("%aichat ").strip().lower()
    if not name:
        return overview()
    if name == "all":
        return "\n\n".join([overview(), *(_topic_page(known, variables or {}) for known in TOPICS)])
    if name in TOPICS:
        return _topic_page(name, variables or {})
    for command in COMMANDS:
        if command.name == name:
            return _command_page(command)
    dest = name.lstrip("-").replace("-", "_")
    for action in cell_parser()._actions:
        if name in action.option_strings or dest == action.dest:
            return _flag_page(action)
    if name in _ALIASES:
        return _topic_page(_ALIASES[name], variables or {})
    raise UnknownNameError(
        f"The manual has nothing on {shorten(topic, 40)!r}.{nearest(name, topics())} "
        f"It has every command and flag, and: {', '.join(TOPICS)}."
    )


def topics() -> tuple[str, ...]:
    """All that `page` knows, topics first."""
    flags = (flag for action in cell_parser()._actions for flag in action.option_strings if flag.startswith("--"))
    return tuple(dict.fromkeys((*TOPICS, "all", *(command.name for command in COMMANDS), *flags)))


def cell_help() -> str:
    """All flags of `%%aichat`, for its ``--help``."""
    lines = ["%%aichat [flags]", "prompt", ""]
    for topic in TOPICS:
        if flags := _flags(topic):
            lines += [f"{topic}:", *map(_flag_line, flags)]
    return "\n".join([*lines, "", "%aichat help FLAG tells more, %aichat help the rest."])


def _topic_page(topic: str, variables: Mapping[str, str]) -> str:
    lines = [topic.upper(), *_paragraphs(TOPICS[topic])]
    if topic == "keys":
        lines += ["", *(f"  {name:<{_TERM}} {variable}" for name, variable in variables.items() if variable)]
    if topic == "tables":
        lines += _methods()
    if commands := _commands(topic):
        lines += ["", *(_command_line(command) for command in commands)]
    if flags := _flags(topic):
        lines += ["", *map(_flag_line, flags)]
    return "\n".join(lines)


def _command_page(command: Command) -> str:
    lines = [f"%aichat {command.name} {command.usage}".rstrip(), f"    {command.does}"]
    if command.more:
        lines += ["", *_wrapped(command.more)]
    return "\n".join([*lines, "", f"See also: %aichat help {command.topic}"])


def _flag_page(action: argparse.Action) -> str:
    lines = [f"%%aichat {_spelled(action)}", f"    {action.help}"]
    if action.choices is not None:
        lines.append(f"    one of: {', '.join(map(str, action.choices))}")
    if more := _FLAGS.get(action.dest):
        lines += ["", *_wrapped(more)]
    topic = next(topic for topic in TOPICS if action.dest in [flag.dest for flag in _flags(topic)])
    return "\n".join([*lines, "", f"See also: %aichat help {topic}"])


def _methods() -> Iterator[str]:
    """The methods of the accessors, each with the first line of its docstring."""
    from ..frames.pandas import FrameAccessor, SeriesAccessor  # imports pandas

    for owner, name in ((SeriesAccessor, 'df["prompt"]'), (FrameAccessor, "df")):
        for method, value in vars(owner).items():
            if not method.startswith("_") and callable(value):
                first = (value.__doc__ or "").partition("\n")[0]
                template = "" if owner is SeriesAccessor else "template"
                yield f"  {name}.aichat.{method}({template}, ...)".replace("(, ", "(")
                yield from _wrapped(first, first=" " * 6, other=" " * 6)


def _commands(topic: str) -> list[Command]:
    return [command for command in COMMANDS if command.topic == topic]


def _flags(topic: str) -> list[argparse.Action]:
    """The flags of a topic: the parser's group of that title."""
    return [action for group in cell_parser()._action_groups if group.title == topic for action in group._group_actions]


def _spelled(action: argparse.Action) -> str:
    metavar = f" {action.metavar}" if action.metavar else ""
    return ", ".join(action.option_strings) + metavar


def _flag_line(action: argparse.Action) -> str:
    return f"  {_spelled(action):<28} {action.help}"


def _command_line(command: Command) -> str:
    return f"  {f'%aichat {command.name} {command.usage}'.rstrip():<28} {command.does}"


def _paragraphs(text: str) -> list[str]:
    """A text of ours in lines; what is indented stays as it is."""
    lines: list[str] = []
    for paragraph in text.strip().split("\n\n"):
        lines += [] if not lines else [""]
        lines += paragraph.split("\n") if paragraph.startswith(" ") else _wrapped(" ".join(paragraph.split()))
    return lines


def _wrapped(text: str, *, first: str = "", other: str = "") -> list[str]:
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=first,
        subsequent_indent=other,
        break_long_words=False,
        break_on_hyphens=False,
    )
