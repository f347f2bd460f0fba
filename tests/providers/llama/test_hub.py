"""Models of the Hugging Face Hub, against a stand-in of it on loopback."""

import asyncio
import os
import re
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from effort import PATIENCE_S
from hub_server import COMMIT, REPO, Hub, hub_server
from needs import needs

from aichat_magic.chat.chat import Chat
from aichat_magic.core.errors import MissingExtraError, ModelFileError, UnknownNameError
from aichat_magic.core.settings import load_settings
from aichat_magic.magic.doctor import _model
from aichat_magic.providers.llama import hub as hub_module
from aichat_magic.providers.llama import memory
from aichat_magic.providers.llama.engine import close_all, engine_for, find, loaded
from aichat_magic.providers.llama.hub import fetch_from_hub
from aichat_magic.providers.llama.hub_names import HubFile, HubModel, chosen_files
from aichat_magic.providers.llama.memory import free_memory, memory_warning
from aichat_magic.providers.llama.weights import SMOLLM2

needs_hub = needs("huggingface_hub")
MODEL = f"hf/{REPO}"
BYTES = b"GGUF" + bytes(range(256)) * 8000  # 2 MB
TOKEN = "hf_canary_0123456789"
PART = "big-Q8_0-{:05}-of-00003.gguf"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("HF_TOKEN_PATH", os.devnull)
    monkeypatch.setattr(hub_module, "_WAIT_S", 0.0)
    with hub_server(files={"tiny-Q4_K_M.gguf": BYTES, "README.md": b"# tiny"}) as hub:
        yield hub


def fetch(
    hub: Hub, folder: Path, model: str = MODEL, told: list[tuple[str, int, int]] | None = None, **env: str
) -> Path:
    environ = {"HF_ENDPOINT": hub.url, "HF_HUB_CACHE": str(folder), **env}
    status = (told if told is not None else []).append
    return fetch_from_hub(model, environ=environ, status=lambda *now: status(now), is_cancelled=lambda: False)


def partials(folder: Path) -> list[Path]:
    return list(folder.rglob("*.incomplete"))


# --- names


def files(*names: str) -> list[HubFile]:
    return [HubFile(name=name, size=1_500_000_000) for name in names]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("Q4_K_M", ["m-Q4_K_M.gguf"]),
        ("q4_k_m", ["m-Q4_K_M.gguf"]),
        ("", ["m-Q4_K_M.gguf"]),
        ("Q4_K", ["m.Q4_K.gguf"]),
        ("IQ2_XS", ["m-i1-IQ2_XS.gguf"]),
        ("m-Q4_K_M.gguf", ["m-Q4_K_M.gguf"]),
        ("BF16", [f"BF16/m-BF16-{n:05}-of-00002.gguf" for n in (1, 2)]),
        ("m-BF16-00002-of-00002.gguf", [f"BF16/m-BF16-{n:05}-of-00002.gguf" for n in (1, 2)]),
        ("BF16/m-BF16-00001-of-00002.gguf", [f"BF16/m-BF16-{n:05}-of-00002.gguf" for n in (1, 2)]),
    ],
)
def test_name_stands_for_the_files_of_one_model(wanted: str, found: list[str]) -> None:
    there = files(
        "README.md", "BF16/m-BF16-00002-of-00002.gguf", "BF16/m-BF16-00001-of-00002.gguf", "m-Q4_K_M.gguf",
        "m.Q4_K.gguf", "m-i1-IQ2_XS.gguf", "mmproj-m-F16.gguf", "m.imatrix.gguf",
    )  # fmt: skip
    assert [file.name for file in chosen_files(there, HubModel(repo=REPO, wanted=wanted))] == found


@pytest.mark.parametrize(
    ("there", "wanted", "words"),
    [
        (["a-Q8_0.gguf", "b-Q8_0.gguf"], "Q8_0", r"several files for 'Q8_0'.*a-Q8_0\.gguf \(1\.5 GB\), b-Q8_0\.gguf"),
        (["a-Q8_0.gguf", "a-Q2_K.gguf"], "Q5_0", r"no file for 'Q5_0'.*a-Q2_K\.gguf \(1\.5 GB\), a-Q8_0\.gguf"),
        (["a-Q8_0.gguf"], "other.gguf", r"no file for 'other\.gguf'"),
        (["a-Q8_0.gguf", "a-Q2_K.gguf"], "", r"has 2 models, and none is Q4_K_M"),
        (["a-Q4_K_M.gguf", "b-Q4_K_M.gguf", "c.gguf"], "", r"has 3 models, and more than one is Q4_K_M"),
        (["model.safetensors", "mmproj-x.gguf"], "Q4_K_M", r"has no GGUF file"),
        ([PART.format(1), PART.format(3)], "Q8_0", r"has 2 of the 3 parts of big-Q8_0\.gguf"),
        ([f"a-{n}.gguf" for n in range(40)], "Q8_0", r"and 25 more"),
    ],
)
def test_name_that_stands_for_no_or_several_models_lists_what_there_is(
    there: list[str], wanted: str, words: str
) -> None:
    with pytest.raises(ModelFileError, match=words) as caught:
        chosen_files(files(*there), HubModel(repo=REPO, wanted=wanted))
    assert len(str(caught.value)) < 2000


