"""Environments of their own for ours and for the peers, and runs in them.

    python benchmarks/environments.py                     # make them all (some minutes), and say what is in them
    python benchmarks/environments.py --only openai ours

They stand in the user's cache directory (``--venvs DIR``: elsewhere), never in the checkout, and are named by what is
in them: another list of requirements or another Python makes another one. ``peers/NAME.txt`` says what is installed,
``peers/run_NAME.py`` is the program that is run there.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
CHECKOUT = HERE.parent
INSTALL_S = 900


class PeerError(Exception):
    """A peer cannot be installed or run; the text is the reason, in one line."""


@dataclass(frozen=True, kw_only=True)
class Peer:
    """One way to answer rows.

    Attributes:
        name: On the command line.
        title: In the tables.
        environment: Which ``peers/ENVIRONMENT.txt`` it needs.
        runner: Which ``peers/run_RUNNER.py`` it runs.
        variant: Handed to the runner, where one has several.
        is_grouping: Whether it sends several rows in one request.
    """

    name: str
    title: str
    environment: str
    runner: str
    variant: str = ""
    is_grouping: bool = False


PEERS = {
    peer.name: peer
    for peer in (
        Peer(name="ours", title="aichat_magic", environment="ours", runner="ours"),
        Peer(name="ours-auto", title="aichat_magic, auto", environment="ours", runner="ours", variant="auto"),
        Peer(name="httpx", title="plain httpx", environment="ours", runner="httpx"),
        Peer(name="httpx2", title="plain httpx2", environment="httpx2", runner="httpx2"),
        Peer(name="httpx-aiohttp", title="httpx over aiohttp", environment="aiohttp", runner="httpx_aiohttp"),
        Peer(name="httpx-pyreqwest", title="httpx over pyreqwest", environment="pyreqwest", runner="httpx_pyreqwest"),
        Peer(name="aiohttp", title="bare aiohttp", environment="aiohttp", runner="aiohttp"),
        Peer(name="openai", title="openai SDK, httpx", environment="openai", runner="openai"),
        Peer(
            name="openai-aiohttp", title="openai SDK, aiohttp", environment="openai", runner="openai", variant="aiohttp"
        ),
        Peer(name="litellm", title="litellm", environment="litellm", runner="litellm"),
        Peer(name="langchain", title="LangChain abatch", environment="langchain", runner="langchain"),
        Peer(name="openaivec", title="openaivec, a row a request", environment="openaivec", runner="openaivec"),
        Peer(
            name="openaivec-grouping",
            title="openaivec, grouping",
            environment="openaivec",
            runner="openaivec",
            variant="grouping",
            is_grouping=True,
        ),
        Peer(name="distribatch", title="distribatch", environment="distribatch", runner="distribatch"),
        Peer(name="ondine", title="ondine", environment="ondine", runner="ondine"),
        Peer(name="curator", title="curator", environment="curator", runner="curator"),
    )
}


def add_arguments(parser: argparse.ArgumentParser, default: str = "") -> None:
    """``--venvs`` and ``--only``."""
    parser.add_argument("--venvs", type=Path, default=cache_dir(), metavar="DIR", help="where the environments stand")
    parser.add_argument(
        "--only",
        nargs="+",
        choices=list(PEERS),
        default=default.split() or list(PEERS),
        metavar="NAME",
        help=f"of {', '.join(PEERS)}",
    )


def cache_dir() -> Path:
    """In the user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "aichat_magic-benchmarks"


def requirements_of(environment: str) -> list[str]:
    """The lines of ``peers/ENVIRONMENT.txt``; ours are this checkout."""
    lines = (HERE / "peers" / f"{environment}.txt").read_text().splitlines()
    wanted = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    return [str(CHECKOUT) + line.removeprefix(".") if line.startswith(".") else line for line in wanted]


class Environment:
    """One virtual environment."""

    def __init__(self, name: str, venvs: Path) -> None:
        """Where it stands or will stand."""
        self.name = name
        self.requirements = requirements_of(name)
        key = hashlib.sha256(f"{sys.version} {self.requirements}".encode()).hexdigest()[:8]
        self.path = venvs / f"{name}-{key}"
        self.python = self.path / "bin" / "python"

    def make(self) -> None:
        """Make it, unless it stands.

        Raises:
            PeerError: Something cannot be installed.
        """
        done = self.path / "installed"
        failed = self.path / "failed"
        if done.exists():
            return
        if failed.exists():
            raise PeerError(failed.read_text())
        print(f"installing {self.name} into {self.path}", file=sys.stderr)
        venv.create(self.path, with_pip=True, clear=True)
        command = [self.python, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        for line in self.requirements:
            # Ours is installed in place: what is measured is the checkout as it is now.
            command += ["-e", line] if line.startswith("/") else [line]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=INSTALL_S)
        except subprocess.CalledProcessError as error:
            failed.write_text(f"cannot be installed: {last_line(error.stderr)}")
            raise PeerError(failed.read_text()) from None
        except subprocess.TimeoutExpired:
            failed.write_text(f"cannot be installed within {INSTALL_S} s")
            raise PeerError(failed.read_text()) from None
        done.write_text("")

    def versions(self) -> dict[str, str]:
        """Of the packages that its requirements name, by name."""
        names = [line.split("[")[0].split("=")[0].split(">")[0].split("<")[0] for line in self.requirements]
        names = ["aichat-magic" if name.startswith("/") else name for name in names]
        if self.name == "ours":
            names += ["httpx", "httpcore"]
        program = (
            "import json, sys, importlib.metadata as m\nprint(json.dumps({n: m.version(n) for n in sys.argv[1:]}))"
        )
        told: dict[str, str] = json.loads(self.run("-c", program, *names))
        return told

    def run(self, *arguments: str, timeout_s: float = 600, env: dict[str, str] | None = None) -> str:
        """Run its Python.

        Returns:
            What it printed.

        Raises:
            PeerError: It failed or did not end in time.
        """
        with tempfile.TemporaryDirectory() as home:
            try:
                done = subprocess.run(
                    [self.python, *arguments],
                    check=True,
                    capture_output=True,
                    text=True,
                    timeout=timeout_s,
                    cwd=home,
                    env={**clean_environment(home), **(env or {})},
                )
            except subprocess.CalledProcessError as error:
                raise PeerError(f"failed: {last_line(error.stderr)}") from None
            except subprocess.TimeoutExpired:
                raise PeerError(f"not done after {timeout_s:.0f} s") from None
        return done.stdout


