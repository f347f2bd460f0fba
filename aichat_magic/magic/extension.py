"""`%%aichat` and `%aichat`: the only room that knows IPython's shell."""

from __future__ import annotations

import contextlib
import os
import re
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from IPython.core.completer import CompletionContext, SimpleCompletion, SimpleMatcherResult, context_matcher
from IPython.core.magic import Magics, line_cell_magic, magics_class, no_var_expand
from traitlets import Float, Integer, TraitError, TraitType, Unicode, observe, validate

# Nothing else of the package is imported here: `%load_ext` stands in many start-up files. The rest comes with the first
# cell.
if TYPE_CHECKING:
    from ..batching.run import BatchRun
    from ..core.errors import AichatError
    from ..core.messages import Reply
    from .completion import CompletionSources
    from .notebook_identity import CellLocation
    from .session import Session
    from .views import ShownReplies

_MAX_ERROR_LINES = 5
_TRAITS = (
    "model", "base_url", "proxy", "system", "temperature", "top_p", "max_tokens", "timeout", "max_history_tokens",
    "max_retries",
)  # fmt: skip
# Compiled on first use, by `re` itself.
_UUID = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_QUESTION = r"(\s*)%aichat\s+((?:ask|run|search)\s.*\?)\s*"


@magics_class
class AIChat(Magics):
    """`%config AIChat` shows and sets these; empty means: what environment and file say."""

    model = Unicode("", help="provider/model, or an alias").tag(config=True)
    base_url = Unicode("", help="address of an OpenAI-compatible server").tag(config=True)
    proxy = Unicode("", help="URL of a proxy").tag(config=True)
    system = Unicode("", help="system message of new conversations").tag(config=True)
    temperature: TraitType[Any, Any] = Float(None, allow_none=True, help="0 to 2").tag(config=True)
    top_p: TraitType[Any, Any] = Float(None, allow_none=True, help="0 to 1").tag(config=True)
    max_tokens: TraitType[Any, Any] = Integer(None, allow_none=True, help="longest reply, in tokens").tag(config=True)
    timeout: TraitType[Any, Any] = Float(None, allow_none=True, help="longest time of one attempt, in seconds").tag(
        config=True
    )
    max_history_tokens: TraitType[Any, Any] = Integer(None, allow_none=True, help="budget of the history").tag(
        config=True
    )
    max_retries: TraitType[Any, Any] = Integer(None, allow_none=True, help="how often a request is sent again").tag(
        config=True
    )

    def __init__(self, shell: Any, **kwargs: Any) -> None:
        """Prepare; the rooms that answer are loaded with the first cell, so that `%load_ext` costs little.

        Args:
            shell: The IPython shell.
            **kwargs: For traitlets.
        """
        self._session: Session | None = None
        self._shown: ShownReplies | None = None
        self._process = os.urandom(16).hex()
        self._folder = os.getcwd()
        self._seen_cells: set[str] = set()
        self._is_inherited: bool | None = None
        self._user_ns: dict[str, Any] = shell.user_ns
        super().__init__(shell, **kwargs)

    @validate(*_TRAITS)
    def _checked(self, proposal: Any) -> Any:
        """Refuse a `%config` value that `%aichat set` would refuse, before it is stored."""
        from ..chat.chat import shared_chat
        from ..core.errors import BadInputError
        from ..core.settings import changed

        problem = ""
        try:
            changed(shared_chat().settings, proposal.trait.name, _as_setting(proposal.value))
        except BadInputError as error:
            problem = str(error)
        if problem:
            raise TraitError(problem)
        return proposal.value

    @observe(*_TRAITS)
    def _set(self, change: Any) -> None:
        """Let a value hold once traitlets keeps it: of a group that holds a wrong one, it keeps none."""
        from ..chat.chat import shared_chat

        shared_chat().set(change.name, _as_setting(change.new))

    @no_var_expand
    @line_cell_magic
    def aichat(self, line: str, cell: str | None = None) -> Reply | BatchRun | None:
        """Ask a model; replaced below by the manual."""
        with _short_errors(is_debug="--debug" in line.split()):
            session = self._session or self._begin()
            return session.command(line) if cell is None else session.cell(line, cell)

    def _begin(self) -> Session:
        """The session, made with the first cell. Cells, columns and `ask` share one `Chat` and so its settings."""
        from ..chat.chat import shared_chat
        from ..store.conversations import open_conversations
        from .session import Session
        from .template_commands import Notebook
        from .views import ShownReplies, view_for

        self._shown = ShownReplies(self.shell)
        self._shown.install()
        self._session = Session(
            shared_chat(),
            self._user_ns,
            view=lambda is_streamed: view_for(self.shell, is_streamed=is_streamed),
            shown=self._shown.mark,
            place=self._place,
            store=lambda: open_conversations(environ=os.environ),
            notebook=Notebook(cells=self._cells, number_of=self._number_of, put_below=self._put_below),
        )
        return self._session

    def _cells(self) -> list[str]:
        """Return the sources of the cells as they were written, by their numbers, without the one that is running."""
        shell: Any = self.shell
        # The number of the running cell. `execution_count` is not: IPython 9.18 raises it before a cell runs, 8.18 after.
        return list(shell.history_manager.input_hist_raw)[: shell.displayhook.prompt_count]

    def _number_of(self, file: str) -> int | None:
        """The number of the cell that was compiled under a file name."""
        shell: Any = self.shell
        _, name = shell.compile.format_code_name(file) or ("", "")
        match = re.fullmatch(r"In\s?\[(\d+)\]", name)
        return int(match[1]) if match else None

    def _put_below(self, text: str) -> None:
        """Put a text into the next cell, or on the next prompt of a terminal. It is not run."""
        shell: Any = self.shell
        shell.set_next_input(text, replace=False)

    @context_matcher(identifier="AIChat.matcher", priority=100)  # type: ignore[untyped-decorator]  # IPython's own
    def matcher(self, context: CompletionContext) -> SimpleMatcherResult:
        """What Tab offers on the line of a magic; nothing for every other line."""
        lines = context.full_text.lstrip("\n").split("\n")
        n_blank = context.full_text.count("\n") + 1 - len(lines)
        name = context.text_until_cursor.lstrip()[:8]
        # Below the line of a cell magic stands a prompt, or what another magic takes.
        is_ours = context.cursor_line == n_blank if name == "%%aichat" else not lines[0].startswith("%%")
        if not is_ours or not name.startswith(("%%aichat", "%aichat")):
            return SimpleMatcherResult(completions=[], suppress=False)
        from ..core.errors import AichatError
        from .completion import complete

        found = None
        after = context.line_with_cursor[context.cursor_position :]
        # A setting that cannot be used is told when something is asked, not at Tab.
        with contextlib.suppress(AichatError):
            found = complete(context.text_until_cursor, self._known(), after=after)
        if found is None:
            return SimpleMatcherResult(completions=[], suppress=False)
        return SimpleMatcherResult(
            completions=_Offered(SimpleCompletion(text=text, type=found.kind) for text in found.candidates),
            matched_fragment=found.fragment,
            suppress=True,
            do_not_suppress={"IPCompleter.file_matcher"} if found.kind == "file" else set(),
            ordered=True,
        )

    def _known(self) -> CompletionSources:
        """What there is to name on the line of a magic."""
        session = self._session or self._begin()
        hidden: Any = getattr(self.shell, "user_ns_hidden", {})
        return session.known({name: value for name, value in list(self._user_ns.items()) if name not in hidden})

    def _place(self) -> CellLocation:
        """The notebook and the cell that are running, as far as the front end tells."""
        from .notebook_identity import CellLocation

        shell: Any = self.shell
        if getattr(shell, "kernel", None) is None:
            return CellLocation(scope=f"terminal:{self._process}")
        self.see_cell()
        notebook, is_own_path = self._notebook_path()
        # Jupyter calls the file kernel-UUID.json, also after a restart. A name without is not the kernel's own.
        own = os.path.basename(str(getattr(shell.config.IPKernelApp, "connection_file", "")))
        kernel = found[0] if (found := re.search(_UUID, own)) else ""
        return CellLocation(
            scope=f"notebook#{self._process}" if notebook else f"kernel:{kernel or self._process}",
            notebook=notebook,
            is_own_path=is_own_path,
            cell_id=self._cell_id(),
            text=self._text(),
            seen=frozenset(self._seen_cells),
            kernel=kernel,
            process=self._process,
            is_notebook=True,
            execution=shell.execution_count,
        )

    def _notebook_path(self) -> tuple[str, bool]:
        """Return the absolute path of the notebook, and whether it is known to be this kernel's; empty: not told."""
        # VS Code names the notebook in the namespace, Jupyter in the environment of its kernel.
        if found := self._user_ns.get("__vsc_ipynb_file__"):
            return os.path.join(self._folder, str(found)), True
        name = os.environ.get("JPY_SESSION_NAME")
        if not name:
            return "", False
        from .notebook_identity import is_inherited

        if self._is_inherited is None:
            self._is_inherited = is_inherited(os.environ)
        # The name of a kernel that started this one is no name of this one.
        return ("", False) if self._is_inherited else (os.path.join(self._folder, name), self._is_inherited is False)

    def see_cell(self, *_: Any) -> None:
        """Remember which cell is running: those that have run tell which notebook this is."""
        if cell_id := self._cell_id():
            self._seen_cells.add(cell_id)

    def _cell_id(self) -> str:
        """The front end's name for the running cell, empty where it tells none."""
        shell: Any = self.shell
        parent = shell.get_parent() if hasattr(shell, "get_parent") else {}
        return str((parent.get("metadata") or {}).get("cellId") or "")

    def _text(self) -> str:
        """The source of the running cell; of the last one that ran here, where the running one is not kept."""
        shell: Any = self.shell
        return str(shell.history_manager.input_hist_raw[-1])

    def leave(self) -> None:
        """Take back what loading and the first cell put into the shell."""
        shell: Any = self.shell
        with contextlib.suppress(ValueError):
            shell.events.unregister("pre_run_cell", self.see_cell)
        matchers = shell.Completer.custom_matchers
        matchers[:] = [matcher for matcher in matchers if getattr(matcher, "__self__", None) is not self]
        if self._shown is not None:
            self._shown.uninstall()


