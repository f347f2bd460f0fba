"""Which certificates are trusted: those that a variable names, or the system's; and none where none are needed."""

from __future__ import annotations

import contextlib
import shutil
import ssl
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trustme
from servers import ChatServer

from aichat_magic.core.errors import ConfigError, TLSError
from aichat_magic.http import adapters
from aichat_magic.http.client import HttpClient, HttpRequest

pytestmark = pytest.mark.anyio

VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def file(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return path


@pytest.fixture(scope="module")
def folder(file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as OpenSSL reads it: the name of a file is the hash of its certificate's subject."""
    if (program := shutil.which("openssl")) is None:
        pytest.skip("needs the program openssl")
    command = [program, "x509", "-hash", "-noout", "-in", str(file)]
    name = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    folder = tmp_path_factory.mktemp("folder")
    (folder / f"{name}.0").write_bytes(file.read_bytes())
    return folder


@pytest.fixture(scope="module")
def tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


@pytest.fixture(params=[True, False], ids=["direct", "httpx"])
def is_direct(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


async def ask(server: ChatServer, environ: dict[str, str], is_direct: bool = True) -> int:
    async with contextlib.aclosing(HttpClient(environ=environ, is_direct=is_direct)) as http:
        response = await http.send(HttpRequest(provider="test", url=f"{server.url}/models"))
        return response.status


@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
async def test_authority_in_a_file_that_any_usual_variable_names_is_trusted(
    name: str, file: Path, tls: ssl.SSLContext, is_direct: bool
) -> None:
    with ChatServer(tls_context=tls) as server:
        assert await ask(server, {name: str(file)}, is_direct) == 200


@pytest.mark.parametrize("name", ["SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"])
async def test_folder_of_certificates_is_trusted(name: str, folder: Path, tls: ssl.SSLContext) -> None:
    with ChatServer(tls_context=tls) as server:
        assert await ask(server, {name: str(folder)}) == 200


async def test_without_a_variable_the_certificates_of_the_system_are_trusted(
    file: Path, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The process's own variable moves OpenSSL's store, which is the system's; the client does not see it.
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    with ChatServer(tls_context=tls) as server:
        assert await ask(server, {}) == 200
        monkeypatch.delenv("SSL_CERT_FILE")
        with pytest.raises(TLSError):
            await ask(server, {})


def test_system_without_certificates_gets_those_of_certifi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    assert adapters.tls_context(True, {}).cert_store_stats()["x509_ca"] > 50


async def test_where_no_file_holds_the_systems_certificates_truststore_asks_for_them(
    file: Path, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    truststore = pytest.importorskip("truststore", reason="pip install truststore")
    monkeypatch.setattr(adapters, "sys", SimpleNamespace(platform="darwin"))
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    assert isinstance(adapters.tls_context(True, {}), truststore.SSLContext)
    with ChatServer(tls_context=tls) as server:
        assert await ask(server, {}) == 200


@pytest.mark.parametrize("name", VARIABLES)
async def test_variable_that_names_nothing_is_named_with_its_path_and_plain_http_does_without(
    name: str, tls: ssl.SSLContext, tmp_path: Path, is_direct: bool
) -> None:
    stale = {name: str(tmp_path / "gone.pem")}
    with ChatServer(tls_context=tls) as server, pytest.raises(ConfigError, match="does not exist") as caught:
        await ask(server, stale, is_direct)
    assert name in str(caught.value)
    assert str(tmp_path / "gone.pem") in str(caught.value)
    with ChatServer() as server:
        assert await ask(server, stale, is_direct) == 200


async def test_file_that_holds_no_certificate_is_told(tls: ssl.SSLContext, tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    path.write_text("no certificate")
    with ChatServer(tls_context=tls) as server, pytest.raises(ConfigError, match="no certificate in it can be read"):
        await ask(server, {"REQUESTS_CA_BUNDLE": str(path)})


async def test_first_variable_counts_and_an_empty_one_does_not(file: Path, tls: ssl.SSLContext) -> None:
    with ChatServer(tls_context=tls) as server:
        assert await ask(server, {"SSL_CERT_FILE": " ", "CURL_CA_BUNDLE": str(file)}) == 200
        assert await ask(server, {"SSL_CERT_FILE": str(file), "CURL_CA_BUNDLE": "/nowhere.pem"}) == 200


def test_connection_without_tls_would_trust_nobody() -> None:
    context: Any = adapters.no_tls_context()
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.cert_store_stats()["x509"] == 0
