"""IPython extension: registers the magics `%%aichat` and `%aichat`, and is the only module that knows the shell.

Nothing else of the package is imported at the top: many users load the extension in every session, and `%load_ext` must
cost little. The other modules are imported by the first cell.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from IPython.core.completer import CompletionContext, SimpleCompletion, SimpleMatcherResult, context_matcher
from IPython.core.magic import Magics, line_cell_magic, magics_class, needs_local_scope, no_var_expand
from traitlets import Bool, Dict, Enum, Float, Integer, TraitError, TraitType, Unicode, Union, observe, validate

if TYPE_CHECKING:
    from ..batching.run import BatchRun
    from ..core.errors import AichatError
    from ..core.messages import Reply
    from ..text.front_end import FrontEnd
    from .completion import CompletionSources
    from .notebook_identity import CellLocation
    from .session import Session
    from .shown_replies import ShownReplies

_MAX_ERROR_LINES = 5
_TRAITS = (
    "model", "base_url", "proxy", "system", "temperature", "top_p", "max_tokens", "timeout", "max_history_tokens",
    "max_history_images", "max_retries", "reasoning", "tier", "options", "strict_options",
)  # fmt: skip
# Compiled on first use, by `re` itself.
_UUID = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"


@magics_class
class AIChat(Magics):
    """The magics, and the settings that `%config AIChat` shows and sets; an empty setting has no effect."""

    model = Unicode("", help="provider/model, or an alias").tag(config=True)
    base_url = Unicode("", help="address of an OpenAI-compatible server").tag(config=True)
    proxy = Unicode("", help="URL of a proxy").tag(config=True)
    system = Unicode("", help="system message of new conversations").tag(config=True)
    temperature: TraitType[Any, Any] = Union(
        [Float(), Enum(("unset",))], default_value=None, allow_none=True, help="0 to 2, or unset: not sent"
    ).tag(config=True)
    top_p: TraitType[Any, Any] = Union(
        [Float(), Enum(("unset",))], default_value=None, allow_none=True, help="0 to 1, or unset: not sent"
    ).tag(config=True)
    max_tokens: TraitType[Any, Any] = Union(
        [Integer(), Enum(("unset",))], default_value=None, allow_none=True, help="maximum length of a reply, in tokens"
    ).tag(config=True)
    reasoning = Unicode("", help="how much a model thinks: none, minimal, low, medium, high or max").tag(config=True)
    tier = Unicode("", help="service tier: auto, flex, priority or flex,auto").tag(config=True)
    options: TraitType[Any, Any] = Dict(help="the vendor's own options, such as {'top_k': 40}").tag(config=True)
    strict_options: TraitType[Any, Any] = Bool(
        None, allow_none=True, help="whether an option that the server refuses is an error"
    ).tag(config=True)
    timeout: TraitType[Any, Any] = Float(None, allow_none=True, help="time limit of one attempt, in seconds").tag(
        config=True
    )
    max_history_tokens: TraitType[Any, Any] = Integer(
        None, allow_none=True, help="token budget of the conversation that is sent"
    ).tag(config=True)
    max_history_images: TraitType[Any, Any] = Integer(
        None, allow_none=True, help="number of turns before the prompt whose images are sent again"
    ).tag(config=True)
    max_retries: TraitType[Any, Any] = Integer(
        None, allow_none=True, help="maximum number of retries of a request"
    ).tag(config=True)

    def __init__(self, shell: Any, **kwargs: Any) -> None:
        """Create the magics; the session is created by the first cell, so that `%load_ext` costs little.

        Args:
            shell: The IPython shell.
            **kwargs: For traitlets.
        """
        self._session: Session | None = None
        self._shown: ShownReplies | None = None
        # Kept on the shell: after `%reload_ext` this is the same terminal or kernel, with the same conversation.
        self._process = shell.__dict__.setdefault("_aichat_process", os.urandom(16).hex())
        self._folder = os.getcwd()
        self._seen_cells: set[str] = set()
        self._is_inherited: bool | None = None
        self._user_ns: dict[str, Any] = shell.user_ns
        super().__init__(shell, **kwargs)

    @validate(*_TRAITS)
    def _checked(self, proposal: Any) -> Any:
        """Refuse a `%config` value that `%aichat set` would refuse, before traitlets stores it."""
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
        """Apply a value once traitlets has stored it; from a group with an invalid value, traitlets stores none."""
        from ..chat.chat import shared_chat

        shared_chat().set(change.name, _as_setting(change.new))

    @no_var_expand
    @needs_local_scope
    @line_cell_magic
    def aichat(
        self, line: str, cell: str | None = None, local_ns: dict[str, Any] | None = None
    ) -> Reply | BatchRun | None:
        """Ask a model. `%aichat help` shows the commands and flags."""
        with _short_errors(is_debug="--debug" in line.split()):
            session = self._session or self._begin()
            self._show_prompt(line, cell)
            return session.command(line, local_ns or {}) if cell is None else session.cell(line, self._prompt(cell))

    def _begin(self) -> Session:
        """Create the session. Cells, columns and `ask` share one `Chat`, and with it the settings."""
        from ..chat.chat import shared_chat
        from ..store.conversations import open_conversations
        from .session import Session
        from .shown_replies import ShownReplies
        from .side_by_side import side_by_side
        from .template_commands import Notebook
        from .views import view_for

        self._shown = ShownReplies(self.shell, self._front_end)
        self._shown.install()
        self._session = Session(
            shared_chat(),
            self._user_ns,
            view=lambda is_streamed: view_for(self.shell, self._front_end(), is_streamed=is_streamed),
            views=lambda titles, is_streamed: side_by_side(
                self.shell, titles, self._front_end(), is_streamed=is_streamed
            ),
            shown=self._shown.mark,
            shown_with_others=partial(self._shown.mark, is_alone=False),
            location=self._location,
            store=lambda: open_conversations(environ=os.environ),
            notebook=Notebook(cells=self._cells, number_of=self._number_of, put_below=self._put_below),
        )
        return self._session

    def _prompt(self, cell: str) -> str:
        """Return the text of a cell; in a terminal, without the empty lines that only end the input."""
        return cell if getattr(self.shell, "kernel", None) is not None else cell.rstrip("\n")

    def _show_prompt(self, line: str, cell: str | None) -> None:
        """Write a prompt that comes from a file above its reply: in a terminal, nobody else has written it there."""
        shell: Any = self.shell
        # IPython names the notebook or script here while it runs, for `ipython FILE` and `%run FILE` alike.
        is_file = str(self._user_ns.get("__file__", "")).endswith((".ipynb", ".ipy"))
        if is_file and getattr(shell, "kernel", None) is None:
            from ..text.characters import terminal_text
            from ..text.terminal import write_stdout

            source = f"%aichat {line}" if cell is None else f"%%aichat {line}".rstrip() + f"\n{cell}"
            lines = terminal_text(source).rstrip().split("\n")
            write_stdout("\nIn: " + "\n    ".join(lines) + "\n")

    def _front_end(self) -> FrontEnd:
        """Return the kind of front end that shows the running cell."""
        from ..text.front_end import front_end

        return front_end(self.shell, has_notebook=bool(self._notebook_path()[0]))

    def _cells(self) -> list[str]:
        """Return the sources of all cells before the running one, as written; their index is their number."""
        shell: Any = self.shell
        # This is the number of the running cell in all versions. `execution_count` is not: IPython 9.18 raises it
        # before a cell runs, 8.18 afterwards.
        return list(shell.history_manager.input_hist_raw)[: shell.displayhook.prompt_count]

    def _number_of(self, file: str) -> int | None:
        """Return the number of the cell that was compiled under a file name; None if it is not a cell."""
        shell: Any = self.shell
        _, name = shell.compile.format_code_name(file) or ("", "")
        match = re.fullmatch(r"In\s?\[(\d+)\]", name)
        return int(match[1]) if match else None

    def _put_below(self, text: str) -> None:
        """Put text into the next cell, or on the next prompt of a terminal, without running it."""
        shell: Any = self.shell
        shell.set_next_input(text, replace=False)

    @context_matcher(identifier="AIChat.matcher", priority=100)  # type: ignore[untyped-decorator]  # IPython's own
    def matcher(self, context: CompletionContext) -> SimpleMatcherResult:
        """Complete the line of a magic; offer nothing on any other line."""
        lines = context.full_text.lstrip("\n").split("\n")
        n_blank = context.full_text.count("\n") + 1 - len(lines)
        name = context.text_until_cursor.lstrip()[:8]
        # Below the line of a cell magic is the prompt, or the input of some other magic.
        is_ours = context.cursor_line == n_blank if name == "%%aichat" else not lines[0].startswith("%%")
        if not is_ours or not name.startswith(("%%aichat", "%aichat")):
            return SimpleMatcherResult(completions=[], suppress=False)
        from ..core.errors import AichatError
        from .completion import complete_line

        found = None
        after = context.line_with_cursor[context.cursor_position :]
        # An invalid setting is reported when a model is asked, not while completing.
        with contextlib.suppress(AichatError):
            found = complete_line(context.text_until_cursor, self._completion_sources(), after=after)
        if found is None:
            return SimpleMatcherResult(completions=[], suppress=False)
        return SimpleMatcherResult(
            completions=_ExclusiveCompletions(
                SimpleCompletion(text=text, type=found.kind) for text in found.candidates
            ),
            matched_fragment=found.fragment,
            suppress=True,
            do_not_suppress={"IPCompleter.file_matcher"} if found.kind == "file" else set(),
            ordered=True,
        )

    def _completion_sources(self) -> CompletionSources:
        """Return what can be named on the line of a magic."""
        session = self._session or self._begin()
        hidden: Any = getattr(self.shell, "user_ns_hidden", {})
        return session.completion_sources(
            {name: value for name, value in list(self._user_ns.items()) if name not in hidden}
        )

    def _location(self) -> CellLocation:
        """Return which cell of which notebook is running, as far as the front end says."""
        from .notebook_identity import CellLocation

        shell: Any = self.shell
        if getattr(shell, "kernel", None) is None:
            return CellLocation(scope=f"terminal:{self._process}")
        self.see_cell()
        notebook, is_own_path = self._notebook_path()
        # Jupyter names the file kernel-UUID.json and keeps the name over a restart. Any other name was given by hand.
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
        """Return the absolute path of the notebook, empty if unknown, and whether it is surely this kernel's own."""
        # VS Code names the notebook in the namespace, Jupyter in the environment of its kernel.
        if found := self._user_ns.get("__vsc_ipynb_file__"):
            return os.path.join(self._folder, str(found)), True
        name = os.environ.get("JPY_SESSION_NAME")
        if not name:
            return "", False
        from .notebook_identity import is_inherited

        if self._is_inherited is None:
            self._is_inherited = is_inherited(os.environ)
        # A name inherited from the kernel that started this one says nothing about this one.
        return ("", False) if self._is_inherited else (os.path.join(self._folder, name), self._is_inherited is False)

    def see_cell(self, *_: Any) -> None:
        """Remember the id of the running cell: the cells that have run show which notebook this is."""
        if cell_id := self._cell_id():
            self._seen_cells.add(cell_id)

    def _cell_id(self) -> str:
        """Return the front end's id of the running cell; empty if it sends none."""
        if getattr(self.shell, "kernel", None) is None:  # no request, and nothing to import for it
            return ""
        from ..text.front_end import cell_id

        return cell_id(self.shell)

    def _text(self) -> str:
        """Return the source of the running cell, or of the last one in the history if the running one is not stored."""
        shell: Any = self.shell
        return str(shell.history_manager.input_hist_raw[-1])

    def leave(self) -> None:
        """Remove what loading and the first cell have put into the shell."""
        shell: Any = self.shell
        with contextlib.suppress(ValueError):
            shell.events.unregister("pre_run_cell", self.see_cell)
        matchers = shell.Completer.custom_matchers if shell.Completer is not None else []
        matchers[:] = [matcher for matcher in matchers if getattr(matcher, "__self__", None) is not self]
        if self._shown is not None:
            self._shown.uninstall()