@pytest.mark.parametrize("name", ["hf/", "hf/one", "hf/a/b/c", "hf/a/b:", "hf/../../etc", "hf/a/b c", "hf/a/.."])
def test_name_that_is_none_shows_how_one_is_written(name: str) -> None:
    with pytest.raises(UnknownNameError, match="local/hf/OWNER/REPO:QUANT"):
        find(name, environ={})


def test_missing_library_is_told_with_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtraError, match=r'pip install "aichat-magic\[hub\]"'):
        find("hf/a/b", environ={})


# --- fetching


@needs_hub
def test_file_is_fetched_with_its_progress_and_kept_in_the_cache_of_the_hub(hub: Hub, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    path = fetch(hub, tmp_path, told=told)
    assert path.read_bytes() == BYTES
    assert path == tmp_path / f"models--owner--tiny-GGUF/snapshots/{COMMIT}/tiny-Q4_K_M.gguf"
    fetching = [now for now in told if now[0].startswith("Fetching tiny-Q4_K_M.gguf (2 MB) from the Hugging Face Hub")]
    assert fetching[0][1:] == (0, len(BYTES))
    assert fetching[-1][1:] == (len(BYTES), len(BYTES))
    assert len(hub.fetched()) == 1
    assert not partials(tmp_path)


@needs_hub
def test_second_use_asks_the_hub_and_fetches_nothing(hub: Hub, tmp_path: Path) -> None:
    fetch(hub, tmp_path)
    assert fetch(hub, tmp_path).read_bytes() == BYTES
    assert len(hub.fetched()) == 1


@needs_hub
def test_newer_file_of_the_same_name_is_fetched(hub: Hub, tmp_path: Path) -> None:
    fetch(hub, tmp_path)
    hub.files["tiny-Q4_K_M.gguf"] = BYTES + b"more"
    # The commit of the stand-in stays the same, as with a repository whose history was rewritten.
    assert len(hub.fetched()) == 1
    fetch(hub, tmp_path)
    assert len(hub.fetched()) == 2


@needs_hub
def test_all_parts_of_a_split_model_are_fetched_and_the_first_is_loaded(hub: Hub, tmp_path: Path) -> None:
    hub.files |= {PART.format(number): bytes([number]) * 1000 for number in (1, 2, 3)}
    told: list[tuple[str, int, int]] = []
    path = fetch(hub, tmp_path, f"{MODEL}:Q8_0", told)
    assert path.name == PART.format(1)
    assert [path.with_name(PART.format(number)).read_bytes()[0] for number in (1, 2, 3)] == [1, 2, 3]
    assert any("part 2 of 3" in words for words, _, _ in told)


@needs_hub
def test_download_that_breaks_off_goes_on_where_it_ended(hub: Hub, tmp_path: Path) -> None:
    hub.cut_after = [600_000, 700_000]
    assert fetch(hub, tmp_path).read_bytes() == BYTES
    begins = [int(one.headers.get("range", "bytes=0-")[6:-1]) for one in hub.fetched()]
    assert begins == sorted(begins)
    assert len(begins) == 3
    assert 0 == begins[0] < begins[1] < begins[2]


@needs_hub
def test_download_that_always_breaks_off_ends_and_the_next_one_goes_on(hub: Hub, tmp_path: Path) -> None:
    hub.cut_after = [900_000, *[0] * 20]
    with pytest.raises(ModelFileError, match=r"broke off after \d+ kB of 2 MB.*What has come is kept") as caught:
        fetch(hub, tmp_path)
    assert len(hub.fetched()) < 10
    assert "store" not in str(caught.value)
    (partial,) = partials(tmp_path)
    have = partial.stat().st_size
    hub.cut_after = []
    before = len(hub.fetched())
    assert fetch(hub, tmp_path).read_bytes() == BYTES
    assert hub.fetched()[before].headers["range"] == f"bytes={have}-"


@needs_hub
def test_server_that_cannot_go_on_sends_all_again(hub: Hub, tmp_path: Path) -> None:
    hub.ignores_range, hub.cut_after = True, [600_000]
    assert fetch(hub, tmp_path).read_bytes() == BYTES


@needs_hub
@pytest.mark.parametrize("left", [BYTES + b"more", b"other bytes", BYTES], ids=["too long", "others", "all"])
def test_partial_file_of_somebody_else_is_no_harm(hub: Hub, tmp_path: Path, left: bytes) -> None:
    whole = fetch(hub, tmp_path)
    blob = whole.resolve()
    blob.unlink()
    whole.unlink()
    blob.with_name(f"{blob.name}.incomplete").write_bytes(left)
    if left == b"other bytes":
        with pytest.raises(ModelFileError, match="its hash differs"):
            fetch(hub, tmp_path)
    assert fetch(hub, tmp_path).read_bytes() == BYTES


@needs_hub
def test_file_with_a_flipped_byte_is_refused_and_removed(hub: Hub, tmp_path: Path) -> None:
    hub.flip = True
    with pytest.raises(ModelFileError, match="is not the published one: its hash differs"):
        fetch(hub, tmp_path)
    assert not partials(tmp_path)
    assert not list(tmp_path.rglob("*.gguf"))


@needs_hub
def test_server_without_hashes_is_no_hub(hub: Hub, tmp_path: Path) -> None:
    hub.has_etag = False
    with pytest.raises(ModelFileError, match="Is HF_ENDPOINT the address of a Hub"):
        fetch(hub, tmp_path)
    assert not hub.fetched()


@needs_hub
def test_two_at_once_fetch_once(hub: Hub, tmp_path: Path) -> None:
    hub.stall_s = 0.3
    paths: list[Path] = []
    threads = [threading.Thread(target=lambda: paths.append(fetch(hub, tmp_path))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert [path.read_bytes() for path in paths] == [BYTES, BYTES]
    assert len(hub.fetched()) == 1


@needs_hub
def test_full_disk_is_told_before_anything_is_fetched(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = hub_module.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(hub_module.shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(ModelFileError, match=r"no space left on the disk.*set HF_HUB_CACHE"):
        fetch(hub, tmp_path)
    assert not hub.fetched()


@needs_hub
def test_interrupt_leaves_what_has_come_and_the_next_download_goes_on(hub: Hub, tmp_path: Path) -> None:
    hub.cut_after, hub.stall_s = [1_200_000], 0.0
    environ = {"HF_ENDPOINT": hub.url, "HF_HUB_CACHE": str(tmp_path)}
    cancelled = threading.Event()

    def status(words: str, done: int, total: int) -> None:
        if done > 200_000:
            cancelled.set()

    with pytest.raises(ModelFileError, match=r"interrupted\. What has come is kept"):
        fetch_from_hub(MODEL, environ=environ, status=status, is_cancelled=cancelled.is_set)
    hub.cut_after = []
    before = len(hub.fetched())
    assert fetch(hub, tmp_path).read_bytes() == BYTES
    assert int(hub.fetched()[before].headers["range"][6:-1]) > 200_000


@needs_hub
def test_interrupt_is_heard_while_the_server_is_silent(hub: Hub, tmp_path: Path) -> None:
    hub.stall_s = 8.0
    environ = {"HF_ENDPOINT": hub.url, "HF_HUB_CACHE": str(tmp_path)}
    with pytest.raises(ModelFileError, match="interrupted"):
        fetch_from_hub(MODEL, environ=environ, status=lambda *now: None, is_cancelled=lambda: bool(hub.fetched_at))
    assert time.monotonic() - hub.fetched_at[0] < hub.stall_s


# --- refusals


@needs_hub
@pytest.mark.parametrize("status", [401, 403])
def test_gated_model_is_told_with_its_page_and_the_variable(hub: Hub, tmp_path: Path, status: int) -> None:
    hub.file_error = (status, "GatedRepo", "Access to model owner/tiny-GGUF is restricted.")
    with pytest.raises(ModelFileError) as caught:
        fetch(hub, tmp_path)
    assert f"accept its licence at {hub.url}/{REPO}" in str(caught.value)
    assert "HF_TOKEN" in str(caught.value)


@needs_hub
def test_missing_model_is_told_with_the_address(hub: Hub, tmp_path: Path) -> None:
    for error in (
        (404, "RepoNotFound", "Repository not found"),
        (401, "RepoNotFound", "Invalid username or password."),
    ):
        hub.error = error
        with pytest.raises(ModelFileError, match=rf"no model {REPO} on the Hugging Face Hub, or it is private"):
            fetch(hub, tmp_path)


@needs_hub
def test_file_that_vanishes_meanwhile_is_told(hub: Hub, tmp_path: Path) -> None:
    hub.file_error = (404, "EntryNotFound", "Entry not found")
    with pytest.raises(ModelFileError, match=r"The file is no longer in owner/tiny-GGUF"):
        fetch(hub, tmp_path)


@needs_hub
def test_token_goes_to_the_hub_only(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.token = TOKEN
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert fetch(hub, tmp_path).read_bytes() == BYTES
    assert all("authorization" not in one.headers for one in hub.fetched())


@needs_hub
@pytest.mark.parametrize("token", [TOKEN, f"{TOKEN}\x7f", f"{TOKEN}é", f"{TOKEN} b"])
def test_token_is_in_no_message(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, token: str, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    caplog.set_level("DEBUG", "aichat_magic")
    caplog.set_level("INFO")
    for error in (
        (401, "", "Invalid credentials in Authorization header"),
        (403, "", f"{token} may not"),
        (403, "GatedRepo", token),
        (500, "", token),
    ):
        hub.error = error
        with pytest.raises(ModelFileError) as caught:
            fetch(hub, tmp_path)
        assert TOKEN not in str(caught.value)
        assert TOKEN not in repr(caught.value.__cause__) + repr(caught.value.__context__)
    assert TOKEN not in caplog.text


@needs_hub
def test_token_that_is_refused_is_told(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.error = (401, "", "Invalid credentials in Authorization header")
    with pytest.raises(ModelFileError, match=r"refuses access to owner/tiny-GGUF \(status 401\).*HF_TOKEN"):
        fetch(hub, tmp_path)


# --- offline


def offline(hub: Hub) -> dict[str, str]:
    return {"HF_HUB_OFFLINE": "1"}


def unreachable(hub: Hub) -> dict[str, str]:
    return {"HF_ENDPOINT": "http://127.0.0.1:9"}


def failing(hub: Hub) -> dict[str, str]:
    hub.error = (503, "", "down for maintenance")
    return {}


def refusing(hub: Hub) -> dict[str, str]:
    hub.error = (401, "GatedRepo", "gated now")
    return {}


@needs_hub
@pytest.mark.parametrize("away", [offline, unreachable, failing, refusing])
def test_file_on_this_machine_is_used_where_the_hub_is_away(
    hub: Hub, tmp_path: Path, away: Callable[[Hub], dict[str, str]]
) -> None:
    fetch(hub, tmp_path)
    asked = len(hub.asked)
    told: list[tuple[str, int, int]] = []
    assert fetch(hub, tmp_path, f"{MODEL}:q4_k_m", told, **away(hub)).read_bytes() == BYTES
    assert told[-1][0] == "Using owner/tiny-GGUF as it is on this machine"
    assert away is not offline or len(hub.asked) == asked


@needs_hub
@pytest.mark.parametrize("away", [offline, unreachable, failing])
def test_file_that_is_nowhere_is_told_with_the_reason(
    hub: Hub, tmp_path: Path, away: Callable[[Hub], dict[str, str]]
) -> None:
    fetch(hub, tmp_path)
    environ = away(hub)
    reason = {offline: "HF_HUB_OFFLINE is set", unreachable: "cannot be reached", failing: "status 503"}[away]
    with pytest.raises(ModelFileError, match=rf"is not on this machine, and .*{reason}.*Try again with a network"):
        fetch(hub, tmp_path, f"{MODEL}:Q8_0", **environ)
    with pytest.raises(ModelFileError, match=reason):
        fetch(hub, tmp_path / "empty", **environ)


def test_doctor_says_whether_the_file_is_there_without_asking(hub: Hub, tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub")
    environ = {"HF_ENDPOINT": hub.url, "HF_HUB_CACHE": str(tmp_path), "AICHAT_MODEL": f"local/{MODEL}"}
    chat = Chat(settings=lambda: load_settings(environ))

    def found() -> tuple[str, str]:
        finding = next(found for found in _model(chat, chat.settings) if found.subject == "model file")
        return finding.state, finding.found

    assert found() == ("note", "not on this machine; the first cell downloads it from the Hugging Face Hub")
    assert not hub.asked
    path = fetch(hub, tmp_path)
    asked = len(hub.asked)
    assert found() == ("ok", f"{path} (2 MB)")
    assert len(hub.asked) == asked


# --- memory


def machine(folder: Path, *, available_kb: int, limit: str = "max", used: int = 0, cache: int = 0) -> dict[str, Path]:
    folder.joinpath("meminfo").write_text(f"MemTotal: 99999999 kB\nMemAvailable:    {available_kb} kB\n")
    for name, text in (("max", limit), ("current", str(used)), ("stat", f"anon 1\ninactive_file {cache}\n")):
        folder.joinpath(f"memory.{name}").write_text(text + "\n" * (name != "stat"))
    return {"proc": folder, "cgroup": folder}


@pytest.mark.parametrize(
    ("counters", "free"),
    [
        ({"available_kb": 4}, 4096),
        ({"available_kb": 100, "limit": "10000", "used": 7000}, 3000),
        ({"available_kb": 100, "limit": "10000", "used": 9000, "cache": 4000}, 5000),
        ({"available_kb": 1, "limit": "10000", "used": 7000}, 1024),
    ],
)
def test_free_memory_is_that_of_the_machine_or_the_container(
    tmp_path: Path, counters: dict[str, Any], free: int
) -> None:
    assert free_memory(**machine(tmp_path, **counters)) == free


def test_model_that_is_larger_than_the_free_memory_is_warned_of(tmp_path: Path) -> None:
    where = machine(tmp_path, available_kb=4)
    for number, size in ((1, 3000), (2, 1000), (3, 97)):
        tmp_path.joinpath(PART.format(number)).write_bytes(b"G" * size)
    first = tmp_path / PART.format(1)
    assert re.search(
        r"has 4 kB, and only 4 kB of memory are free.*choose a smaller file", memory_warning(first, **where)
    )
    tmp_path.joinpath(PART.format(3)).write_bytes(b"G" * 96)
    assert memory_warning(first, **where) == ""
    assert memory_warning(first, proc=tmp_path / "none", cgroup=tmp_path / "none") == ""


@pytest.mark.anyio
async def test_warning_of_too_little_memory_comes_before_the_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("xllamacpp")
    path = tmp_path / "large.gguf"
    path.write_bytes(b"GGUF" + bytes(100))
    monkeypatch.setattr(memory, "free_memory", lambda **_: 99)
    told: list[str] = []

    def status(words: str, done: int, total: int) -> None:
        told.append(f"{words} after {len(caplog.records)} warnings")

    with pytest.raises(ModelFileError, match="cannot be loaded"):
        await engine_for(str(path), environ={}, status=status)
    (line,) = told
    assert line.startswith("Loading ")
    assert line.endswith(" after 1 warnings")
    assert "large.gguf has 104 bytes, and only 99 bytes of memory are free" in caplog.text


# --- the engine


@needs_hub
@pytest.mark.slow
def test_model_of_the_hub_answers(hub: Hub, tmp_path: Path, model_cache: Path) -> None:
    hub.files = {"SmolLM2-135M-Instruct-Q4_1.gguf": (model_cache / SMOLLM2.file).read_bytes()}
    code = """
        from aichat_magic import ask
        name = "local/hf/owner/tiny-GGUF:q4_1"
        reply = ask("What is the capital of Japan?", model=name, temperature=0, max_tokens=12)
        print(reply.model, "|", reply.text)
        print(ask("Hi", model=name, max_tokens=2).usage.output_tokens)
    """
    environ = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HUB_CACHE": str(tmp_path), "HF_HUB_DISABLE_XET": "1"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=environ,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "local/hf/owner/tiny-GGUF:q4_1 | " in done.stdout
    assert "Tokyo" in done.stdout
    assert done.stderr == ""
    # The Hub is asked once in a process.
    assert sum(one.path.startswith("/api/models/") for one in hub.asked) == 1


@needs_hub
@pytest.mark.anyio
async def test_file_of_the_hub_that_is_no_model_is_told(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("xllamacpp")
    environ: dict[str, Any] = {"HF_ENDPOINT": hub.url, "HF_HUB_CACHE": str(tmp_path)}
    assert loaded(MODEL, environ=environ) is None
    with pytest.raises(ModelFileError, match="cannot be loaded"):
        await engine_for(MODEL, environ=environ)
    close_all()


@needs_hub
@pytest.mark.anyio
async def test_cancelled_request_ends_the_download_and_keeps_what_has_come(hub: Hub, tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp")
    hub.stall_s = 5.0
    environ = {"HF_ENDPOINT": hub.url, "HF_HUB_CACHE": str(tmp_path)}
    task = asyncio.ensure_future(engine_for(MODEL, environ=environ))
    await asyncio.to_thread(hub.wait_for_bytes)
    began = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - began < 5.0
    hub.stall_s = 0.0
    assert (await asyncio.to_thread(fetch, hub, tmp_path)).read_bytes() == BYTES