class _Offered(list[SimpleCompletion]):
    """Completions that are said to be some even where there are none.

    IPython lets a matcher silence the others only when it offers something; without that, every name of the notebook
    and every file would be offered after `--temperature`.
    """

    def __len__(self) -> int:
        return super().__len__() or 1


def _overview() -> str:
    """Return what `%%aichat?` shows; made from the commands and the flags when somebody asks for it."""
    from .help import overview

    return overview()


AIChat.aichat.getdoc = _overview  # type: ignore[attr-defined]  # IPython calls `getdoc` in place of reading `__doc__`


def _as_setting(value: Any) -> str:
    """A trait's value as `Chat.set` takes it; empty takes the setting back."""
    return "none" if value is None or value == "" else str(value)


@contextlib.contextmanager
def _short_errors(*, is_debug: bool) -> Iterator[None]:
    """Errors of ours show as a few lines; with `is_debug` as Python shows them. All others pass as they are."""
    from ..core.errors import AichatError

    failed: AichatError | None = None
    try:
        yield
    except AichatError as error:
        failed = error
    if failed is not None:
        if not is_debug:
            failed._render_traceback_ = _renderer(failed)  # type: ignore[attr-defined]  # IPython's own hook, set where IPython is known
        raise failed


def _renderer(error: AichatError) -> Callable[[], list[str]]:
    """What IPython asks for the lines of an error."""

    def lines() -> list[str]:
        from ..text.terminal import terminal_width
        from ..text.wrap import wrapped

        lines = f"{type(error).__name__}: {error}".splitlines()[:_MAX_ERROR_LINES]
        return wrapped("\n".join(lines), terminal_width()).split("\n")

    return lines