class _ExclusiveCompletions(list[SimpleCompletion]):
    """A list of completions that suppresses other matchers even when it is empty.

    IPython lets a matcher suppress the others only if its list has a length; without this, every variable of the
    notebook and every file would be offered after `--temperature`.
    """

    def __len__(self) -> int:
        """Return at least 1."""
        return super().__len__() or 1


def _overview() -> str:
    """Return the text that `%%aichat?` shows, made from the commands and flags when it is asked for."""
    from .help import overview

    return overview()


AIChat.aichat.getdoc = _overview  # type: ignore[union-attr]  # IPython calls `getdoc` in place of reading `__doc__`


def _as_setting(value: Any) -> str:
    """Return a trait's value as `Chat.set` takes it; an empty one becomes ``default``, which removes the setting."""
    if value is None or value in ("", {}):
        return "default"
    if isinstance(value, dict):
        from ..core.vendor_options import canonical_json, json_options

        return canonical_json(json_options(value))
    return str(value)


@contextlib.contextmanager
def _short_errors(*, is_debug: bool) -> Iterator[None]:
    """Show errors of this package in a few lines, or with a full traceback if `is_debug`; leave other errors alone."""
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
    """Return the function that IPython calls for the lines of an error."""

    def lines() -> list[str]:
        from ..text.characters import shown_text
        from ..text.terminal import terminal_width
        from ..text.wrap import wrapped

        lines = shown_text(f"{type(error).__name__}: {error}").splitlines()[:_MAX_ERROR_LINES]
        return wrapped("\n".join(lines), terminal_width()).split("\n")

    return lines


