"""The help text, made from the table of commands, the flags of the parser and docstrings, so that all agree."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Iterator, Mapping

from ..core.errors import UnknownNameError
from ..text.words import did_you_mean, shorten
from .arguments import COMMANDS, Command
from .flags import cell_parser

_WIDTH = 78  # a terminal of 80 columns wraps a line that reaches its last column
_TERM = 14

# The introduction of each topic; its commands and flags follow it.
TOPICS: Mapping[str, str] = {
    "asking": """\
A %%aichat cell is a prompt. It is sent with the conversation so far. The reply streams in below the cell and is its
value: str(_) is the text; _.code, _.json, _.usage, _.model and _.finish_reason tell the rest. In a terminal, press
Enter three times after the prompt to send it: IPython waits for two empty lines.

When you run a cell of a notebook again, its new turn replaces the old one; later turns stay as they are. This needs a
front end that sends cell ids, such as JupyterLab or VS Code.""",
    "models": """\
Write a model as provider/model: local/smollm2-135m, openai/gpt-5-mini, ollama/llama3.2. The embedded model, local/...,
runs in this process: nothing leaves the machine, and nothing is billed. local/smollm2-135m, the default, is only for
demonstrations: it is often wrong, and writes 256 tokens unless --max-tokens asks for more.

local//path/to/file.gguf runs any GGUF file, local/hf/OWNER/REPO:QUANT any of the Hugging Face Hub (extra `hub`), such
as local/hf/HuggingFaceTB/SmolLM2-1.7B-Instruct-GGUF:Q4_K_M. It is downloaded once (HF_TOKEN for gated ones), and needs
about as much free memory as the file is large.

Any other OpenAI-compatible server is one line: %aichat use MODEL --base-url URL, or -m MODEL --base-url URL for one
cell; or set AICHAT_BASE_URL, or %aichat set base_url URL; or give it a name with a table [providers.NAME] in
config.toml. The address may end in /chat/completions and carry a query (?api-version=...).

Which address a model goes to, the first that holds: --base-url; a base_url that is set, for models without a provider,
for openai/..., and for the model that was set in the same place or farther away (this session, then the environment,
then config.toml); the provider's own address. Every other prefix means the server of that provider. --dry-run and
%aichat doctor show the address, and where it comes from.""",
    "keys": """\
%aichat key PROVIDER asks for a key and keeps it for the session; with --save for later ones, too. A key is looked for
there, then in AICHAT_API_KEY, config.toml, the environment and the system's keyring, and is sent only to the server
that it belongs to; the names of this machine, with any port, are one server. There is no flag for a key, so that no key
ends up in a notebook. In config.toml (chmod 600):

    [providers.openai]
    api_key = "..."         # or: api_key_env = "MY_VARIABLE"
    [providers.openai.headers]
    OpenAI-Project = "..."  # further headers, sent to this server only

%aichat providers shows which providers have a key, %aichat config where the file is. For a server of your own, set
AICHAT_API_KEY and AICHAT_BASE_URL, or add a table with base_url and api_key. The environment variables of the known
providers:""",
    "conversations": """\
Cells continue the current conversation. Each notebook or terminal has its own `main`; conversations with other names
are shared by all and kept until you delete them. Use -c NAME for one cell, %aichat switch NAME from then on.

A notebook is recognised by the ids of its cells, not by its name, so it keeps `main` when the kernel restarts and when
the file is renamed or moved. A new notebook, a copy, and a notebook without cell ids (before nbformat 4.5) start a new
`main`. If you may have meant an older one, a line tells you how to continue it: %aichat switch main@...

VS Code sends ids that are valid in one window only; there the saved file decides. With front ends that send no cell ids
(qtconsole, nbclient) every prompt is a new turn, and a kernel without a notebook of its own keeps `main` until it
ends.""",
    "context": """\
{name} in a prompt is replaced by the notebook's variable of that name. Nothing is evaluated, and all other braces stay
as they are, also those of LaTeX: \\frac{a}{n}, x_{n}, $...$. A name that is nearly that of a variable is asked about
before anything is sent; {{name}} and --raw send it as text. A table is sent as its schema and first rows, a figure as
an image, to models that accept images.

Images are sent again with the next turn, but not for ever: %aichat set max_history_images N changes after how many
turns they are left out. Each cell says what of the earlier turns is left out. %aichat show --next shows all that the
next cell would send.""",
    "reply": "How the reply is checked, shown and kept.",
    "tables": """\
