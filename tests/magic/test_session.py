"""Conversations that last, and cells that are run again: a session without a shell, on the echo provider."""

import itertools
import re
from pathlib import Path
from typing import Any

import pytest
from desks import Disk, Kernel, View

from aichat_magic.chat.chat import Chat
from aichat_magic.chat.conversation import Turn
from aichat_magic.core.errors import AichatError, BadInputError
from aichat_magic.core.messages import Image, Reply
from aichat_magic.core.settings import Settings
from aichat_magic.magic.history import ChatHistory
from aichat_magic.magic.notebook_identity import CellLocation
from aichat_magic.magic.session import Session
from aichat_magic.store.conversations import ConversationStore, MemoryConversations, SqliteConversations
from aichat_magic.store.tree import TurnTree

Show = pytest.CaptureFixture[str]


class Notebook(Kernel):
    """A kernel of a notebook that is saved all the time; those of one store share a disk."""

    def __init__(self, store: ConversationStore, path: str = "a.ipynb", *, has_cell_ids: bool = True) -> None:
        disk = vars(store).setdefault("disk_of_tests", Disk())
        super().__init__(store, disk, path, has_cell_ids=has_cell_ids)


@pytest.fixture
def store() -> MemoryConversations:
    return MemoryConversations()


@pytest.fixture
def notebook(store: MemoryConversations) -> Notebook:
    return Notebook(store)


def prompts(store: ConversationStore, name: str = "main", scope: str | None = None, path: str = "a.ipynb") -> list[str]:
    """The prompts of a conversation; by default of the notebook's own."""
    if scope is None:
        scopes = [known.scope for known in store.notebooks(path=path)]
        assert len(scopes) < 2
        scope = scopes[0] if scopes else ""
    found = store.load(scope, name)
    return [] if found is None else [turn.prompt for turn in found.turns]


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_rerun_of_a_cell_sends_earlier_turns_only_and_replaces_only_its_own(
    notebook: Notebook, store: MemoryConversations, k: int
) -> None:
    for number in range(1, 5):
        notebook.run(f"cell{number}", f"q{number}")
    sent = notebook.run(f"cell{k}", "again")
    assert sent == [text for number in range(1, k) for text in (f"q{number}", f"q{number}")] + ["again"]
    assert prompts(store) == [f"q{number}" if number != k else "again" for number in range(1, 5)]
    assert len(notebook.run("cell5", "q5")) == 9


def test_failed_rerun_leaves_the_turn_as_it_was(notebook: Notebook, store: MemoryConversations) -> None:
    notebook.run("cell1", "q1")
    with pytest.raises(AichatError):
        notebook.run("cell1", "again", "-m nobody/x")
    assert prompts(store) == ["q1"]


def test_front_end_without_cell_names_asks_the_same_twice_as_two_turns(store: MemoryConversations) -> None:
    """Row 92. Two cells may hold the same prompt."""
    notebook = Notebook(store, has_cell_ids=False)
    for prompt in ("q1", "more"):
        notebook.run("", prompt)
    assert notebook.run("", "more") == ["q1", "q1", "more", "more", "more"]
    assert prompts(store) == ["q1", "more", "more"]


def test_calls_of_one_execution_without_cell_names_are_all_kept(store: MemoryConversations) -> None:
    notebook = Notebook(store, has_cell_ids=False)
    for execution in (1, 2):
        notebook.execution = execution
        for prompt in "ab":
            notebook.run("", prompt)
    notebook.execution = 3
    notebook.run("", "c")
    assert prompts(store) == ["a", "b", "a", "b", "c"]


def test_terminal_asks_the_same_twice_as_two_turns(store: MemoryConversations) -> None:
    session = Session(
        Chat(settings=lambda: Settings(model="echo/echo")),
        {},
        view=lambda is_streamed: View([]),
        shown=lambda reply: None,
        store=lambda: store,
    )
    session.cell("", "more")
    session.cell("", "more")
    assert prompts(store, scope="here") == ["more", "more"]