def load(shell: Any) -> None:
    """Register the magics with a shell. If a configured value is invalid, warn and ignore the configured values."""
    unload(shell)
    problem = ""
    try:
        magics = AIChat(shell)
    except TraitError as error:
        from ..text.words import shorten

        problem = shorten(str(error), 200)
    if problem:
        warnings.warn(f"aichat_magic ignores the configured settings of AIChat: {problem}", UserWarning, stacklevel=2)
        shell.config.pop("AIChat", None)
        _forget(shell)  # the instance whose creation failed has already registered itself
        magics = AIChat(shell)
    shell.register_magics(magics)
    magics.see_cell()
    shell.events.register("pre_run_cell", magics.see_cell)
    if shell.Completer is not None:  # a shell without a terminal may lack it
        shell.Completer.custom_matchers.append(magics.matcher)
    shell.input_transformers_cleanup.append(lines_as_calls)
    # IPython runs a typed cell magic only after a second empty line. Nobody types in pipes, kernels and files.
    is_typed = hasattr(shell, "simple_prompt") and "__file__" not in shell.user_ns
    if is_typed and sys.stdin.isatty() and sys.stdout.isatty():
        from ..text.terminal import write_stdout

        write_stdout("To send a %%aichat cell, press Enter three times; or: %aichat ask TEXT\n")


def lines_as_calls(lines: list[str]) -> list[str]:
    """Turn each `%aichat TEXT` in a cell of Python into its call, before IPython looks at it: see `line_calls`.

    Args:
        lines: The lines of a cell, each with its line end.
    """
    if not any("%aichat" in line for line in lines):
        return lines
    from .line_calls import with_calls

    return with_calls(lines)


def unload(shell: Any) -> None:
    """Remove from a shell all that `load` and the cells since then have added."""
    magics = shell.magics_manager.registry.pop("AIChat", None)
    if magics is None:
        return
    magics.leave()
    shell.input_transformers_cleanup[:] = [
        known for known in shell.input_transformers_cleanup if known is not lines_as_calls
    ]
    for kind in ("line", "cell"):
        shell.magics_manager.magics[kind].pop("aichat", None)
    _forget(shell)


def _forget(shell: Any) -> None:
    """Remove the magics from the list that `%config` shows."""
    shell.configurables[:] = [known for known in shell.configurables if not isinstance(known, AIChat)]