One prompt for each row of a table. In a cell: %%aichat --batch df --into COLUMN, with {column} in the prompt. Columns
may have any name: {user.name}, {price ($)}. JSON and quoted text in braces stay text.
polars, Arrow and DuckDB work like pandas; for any table there is aichat_magic.complete(table, template). In Python:""",
    "options": """\
Options for one cell. To keep one for the session: %aichat set OPTION VALUE; for every session: [options] in
config.toml. The value unset takes an option away wherever it was set: -t unset.

An option that the server refuses is left out, and a line says so; with --strict-options that is an error.""",
    "settings": """\
The first of these that gives a value wins: a flag, %aichat set (or %config AIChat), the environment (AICHAT_MODEL,
AICHAT_TEMPERATURE, ...), config.toml, the default. %aichat set lists the current values and where each comes from. An
example of config.toml:

    model = "openai/gpt-5-mini"
    timeout_s = 120
    [options]
    temperature = 0
    reasoning = "low"
    [options.extra]         # a vendor's own options
    top_k = 40
    [aliases]
    fast = "groq/llama-3.1-8b-instant" """,
}
_ALIASES = {
    "batch": "tables", "dataframes": "tables", "pandas": "tables", "conversation": "conversations", "key": "keys",
    "model": "models", "table": "tables", "setting": "settings", "placeholders": "context",
}  # fmt: skip
# Further explanation of flags, by the names of their values.
_FLAGS: Mapping[str, str] = {
    "model": "For this cell only; %aichat use MODEL sets the model from then on. %aichat providers lists the "
    "providers. -m A -m B asks both at once, and shows their replies side by side. The first goes on in the "
    "conversation, or that of --keep N; -o NAME gives a list of all, and {NAME} in a prompt is their texts.",
    "keep": "%%aichat -m A -m B --keep 2: the reply of B becomes the turn of the conversation. The others are shown, "
    "counted, and not sent along later.",
    "base_url": "For example http://localhost:8000/v1. A key is never sent to an address that it does not belong to.",
    "proxy": "For this cell only. Without it, the environment decides (HTTPS_PROXY, ALL_PROXY, NO_PROXY).",
    "timeout": "From the connection to the last word. Whatever has arrived by then stays visible.",
    "max_tokens": "A reply that reaches the limit is marked as cut. The thinking of a model counts; if it uses all of "
    "them, there is no answer, and the error says so.",
    "temperature": "unset: not sent, whatever the settings say. Some models take none.",
    "reasoning": "Each provider gets its own words for it (reasoning_effort, thinking, ...). A level that the model "
    "lacks becomes the nearest, and a line says so. Thinking counts as output: it takes time and costs money, and "
    "--max-tokens limits it, too.",
    "tier": "flex waits for spare capacity, mostly at half the price, with a time limit of 15 minutes unless you set "
    "one; flex,auto asks at the normal tier where there is none; priority is faster and dearer. Not every provider has "
    "tiers. The estimate and the cost are those of the tier. Stored replies are found whatever the tier.",
    "option": "Any option of the vendor's API, merged into the request last: -O top_k=40 -O min_p=0.1. VALUE is JSON; "
    "a word that is not is text. Objects need single quotes: -O 'logit_bias={\"50256\": -100}'. unset takes one away "
    "that the settings have.",
    "strict_options": "Without it, a refused option is left out, the request is sent again, and a line names the "
    "option.",
    "system": "It also holds for later cells of the same conversation, until you give another one.",
    "chat": "Default: the current conversation. %aichat switch NAME changes it for the cells below, too.",
    "new": "No earlier turn is sent. They stay stored: %aichat search TEXT finds them.",
    "no_history": "For a single question that has nothing to do with the conversation.",
    "batch": "DF is the name of a table (pandas, polars, Arrow, DuckDB). Equal prompts are sent once, finished rows "
    "are stored, and a run that was stopped continues where it stopped. --dry-run shows rows, tokens "
    "and cost, and sends nothing.",
    "into": "An existing column is replaced. If rows fail, their errors go into the column COLUMN_error. A "
    "table that cannot change in place, as one of polars, is replaced by a new one under the same name.",
    "fresh": "Without it, a reply that was paid for once is taken from the store.",
    "max_cost_usd": "In US dollars. It needs a model whose price is known.",
    "outage_patience_s": "When the network or a server that has answered before is down, all rows wait while one call "
    "tries again now and then; nothing is lost. After this many seconds (default: 600) the run stops; run it again to "
    "continue.",
    "limit_patience_s": "A 429 pauses all rows for as long as the server asks, or, if it does not say, until one call "
    "that tries now and then is admitted. If none is for this many seconds (default: 600), the run stops, and nothing "
    "is lost.",
    "include": "NAME is a variable (a table is sent as its schema and first rows, a figure as an image), In[3] or "
    "Out[3], err (the last exception), cells:5 (the last five cells) or df:schema (only the columns of a table). "
    "Repeatable.",
    "attach": "The text of a file or PDF is sent; images need a model that accepts them. Backslashes are kept: "
    "C:\\data\\x.csv; a path with blanks needs quotes. Repeatable.",
    "raw": "For prompts about template languages and code with {names}.",
    "output": "str(NAME) is the text; NAME.code, .json, .value, .thinking, .usage and .finish_reason tell "
    "the rest.",
    "format": "code shows only the code of the reply; json checks that the reply is JSON, and asks once more if not.",
    "schema": "NAME is a variable of the notebook: a pydantic model, a dataclass, a TypedDict, a NamedTuple, an "
    "Enum or a JSON schema as a dict. The reply is checked, and asked for once more if it does not fit; _.value is "
    "the resulting object.",
    "code": "It takes the Python blocks of the reply; if there are none, those of its first language.",
    "dry_run": "Shows the exact messages, the options, the address and the approximate number of tokens. It needs no "
    "key.",
    "debug": "Without it, an error is shown in a few lines.",
}  # fmt: skip


def overview() -> str:
    """Return the overview, which fits one screen of 24 lines."""
    lines = [
        "%%aichat [flags]    the rest of the cell is a prompt; the reply is its value",
        "%aichat [command]   without a command: model, conversation, totals",
        "",
    ]
    for topic in TOPICS:
        words = [command.name for command in _commands(topic)]
        words += [action.option_strings[-1] for action in _flags(topic)]
        if words:
            lines += _wrapped(", ".join(words), first=topic.ljust(_TERM), other=" " * _TERM)
    lines.append("")
    named = ", ".join(TOPICS)
    lines += _wrapped(
        f"More: %aichat help TOPIC, where TOPIC is a command, a flag such as --schema, one of {named}, or all."
    )
    return "\n".join(lines)


def page(topic: str, *, variables: Mapping[str, str] | None = None) -> str:
    """Return the help on one topic.

    Args:
        topic: A command, a flag with or without its dashes, or one of `TOPICS`; ``all``: everything; empty: the
            overview.
        variables: For the topic of keys: the environment variable of each provider.

    Raises:
        UnknownNameError: There is no help on it; names the nearest topic.
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
        # -O and -o are two flags.
        if topic.strip() in action.option_strings or name in action.option_strings[1:] or dest == action.dest:
            return _flag_page(action)
    if name in _ALIASES:
        return _topic_page(_ALIASES[name], variables or {})
    raise UnknownNameError(
        f"There is no help on {shorten(topic, 40)!r}.{did_you_mean(name, topics())} "
        f"There is help on every command and flag, and on {', '.join(TOPICS)}."
    )