def test_rerun_of_the_cell_that_began_afresh_replaces_the_first_turn(
    notebook: Notebook, store: MemoryConversations
) -> None:
    notebook.run("cell0", "old")
    notebook.run("cell1", "q1", "--new")
    notebook.run("cell2", "q2")
    assert notebook.run("cell1", "again", "--new") == ["again"]
    assert prompts(store) == ["again", "q2"]


def test_lines_of_ask_in_one_cell_are_turns_of_their_own(notebook: Notebook, store: MemoryConversations) -> None:
    notebook.cell_id = "cell1"
    for _ in range(2):
        notebook.session.command("ask one")
        notebook.session.command("ask two")
    assert prompts(store) == ["one", "two"]


def test_main_belongs_to_its_notebook_and_a_name_to_all(store: MemoryConversations) -> None:
    one, other = Notebook(store, "a.ipynb"), Notebook(store, "b.ipynb")
    one.run("cell1", "q1")
    one.run("cell2", "shared", "-c plan")
    assert other.run("cell1", "q1") == ["q1"]
    assert other.run("cell2", "more", "-c plan") == ["shared", "shared", "more"]


def test_restarted_notebook_finds_its_conversation(store: MemoryConversations) -> None:
    Notebook(store).run("cell1", "q1", "-s 'Be brief.'")
    assert Notebook(store).run("cell2", "q2") == ["Be brief.", "q1", "q1", "q2"]


def test_two_notebooks_in_one_conversation_see_each_other(store: MemoryConversations) -> None:
    one, other = Notebook(store, "a.ipynb"), Notebook(store, "b.ipynb")
    one.run("a1", "from one", "-c plan")
    other.run("b1", "from the other", "-c plan")
    assert one.run("a2", "last", "-c plan") == ["from one", "from one", "from the other", "from the other", "last"]


def test_without_history_nothing_is_stored(notebook: Notebook, store: MemoryConversations) -> None:
    notebook.run("cell1", "q1", "--no-history")
    assert prompts(store) == []


def test_history_switched_off_opens_no_store() -> None:
    def never() -> ConversationStore:
        raise AssertionError("opened")

    notebook = Notebook(MemoryConversations())
    notebook.session._open_store = never
    notebook.chat.set("keep_history", "false")
    notebook.run("cell1", "q1")
    assert notebook.run("cell2", "q2") == ["q1", "q1", "q2"]


def test_undo_and_reset_destroy_nothing(notebook: Notebook, store: MemoryConversations, capsys: Show) -> None:
    notebook.run("cell1", "apples")
    notebook.run("cell2", "pears")
    notebook.session.command("undo")
    assert prompts(store) == ["apples"]
    notebook.session.command("reset")
    assert prompts(store) == []
    capsys.readouterr()
    notebook.session.command("search PEARS")
    assert "pears" in capsys.readouterr().out


def test_fork_goes_on_by_itself(notebook: Notebook, store: MemoryConversations) -> None:
    notebook.run("cell1", "q1")
    notebook.session.command("fork other")
    assert notebook.run("cell2", "q2") == ["q1", "q1", "q2"]
    assert prompts(store) == ["q1"]
    assert prompts(store, "other", "") == ["q1", "q2"]


@pytest.mark.parametrize("suffix", [".md", ".json", ".ipynb"])
def test_export_writes_the_conversation(notebook: Notebook, tmp_path: Path, suffix: str) -> None:
    notebook.run("cell1", "What is {x}?")
    path = tmp_path / f"talk{suffix}"
    notebook.session.command(f"export '{path}'")
    assert "What is {x}?" in path.read_text("utf-8")


