"""The house has floors: a room imports from lower ones only, and some libraries belong to one room."""

import ast
from pathlib import Path

import pytest

import aichat_magic

PACKAGE = Path(aichat_magic.__file__).parent
SCHEMA = (
    *("schemas", "schema_types", "schema_dicts", "schema_records", "schema_wire", "schema_columns"),
    *("schema_problems", "schema_tree"),
)
FLOORS = (
    set("errors messages characters answers fences tables secret urls".split())
    | set("render wrapping quoting kinds".split())
    | set("sse rate_headers jsontext response decoding instrumentation".split()),
    set("transport exchange connections connection_limit ways by_httpx sockets outgoing failures routes".split())
    | set("retry settings bridge engine weights store limits pacing prices budgets outages".split()),
    {"providers"},
    {"registry"},
    {"chat"},
    set("conversation prompts context includes templates arguments charts previews transcripts".split())
    | set("batches jobs ledger saver plans progress outcomes".split())
    | set("excerpts pictures sheets recipes failing keywords".split())
    | set(SCHEMA)
    | {"identity"},
    set("api session accessor extraction runs display pandas_hook completion asides shaping".split())
    | set("talks totals commands manual doctor".split()),
    {"magic"},
)
# Rooms of one floor that may look at each other, each with its reason.
NEIGHBOURS = {
    ("jsontext", "characters"): "what no text may hold is replaced before JSON is read",
    ("messages", "errors"): "an option out of range is an error",
    ("answers", "characters"): "a blank text is no answer",
    ("answers", "errors"): "but an error",
    ("answers", "messages"): "that a reply stands for",
    ("messages", "rate_headers"): "a reply carries what the server said of its limits",
    ("messages", "fences"): "a reply knows the code in it",
    ("messages", "tables"): "and the tables",
    ("tables", "fences"): "a table may stand in a fence",
    ("messages", "render"): "a reply knows how a notebook shows it",
    ("render", "messages"): "what is rendered is a message or a reply",
    ("wrapping", "fences"): "code in a fence is not wrapped",
    ("render", "wrapping"): "a table knows how wide a text is",
    ("quoting", "errors"): "what is cut short is cut as in errors",
    ("secret", "errors"): "a key that cannot be used is an error",
    ("urls", "errors"): "a URL that cannot be called is an error",
    ("urls", "secret"): "and that of a proxy may hold a password",
    ("sse", "errors"): "a stream that is no stream is an error",
    ("transport", "exchange"): "a call is one exchange",
    ("transport", "connections"): "over a connection that is kept",
    ("transport", "ways"): "of one kind or another",
    ("transport", "outgoing"): "what is sent is worded there",
    ("transport", "routes"): "and where it goes",
    ("transport", "failures"): "what is no JSON is put into words there",
    ("transport", "by_httpx"): "or httpx carries it",
    ("by_httpx", "ways"): "a way over httpx",
    ("by_httpx", "outgoing"): "on which a request goes out",
    ("by_httpx", "routes"): "to where its route says",
    ("exchange", "connections"): "a connection is taken and given back",
    ("exchange", "sockets"): "which may be overdue",
    ("by_httpx", "sockets"): "or overdue",
    ("exchange", "ways"): "and carries the request",
    ("exchange", "outgoing"): "which is worded there",
    ("exchange", "routes"): "and goes there",
    ("exchange", "failures"): "what went wrong on the wire is put into words there",
    ("connections", "ways"): "what is kept",
    ("connections", "connection_limit"): "as many as the process may have",
    ("transport", "connection_limit"): "one limit for the connections of all loops",
    ("connections", "routes"): "and for what",
    ("ways", "sockets"): "a way straight to the server",
    ("ways", "outgoing"): "on which a request goes out",
    ("ways", "routes"): "to where its route says",
    ("engine", "weights"): "an engine is made from weights",
    ("batches", "plans"): "a run does what its plan says",
    ("batches", "progress"): "and tells where it stands",
    ("batches", "ledger"): "and keeps what comes of it, row by row",
    ("batches", "saver"): "and has it stored",
    ("batches", "jobs"): "what waits to be sent stands in a queue",
    ("ledger", "jobs"): "a row asks by a job",
    ("saver", "jobs"): "and what is stored is the reply to it",
    ("ledger", "plans"): "a plan says what a row asks",
    ("ledger", "progress"): "a row that is done is told",
    ("ledger", "outcomes"): "replies are kept in columns",
    ("plans", "progress"): "a plan says who is told",
    ("limits", "pacing"): "the laws of control that a run obeys",
    ("settings", "prices"): "the user's own prices are settings",
    ("store", "store"): "a package: file, writer, rows",
    ("providers", "providers"): "every provider -> base; local speaks the dialect of openai",
    ("prompts", "context"): "a placeholder is filled with what a value looks like",
    ("includes", "context"): "and so is what is included",
    ("context", "excerpts"): "a long value is shown in part",
    ("context", "pictures"): "an image is shown as one",
    ("context", "sheets"): "a table is shown by its shape and its first rows",
    ("sheets", "excerpts"): "of which a part is shown, too",
    ("includes", "excerpts"): "a file may be too long",
    ("includes", "pictures"): "or an image",
    ("kinds", "errors"): "a long name is cut short as in errors",
    ("messages", "jsontext"): "a reply knows the JSON in it",
    ("jsontext", "errors"): "where there is none, it is an error",
    ("jsontext", "fences"): "JSON may stand in a fence",
    **{
        (room, other): "rooms of one package-to-be, in this order"
        for number, room in enumerate(SCHEMA)
        for other in SCHEMA[number + 1 :]
    },
    ("recipes", "prompts"): "a recipe is a prompt in a file",
    ("failing", "context"): "how a value becomes text is said there",
    ("keywords", "batches"): "for the types only: a caller may take the events of a run",
    ("keywords", "progress"): "and those events",
    ("conversation", "keywords"): "what it takes has types",
    ("api", "display"): "a run shows its progress",
    ("runs", "display"): "a run shows its progress",
    ("commands", "asides"): "the list of templates is theirs",
    ("commands", "display"): "what is touched is shown",
    ("commands", "doctor"): "a command asks for an examination",
    ("doctor", "talks"): "an examination says where it is made",
    ("commands", "manual"): "and one for help",
    ("commands", "talks"): "commands work on conversations",
    ("commands", "totals"): "and show what was used",
    ("manual", "accessor"): "the manual of tables is the accessors' docstrings",
    ("completion", "manual"): "Tab offers what there is help on",
    ("session", "manual"): "--help on a cell",
    ("session", "commands"): "a line is a command",
    ("session", "talks"): "a cell is a turn of a conversation",
    ("session", "totals"): "and is counted",
    ("session", "shaping"): "a cell may ask for a form of its reply",
    ("session", "asides"): "some commands ask by a template",
    ("session", "completion"): "what Tab may offer is what the session knows",
    ("session", "display"): "what is touched is shown",
    ("session", "runs"): "a batch cell is a run over rows",
    ("extraction", "runs"): "an extraction is two runs",
    ("accessor", "extraction"): "a column is extracted",
    ("accessor", "runs"): "a column is a run over its rows",
}
ONLY_IN = {
    "httpx": {"transport", "by_httpx"},  # transport: for the types only
    "httpcore": {"by_httpx"},  # for the types only
    "httptools": {"response"},
    "nest_asyncio": {"bridge"},
    "nest_asyncio2": {"bridge"},
    "IPython": {"magic", "display"},
    "tqdm": {"display"},
    "pandas": {"accessor", "previews", "runs", "extraction", "tables", "messages"},  # messages: for the types only
    "sqlite3": {"store"},
    "pydantic": {"schema_types", "schema_records"},
    "pydantic_core": {"schema_types", "schema_records", "schema_columns"},
    "jsonschema": {"schema_dicts"},
    "jsonschema_specifications": {"schema_dicts"},
    "referencing": {"schema_dicts"},
    "xllamacpp": {"engine"},
}
MODULES = sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[0]