def load(shell: Any) -> None:
    """Give a shell the magics. A configured value that cannot be used is reported and left out."""
    unload(shell)
    problem = ""
    try:
        magics = AIChat(shell)
    except TraitError as error:
        from ..text.words import shorten

        problem = shorten(str(error), 200)
    if problem:
        warnings.warn(f"aichat_magic leaves the settings of AIChat out: {problem}", UserWarning, stacklevel=2)
        shell.config.pop("AIChat", None)
        _forget(shell)  # one that was stopped halfway has put itself there
        magics = AIChat(shell)
    shell.register_magics(magics)
    magics.see_cell()
    shell.events.register("pre_run_cell", magics.see_cell)
    if shell.Completer is not None:  # a shell without a terminal may have none
        shell.Completer.custom_matchers.append(magics.matcher)
    shell.input_transformers_cleanup.append(keep_questions)


def keep_questions(lines: list[str]) -> list[str]:
    """Let `%aichat ask Why?` be a question to the model: IPython takes a last question mark as one to itself.

    Args:
        lines: The lines of a cell, each with its line end.

    Returns:
        The same, such lines as the call that they stand for.
    """
    if lines and lines[0].startswith("%%"):
        return lines
    return [
        f"{found[1]}get_ipython().run_line_magic('aichat', {found[2]!r})\n"
        if (found := re.fullmatch(_QUESTION, line))
        else line
        for line in lines
    ]


def unload(shell: Any) -> None:
    """Take from a shell all that `load` and the cells since gave it."""
    magics = shell.magics_manager.registry.pop("AIChat", None)
    if magics is None:
        return
    magics.leave()
    shell.input_transformers_cleanup[:] = [
        known for known in shell.input_transformers_cleanup if known is not keep_questions
    ]
    for kind in ("line", "cell"):
        shell.magics_manager.magics[kind].pop("aichat", None)
    _forget(shell)


def _forget(shell: Any) -> None:
    """Take the magics out of what `%config` lists."""
    shell.configurables[:] = [known for known in shell.configurables if not isinstance(known, AIChat)]