def versions_of(names: Iterable[str], venvs: Path) -> dict[str, str]:
    """The versions of what the peers of these names run on, as far as they could be installed."""
    told: dict[str, str] = {}
    for environment in {PEERS[name].environment for name in names}:
        with contextlib.suppress(PeerError):
            told.update(Environment(environment, venvs).versions())
    return told


def clean_environment(home: str) -> dict[str, str]:
    """The environment of a run: nothing of the user's own settings, no store but in `home`, no way out but loopback."""
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG", "LC_ALL", "SSL_CERT_FILE")}
    return {
        **kept,
        "HOME": home,
        "TMPDIR": home,
        "XDG_DATA_HOME": f"{home}/data",
        "XDG_CACHE_HOME": f"{home}/cache",
        "XDG_CONFIG_HOME": f"{home}/config",
        "NO_PROXY": "127.0.0.1",
        "OPENAI_API_KEY": "sk-none",
        "PYTHONWARNINGS": "ignore",
        # What the peers would send home, or fetch at import.
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_TELEMETRY": "False",
        "CURATOR_DISABLE_RICH_DISPLAY": "1",
        "TELEMETRY_ENABLED": "0",
        "LANGSMITH_TRACING": "false",
        "HF_HUB_OFFLINE": "1",
        "DO_NOT_TRACK": "1",
    }


def last_line(text: str) -> str:
    """The last line that says something, short."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:200] if lines else "without a word"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one run of a runner came to.

    Attributes:
        rows: How many there were.
        seconds: From the first request to the last reply in hand.
        cpu_s: CPU seconds of the client in that time.
        peak_bytes: The most memory that the process held.
        before_bytes: What it held before the run.
        right: Rows with the reply to their prompt.
        lost: Rows without a reply.
        error: What ended the run early.
    """

    rows: int
    seconds: float
    cpu_s: float
    peak_bytes: int
    before_bytes: int
    right: int
    lost: int
    error: str

    @property
    def rows_per_s(self) -> float:
        """Rows that are right, in a second."""
        return self.right / self.seconds


def answer_rows(
    peer: Peer,
    venvs: Path,
    url: str,
    *,
    rows: int,
    in_flight: int,
    process_timeout_s: float = 600,
    **more: Any,
) -> Outcome:
    """Let a peer answer rows, in a new process of its environment.

    Args:
        peer: Who.
        venvs: Where the environments stand.
        url: The server's.
        rows: How many.
        in_flight: How many at once; a peer that decides by itself does not heed it.
        process_timeout_s: Seconds after which it is given up.
        **more: Handed to the runner: `timeout_s`, `is_warm`.

    Raises:
        PeerError: It cannot be installed, failed or did not end in time.
    """
    environment = Environment(peer.environment, venvs)
    environment.make()
    # The tables of tokenizers that litellm ships, for those who would fetch them over the network.
    tables = next(
        Environment("litellm", venvs).path.glob("lib/*/site-packages/litellm/litellm_core_utils/tokenizers"), ""
    )
    asked = {"url": url, "rows": rows, "in_flight": in_flight, "variant": peer.variant, **more}
    runner = HERE / "peers" / f"run_{peer.runner}.py"
    said = environment.run(
        str(runner), json.dumps(asked), timeout_s=process_timeout_s, env={"TIKTOKEN_CACHE_DIR": str(tables)}
    )
    return Outcome(**json.loads(last_line_of(said)))


def last_line_of(said: str) -> str:
    """The line that the runner prints last, or the last one that is JSON."""
    return next(line for line in reversed(said.splitlines()) if line.startswith('{"rows"'))


def main() -> None:
    """Make the environments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    options = parser.parse_args()
    for name in sorted({PEERS[name].environment for name in options.only}):
        environment = Environment(name, options.venvs)
        try:
            environment.make()
            print(name, environment.versions())
        except PeerError as error:
            print(name, error)


if __name__ == "__main__":
    main()