def test_exported_conversation_is_imported_under_a_name(
    notebook: Notebook, store: MemoryConversations, tmp_path: Path
) -> None:
    notebook.run("cell1", "q1", "-s 'Be brief.'")
    path = tmp_path / "talk.json"
    notebook.session.command(f"export '{path}'")
    notebook.session.command(f"import '{path}' copy")
    assert prompts(store, "copy", "") == ["q1"]
    assert notebook.run("cell9", "q2")[0] == "Be brief."
    with pytest.raises(BadInputError, match="already"):
        notebook.session.command(f"import '{path}' copy")


def test_conversation_that_is_imported_as_main_is_this_notebooks(store: MemoryConversations, tmp_path: Path) -> None:
    other = Notebook(store, "b.ipynb")
    other.run("cell1", "q1")
    path = tmp_path / "talk.json"
    other.command(f"export '{path}'")
    Notebook(store).command(f"import '{path}' main", "1f0e3dad")
    assert prompts(store) == ["q1"]


@pytest.mark.parametrize("period", ["", "session", "day", "month", "all"])
def test_usage_is_told_by_model_and_conversation(notebook: Notebook, period: str, capsys: Show) -> None:
    notebook.run("cell1", "one two three")
    capsys.readouterr()
    notebook.session.command(f"usage {period}".strip())
    shown = capsys.readouterr().out
    assert "echo/echo" in shown
    assert "█" in shown
    assert ("main" in shown) == (period not in ("", "session"))


@pytest.mark.parametrize(
    "line", ["usage year", "search", "export", "export x.doc", "import nothing.json", "show nobody"]
)
def test_wrong_command_is_bad_input(notebook: Notebook, line: str) -> None:
    with pytest.raises(AichatError):
        notebook.session.command(line)


def test_calls_of_one_execution_are_turns_of_their_own_and_replaced_by_the_next(
    notebook: Notebook, store: MemoryConversations
) -> None:
    for execution, prompts_asked in ((1, ("a", "b", "c")), (2, ("d", "e", "f"))):
        notebook.execution = execution
        for prompt in prompts_asked:
            notebook.run("loop", prompt)
        assert prompts(store) == list(prompts_asked)
    notebook.execution = 3
    notebook.run("cell2", "g")
    notebook.execution = 4
    assert notebook.run("loop", "h") == ["h"]
    assert prompts(store) == ["h", "e", "f", "g"]


def test_loop_that_is_run_again_shorter_leaves_no_turn_of_the_time_before(
    notebook: Notebook, store: MemoryConversations
) -> None:
    for execution, cell_id, prompts_asked in ((1, "loop", "abc"), (2, "cell2", "g"), (3, "loop", "d")):
        notebook.execution = execution
        for prompt in prompts_asked:
            notebook.run(cell_id, prompt)
    notebook.execution = 4
    assert notebook.run("cell3", "h") == ["d", "d", "g", "g", "h"]
    assert prompts(store) == ["d", "g", "h"]


def test_loop_that_is_run_again_and_fails_leaves_the_turns_of_the_time_before(
    notebook: Notebook, store: MemoryConversations
) -> None:
    for execution, prompts_asked in ((1, "abc"), (2, "d")):
        notebook.execution = execution
        for prompt in prompts_asked:
            notebook.run("loop", prompt)
    with pytest.raises(AichatError):
        notebook.run("loop", "e", "-m openai/m --base-url http://127.0.0.1:9")
    notebook.execution = 3
    notebook.run("cell2", "f")
    assert prompts(store) == ["d", "b", "c", "f"]


def test_images_of_later_turns_stay_when_an_earlier_one_is_replaced(store: MemoryConversations) -> None:
    chat = Chat(settings=lambda: Settings(model="echo/echo"))
    history = ChatHistory(chat, location=lambda: CellLocation(is_notebook=True, execution=1), store=lambda: store)
    image = Image("image/png", b"1")
    for turn in (Turn("a", Reply(text="A"), "one"), Turn("b", Reply(text="B"), "two", images=(image,))):
        history.add_turn(history.load("plan"), turn, options={})
    history.add_turn(history.load("plan"), Turn("c", Reply(text="C"), "one"), options={}, position=0)
    assert [(turn.prompt, turn.images) for turn in history.load("plan").turns] == [("c", ()), ("b", (image,))]