def floor_of(room: str) -> int:
    for number, rooms in enumerate(FLOORS):
        if room in rooms:
            return number
    raise AssertionError(f"{room} is on no floor: add it to FLOORS here and to the picture in CONTRIBUTING.md")


def imports_of(path: Path) -> set[tuple[str, ...]]:
    """Every import, wherever it stands in the file, as absolute parts."""
    here = ("aichat_magic", *path.relative_to(PACKAGE).with_suffix("").parts)
    found: set[tuple[str, ...]] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {tuple(alias.name.split(".")) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = here[: len(here) - node.level] if node.level else ()
            module = (*base, *(node.module.split(".") if node.module else ()))
            found |= {(*module, alias.name) for alias in node.names}
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_room_imports_from_lower_floors_only(path: Path) -> None:
    room = room_of(path)
    if room == "__init__":
        return
    for target in imports_of(path):
        if target[0] != "aichat_magic" or len(target) < 2 or target[1] == "__version__":
            continue
        other = target[1]
        if floor_of(other) < floor_of(room) or (room, other) in NEIGHBOURS:
            continue
        raise AssertionError(f"{room} (floor {floor_of(room)}) imports {other} (floor {floor_of(other)})")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_library_is_imported_in_its_own_room_only(path: Path) -> None:
    for target in imports_of(path):
        rooms = ONLY_IN.get(target[0])
        assert rooms is None or room_of(path) in rooms, f"{target[0]} belongs to {rooms}"


def test_nothing_pickles_or_evaluates() -> None:
    forbidden = {"eval", "exec", "compile", "__import__"}
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in forbidden, f"{path.name} calls {node.func.id}"
        assert not {target[0] for target in imports_of(path)} & {"pickle", "marshal", "shelve", "dill"}