def topics() -> tuple[str, ...]:
    """Return all names that `page` knows, topics first."""
    flags = (flag for action in cell_parser()._actions for flag in action.option_strings if flag.startswith("--"))
    return tuple(dict.fromkeys((*TOPICS, "all", *(command.name for command in COMMANDS), *flags)))


def cell_help() -> str:
    """Return the flags of `%%aichat`, for its ``--help``."""
    lines = ["%%aichat [flags]", "prompt", ""]
    for topic in TOPICS:
        if flags := _flags(topic):
            lines += [f"{topic}:", *map(_flag_line, flags)]
    return "\n".join([*lines, "", "%aichat help FLAG explains a flag, %aichat help shows everything else."])


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
    """Yield the methods of the accessors, each with the first line of its docstring."""
    from ..frames.accessors import FrameAccessor, SeriesAccessor

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
    """Return the flags of a topic: the parser's argument group of that title."""
    return [action for group in cell_parser()._action_groups if group.title == topic for action in group._group_actions]


def _spelled(action: argparse.Action) -> str:
    metavar = f" {action.metavar}" if action.metavar else ""
    return ", ".join(action.option_strings) + metavar


def _flag_line(action: argparse.Action) -> str:
    return f"  {_spelled(action):<28} {action.help}"


def _command_line(command: Command) -> str:
    return f"  {f'%aichat {command.name} {command.usage}'.rstrip():<28} {command.does}"


def _paragraphs(text: str) -> list[str]:
    """Wrap a text of this module into lines; indented paragraphs stay as they are."""
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