def test_cells_share_the_turns_of_their_conversation(store: MemoryConversations) -> None:
    """Row 100. Each cell loads its conversation; what it knows is not made again."""
    chat = Chat(settings=lambda: Settings(model="echo/echo"))
    history = ChatHistory(chat, location=lambda: CellLocation(is_notebook=True, execution=1), store=lambda: store)
    loaded = []
    for prompt in "abcd":
        history.add_turn(history.load("plan"), Turn(prompt, Reply(text=prompt.upper())), options={})
        loaded.append(history.load("plan").turns)
    for before, after in itertools.pairwise(loaded):
        assert len(after) == len(before) + 1
        assert all(one is other for one, other in zip(before, after, strict=False))
    store.drop("", "plan", [loaded[-1][1].number])
    assert [turn.prompt for turn in history.load("plan").turns] == ["a", "c", "d"]
    store.rewind("", "plan", loaded[-1][2].number)
    assert [turn.prompt for turn in history.load("plan").turns] == ["a", "b", "c"]
    store.delete("", "plan")
    assert history.load("plan").turns == ()


@pytest.mark.parametrize("kind", ["file", "memory"])
def test_import_that_is_interrupted_leaves_nothing(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row 101."""
    store = MemoryConversations() if kind == "memory" else SqliteConversations(tmp_path / "c.sqlite3")
    notebook = Notebook(store)
    for number in range(4):
        notebook.run(f"cell{number}", f"q{number}")
    path = tmp_path / "talk.json"
    notebook.session.command(f"export '{path}'")
    add, count = TurnTree.append, 0

    def stopped(self: TurnTree, *args: Any, **keywords: Any) -> int:
        nonlocal count
        count += 1
        if count == 3:
            raise KeyboardInterrupt
        return add(self, *args, **keywords)

    with monkeypatch.context() as patched:
        patched.setattr(TurnTree, "append", stopped)
        with pytest.raises(KeyboardInterrupt):
            notebook.session.command(f"import '{path}' copy")
    assert store.load("", "copy") is None
    notebook.session.command(f"import '{path}' copy")
    assert prompts(store, "copy", "") == ["q0", "q1", "q2", "q3"]
    store.close()


def test_system_message_of_a_rerun_stays(notebook: Notebook, store: MemoryConversations) -> None:
    notebook.run("cell1", "q1", "-s old")
    notebook.run("cell1", "q1", "-s new")
    assert notebook.run("cell2", "q2") == ["new", "q1", "q1", "q2"]
    notebook.run("cell2", "q2")
    assert store.load(notebook.scope, "main").system == "new"  # type: ignore[union-attr]  # it is there


def test_fork_after_a_reset_has_the_system_message(notebook: Notebook) -> None:
    notebook.run("cell1", "q1", "-s old")
    notebook.session.command("reset")
    notebook.session.command("fork other")
    assert notebook.run("cell2", "q2") == ["old", "q2"]


# What a newcomer asks of the commands


def shown(capsys: Show, notebook: Notebook, line: str) -> str:
    capsys.readouterr()
    notebook.session.command(line)
    return capsys.readouterr().out


def test_current_conversation_is_listed_before_its_first_turn(capsys: Show, notebook: Notebook) -> None:
    assert "* main" in shown(capsys, notebook, "chats")
    assert "New conversation: plans" in shown(capsys, notebook, "switch plans")
    listed = shown(capsys, notebook, "chats")
    assert "* plans" in listed
    notebook.run("c1", "hello")
    assert shown(capsys, notebook, "chats").count("plans") == 1
    assert "Conversation: plans (1 turn)" in shown(capsys, notebook, "switch plans")


def test_new_conversation_of_a_name_that_is_nearly_there_names_that_one(capsys: Show, notebook: Notebook) -> None:
    notebook.run("c1", "hello", "-c plans")
    assert "Did you mean 'plans'?" in shown(capsys, notebook, "switch plan")


def test_deleting_the_current_conversation_goes_back_to_main(capsys: Show, notebook: Notebook) -> None:
    notebook.session.command("switch plans")
    notebook.run("c1", "hello")
    assert "The current one is now 'main'" in shown(capsys, notebook, "delete plans")
    assert "* main" in shown(capsys, notebook, "chats")


@pytest.mark.parametrize("word", ["x", "-1", "1.5", "²"])
def test_undo_refuses_what_is_no_number_of_turns_with_the_word_itself(notebook: Notebook, word: str) -> None:
    with pytest.raises(BadInputError, match=f"1 or more, not '{word}'"):
        notebook.session.command(f"undo {word}")


def test_status_tells_how_long_a_conversation_lasts(capsys: Show, notebook: Notebook) -> None:
    assert "kept for this notebook" in shown(capsys, notebook, "")
    notebook.session.command("switch plans")
    assert "kept, for all notebooks" in shown(capsys, notebook, "")


def test_search_tells_whose_main_a_turn_is_of(capsys: Show, store: MemoryConversations, notebook: Notebook) -> None:
    Notebook(store, "work/b.ipynb").run("c1", "the needle")
    assert re.search(r"main@[0-9a-f]{6} of b.ipynb", shown(capsys, notebook, "search needle"))
    notebook.run("c1", "a second needle")
    assert "of a.ipynb" not in shown(capsys, notebook, "search second")


def test_settings_are_listed_and_one_is_shown(capsys: Show, notebook: Notebook) -> None:
    notebook.session.command("set temperature 0.5")
    for line in ("set", "set temperature"):
        assert "0.5" in shown(capsys, notebook, line)
        assert "this session" in shown(capsys, notebook, line)
    assert "max_retries" not in shown(capsys, notebook, "set temperature")
    assert "(not set)" in shown(capsys, notebook, "set seed")
    with pytest.raises(AichatError, match="Did you mean 'temperature'"):
        notebook.session.command("set temprature")


def test_config_tells_where_the_file_is_even_if_it_cannot_be_read(
    capsys: Show, notebook: Notebook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "config.toml"
    monkeypatch.setenv("AICHAT_CONFIG", str(path))
    assert f"{path} (not there yet" in shown(capsys, notebook, "config")
    path.write_text("x = [")
    assert f"{path}\n" in shown(capsys, notebook, "config")


def test_embedded_model_that_does_not_exist_is_refused(notebook: Notebook) -> None:
    with pytest.raises(AichatError, match="smollm2-135m"):
        notebook.session.command("use local/nonexistent")
    assert notebook.chat.settings.model == "echo/echo"


@pytest.mark.parametrize("line", ["help", "help keys", "help --schema", "providers", "chats", "set", "config", ""])
def test_asking_how_it_works_needs_no_key(line: str) -> None:
    session = Session(
        Chat(settings=lambda: Settings(model="openai/m")),
        {},
        view=lambda is_streamed: View([]),
        shown=lambda reply: None,
    )
    assert session.command(line) is None


@pytest.mark.parametrize("line", ["--dry-run", "--dry-run -m groq/x -f json"])
def test_dry_run_needs_no_key(capsys: Show, line: str) -> None:
    chat = Chat(settings=lambda: Settings(model="openai/m"))
    session = Session(chat, {}, view=lambda is_streamed: View([]), shown=lambda reply: None)
    assert session.cell(line, "hello") is None
    assert "nothing was sent" in capsys.readouterr().out
    with pytest.raises(AichatError, match="No key"):
        session.cell("", "hello")
