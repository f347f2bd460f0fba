"""Where cookies come from, which belong to a domain, and that no error shows a value."""

from __future__ import annotations

import json
import os
import sys
import traceback
import types
from collections.abc import Callable
from http.cookiejar import Cookie as BrowserCookie
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aichat_magic.core.errors import ConfigError
from aichat_magic.core.secrets import Secret
from aichat_magic.providers.aichat import cookies
from aichat_magic.providers.aichat.cookies import (
    Cookies,
    CookieStore,
    StoredCookie,
    get_cookies,
    parse_cookies,
    sendable_to,
    set_cookies,
)

CANARY = "canary-4f1c"
NOW_S = 1_800_000_000.0


def stored(domain: str, name: str = "a", value: str = "1", expires_s: float | None = None) -> StoredCookie:
    return StoredCookie(domain=domain, name=name, value=Secret(value), expires_s=expires_s)


def plain(found: Cookies) -> list[tuple[str, str, str]]:
    return [(cookie.domain, cookie.name, cookie.value.reveal()) for cookie in found]


def line(domain: str, name: str, value: str, expires: str = "0", path: str = "/") -> str:
    return "\t".join((domain, "TRUE", path, "TRUE", expires, name, value)) + "\n"


def browser_cookie(domain: str, name: str = "b", value: str = "2", expires: int | None = None) -> BrowserCookie:
    return BrowserCookie(
        version=0, name=name, value=value, port=None, port_specified=False, domain=domain, domain_specified=True,
        domain_initial_dot=domain.startswith("."), path="/", path_specified=True, secure=False, expires=expires,
        discard=False, comment=None, comment_url=None, rest={},
    )  # fmt: skip


@pytest.fixture
def file_store(tmp_path: Path) -> Callable[[str], CookieStore]:
    def store(content: str) -> CookieStore:
        path = tmp_path / "cookies.txt"
        path.write_bytes(content.encode())
        return CookieStore(environ={"AICHAT_COOKIES": str(path)}, browsers=lambda domain: (), clock=lambda: NOW_S)

    return store


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch) -> CookieStore:
    """The store behind `get_cookies` and `set_cookies`, fresh."""
    monkeypatch.delenv("AICHAT_COOKIES", raising=False)
    monkeypatch.setitem(sys.modules, "browser_cookie3", None)
    store = CookieStore()
    monkeypatch.setattr(cookies, "PROCESS_COOKIES", store)
    return store


def shown(error: BaseException) -> str:
    """The error as the most talkative traceback shows it: with the variables of every frame of the package."""
    lines = []
    while error is not None:
        lines.append(f"{error} {error.args!r}")
        for frame, _ in traceback.walk_tb(error.__traceback__):
            if "aichat_magic" in frame.f_code.co_filename and os.sep + "tests" + os.sep not in frame.f_code.co_filename:
                lines.append(repr(frame.f_locals))
        error = error.__cause__ or error.__context__
    return "\n".join(lines)


# --- which cookies belong to a domain


@pytest.mark.parametrize(
    "domain", ["chat-gpt.org", ".chat-gpt.org", "CHAT-GPT.ORG", "chat-gpt.org.", "www.chat-gpt.org"]
)
def test_a_domain_matches_itself_and_its_subdomains(domain: str, file_store: Callable[[str], CookieStore]) -> None:
    assert len(file_store(line(domain, "a", "1")).find("chat-gpt.org")) == 1


@pytest.mark.parametrize(
    "domain",
    ["notchat-gpt.org", "chat-gpt.org.evil.com", ".evilchat-gpt.org", "org", "example.com", "chat-gpt.org.org"],
)
def test_no_other_domain_matches(domain: str, file_store: Callable[[str], CookieStore]) -> None:
    assert file_store(line(domain, "a", "1")).find("chat-gpt.org") == ()
    store = CookieStore(environ={}, browsers=lambda asked: (stored(domain.strip(".")),), clock=lambda: NOW_S)
    assert store.find("chat-gpt.org") == ()


@pytest.mark.parametrize(
    "domain", ["", ".", " ", "https://chat-gpt.org", "chat-gpt.org/chat", "chat-gpt.org:443", "a b"]
)
def test_what_is_more_or_less_than_a_domain_is_refused(domain: str, process: CookieStore) -> None:
    with pytest.raises(ConfigError, match="no scheme, port or path") as caught:
        set_cookies(domain, {"a": CANARY})
    assert CANARY not in shown(caught.value)
    with pytest.raises(ConfigError, match="no scheme, port or path"):
        get_cookies(domain)


def test_an_ipv6_address_is_a_domain(process: CookieStore) -> None:
    set_cookies("::1", {"a": "1"})
    assert get_cookies("::1") == {"a": "1"}


# --- which cookies go to a URL


def sent(url: str, **changes: object) -> bool:
    return bool(
        sendable_to(url, [StoredCookie(**{"domain": "chat-gpt.org", "name": "cf", "value": Secret("v"), **changes})])
    )


def test_a_cookie_goes_to_its_own_host() -> None:
    assert sent("https://chat-gpt.org/api")
    assert sent("https://CHAT-GPT.org.:8443/api?a=b")
    assert sent("https://127.0.0.1/", domain="127.0.0.1")
    assert sent("https://localhost:8443/", domain="localhost")
    assert sent("https://[::1]:8443/", domain="::1")


@pytest.mark.parametrize(
    "url",
    [
        "https://notchat-gpt.org/",
        "https://chat-gpt.org.evil.com/",
        "https://evil.com/chat-gpt.org",
        "https://www.chat-gpt.org/",
        "https://org/",
        "http://chat-gpt.org/",
        "http://127.0.0.1/",
    ],
)
def test_a_cookie_goes_nowhere_else(url: str) -> None:
    assert not sent(url)


@pytest.mark.parametrize("domain", ["org", "", ".", "www.chat-gpt.org", "local"])
def test_a_cookie_of_another_domain_stays(domain: str) -> None:
    assert not sent("https://chat-gpt.org/", domain=domain)


def test_a_cookie_of_an_address_stays_away_from_those_that_end_alike() -> None:
    assert not sent("https://127.0.0.1/", domain="0.0.1")
    assert not sent("https://[::1:1]/", domain="::1")


def test_a_cookie_keeps_to_its_path() -> None:
    assert sent("https://chat-gpt.org/api/x", path="/api")
    assert sent("https://chat-gpt.org/api", path="/api")
    assert sent("https://chat-gpt.org", path="")
    assert not sent("https://chat-gpt.org/apix", path="/api")
    assert not sent("https://chat-gpt.org", path="/api")


# --- set in the process


def test_cookies_set_in_the_process_come_back_for_their_domain_only(process: CookieStore) -> None:
    set_cookies(".Chat-GPT.org", {"a": "1", "b": ""})
    assert get_cookies("chat-gpt.org") == {"a": "1", "b": ""}
    assert get_cookies("example.com") == {}


def test_setting_again_replaces_and_an_empty_mapping_forgets(process: CookieStore) -> None:
    set_cookies("chat-gpt.org", {"a": "1"})
    set_cookies("chat-gpt.org", {"b": "2"})
    assert get_cookies("chat-gpt.org") == {"b": "2"}
    set_cookies("chat-gpt.org", {})
    assert get_cookies("chat-gpt.org") == {}


def test_a_domains_own_cookie_goes_before_its_subdomains(process: CookieStore) -> None:
    set_cookies("chat-gpt.org", {"a": "own"})
    set_cookies("www.chat-gpt.org", {"a": "www", "b": "www"})
    assert get_cookies("chat-gpt.org") == {"a": "own", "b": "www"}


@pytest.mark.parametrize(
    "value", [f"{CANARY}\n", f"{CANARY}\r\nx: y", f"\0{CANARY}", f"{CANARY} x", f"{CANARY}é", f"{CANARY};x=1"]
)
def test_a_value_that_no_header_can_carry_is_refused_and_not_shown(value: str, process: CookieStore) -> None:
    with pytest.raises(ConfigError, match="'session' holds") as caught:
        set_cookies("chat-gpt.org", {"session": value})
    assert CANARY not in shown(caught.value)
    assert get_cookies("chat-gpt.org") == {}


@pytest.mark.parametrize("name", ["", "a b", "a=b", "a;b", "a\n", "ä"])
def test_a_name_that_no_header_can_carry_is_refused(name: str, process: CookieStore) -> None:
    with pytest.raises(ConfigError, match="holds a space"):
        set_cookies("chat-gpt.org", {name: "1"})


@pytest.mark.parametrize("wrong", [[CANARY], {CANARY: 1}, {1: CANARY}, f"a={CANARY}", None])
def test_what_is_no_mapping_of_texts_is_refused_and_not_shown(wrong: object, process: CookieStore) -> None:
    with pytest.raises(ConfigError, match="mapping of names to values") as caught:
        set_cookies("chat-gpt.org", wrong)  # type: ignore[arg-type]  # the point of the test
    assert CANARY not in shown(caught.value)


def test_values_show_nowhere(process: CookieStore) -> None:
    set_cookies("chat-gpt.org", {"a": CANARY})
    assert CANARY not in repr(process.find("chat-gpt.org")) + repr(vars(process)) + repr(process)


# --- the order of the sources


def test_the_process_goes_before_the_file_and_the_file_before_the_browsers(tmp_path: Path) -> None:
    path = tmp_path / "cookies.txt"
    path.write_text(line("a.org", "file", "1") + line("b.org", "file", "1"))
    store = CookieStore(
        environ={"AICHAT_COOKIES": str(path)},
        browsers=lambda domain: tuple(stored(d, "browser") for d in ("a.org", "b.org", "c.org")),
        clock=lambda: NOW_S,
    )
    store.set("a.org", (stored("a.org", "process"),))
    assert plain(store.find("a.org")) == [("a.org", "process", "1")]
    assert plain(store.find("b.org")) == [("b.org", "file", "1")]
    assert plain(store.find("c.org")) == [("c.org", "browser", "1")]


def test_an_empty_result_is_not_kept(tmp_path: Path) -> None:
    held: list[StoredCookie] = []
    path = tmp_path / "cookies.txt"
    path.write_text("")
    store = CookieStore(environ={"AICHAT_COOKIES": str(path)}, browsers=lambda domain: tuple(held), clock=lambda: NOW_S)
    assert store.find("a.org") == ()
    held.append(stored("a.org", "browser"))
    assert plain(store.find("a.org")) == [("a.org", "browser", "1")]
    path.write_text(line("a.org", "file", "1"))
    assert plain(store.find("a.org")) == [("a.org", "file", "1")]


def test_browsers_are_read_once_until_what_they_gave_has_expired() -> None:
    reads: list[str] = []
    now_s = [NOW_S]

    def browsers(domain: str) -> Cookies:
        reads.append(domain)
        return (stored("a.org", expires_s=now_s[0] + 10),)

    store = CookieStore(environ={}, browsers=browsers, clock=lambda: now_s[0])
    assert store.find("a.org")
    assert store.find("a.org")
    assert reads == ["a.org"]
    now_s[0] += 11
    assert store.find("a.org")
    assert reads == ["a.org", "a.org"]


def test_setting_nothing_looks_at_the_browsers_afresh() -> None:
    values = iter("12")
    store = CookieStore(environ={}, browsers=lambda domain: (stored("a.org", value=next(values)),))
    store.find("a.org")
    store.set("a.org", ())
    assert plain(store.find("a.org")) == [("a.org", "a", "2")]


# --- expiry


@pytest.mark.parametrize(
    ("expires", "is_kept"),
    [
        ("0", True),
        ("-1", True),
        ("", True),
        (str(int(NOW_S) + 1), True),
        (str(int(NOW_S)), False),
        ("1", False),
        ("1e9", False),
    ],
)
def test_expired_cookies_are_dropped_and_session_cookies_kept(
    expires: str, is_kept: bool, file_store: Callable[[str], CookieStore]
) -> None:
    assert bool(file_store(line("a.org", "a", "1", expires)).find("a.org")) is is_kept


def test_a_cookie_that_expires_while_the_process_runs_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "cookies.txt"
    path.write_text(line("a.org", "a", "1", str(int(NOW_S) + 10)))
    now_s = [NOW_S]
    store = CookieStore(environ={"AICHAT_COOKIES": str(path)}, browsers=lambda domain: (), clock=lambda: now_s[0])
    assert store.find("a.org")
    now_s[0] += 20
    assert not store.find("a.org")


# --- cookies.txt


def test_a_cookies_txt_is_read_with_its_comments_http_only_lines_and_line_ends() -> None:
    text = (
        "\ufeff".encode().decode("utf-8-sig")
        + "# Netscape HTTP Cookie File\r\n\r\n"
        + '#HttpOnly_.a.org\tTRUE\t/api\tTRUE\t0\tsession\tx=y,"z"\r\n'
        + "# a.org\tTRUE\t/\tTRUE\t0\tcommented\t1\n"
        + "a.org\tFALSE\t/\tFALSE\t1900000000\tempty\t\n"
        + "a.org\tFALSE\t/\tFALSE\t0\ttrimmed\n"
        + "b.org\tTRUE\t/\tTRUE\t0\tforeign\tnaïve value"
    )
    found = parse_cookies(Secret(text), "test")
    assert plain(found) == [
        ("a.org", "session", 'x=y,"z"'),
        ("a.org", "empty", ""),
        ("a.org", "trimmed", ""),
        ("b.org", "foreign", "naïve value"),
    ]
    assert found[0].path == "/api"
    assert [cookie.expires_s for cookie in found] == [None, 1_900_000_000.0, None, None]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (f"a.org TRUE / TRUE 0 a {CANARY}\n", "line 1 has 1 fields"),
        ("\n" + line("a.org", "a", f"{CANARY}\tx"), "line 2 has 8 fields"),
        (line("a.org", "a", CANARY, expires=CANARY), "line 1: its time of expiry is no number"),
        (line(" ", "a", CANARY), "line 1: its domain is empty"),
        (f"sessionid={CANARY}", "line 1 has 1 fields"),
        (f'[{{"value": "{CANARY}"', "begins like JSON but is not"),
        (f'{{"{CANARY}": "{CANARY}"}}', "JSON must be a list"),
        (f'["{CANARY}"]', "entry 1: JSON must be a list"),
        (f'[{{"name": "a", "value": "{CANARY}"}}]', "entry 1: its domain is missing or no text"),
        (f'[{{"domain": "a.org", "value": "{CANARY}"}}]', "entry 1: its name is missing or no text"),
        ('[{"domain": "a.org", "name": "a", "value": 471147114711}]', "entry 1: its value is missing or no text"),
        (f'[{{"domain": "a.org", "name": "a", "value": "{CANARY}", "expires": "{CANARY}"}}]', "entry 1: its time"),
        ("[" * 100_000, "begins like JSON but is not"),
        (f"[{'1' * 5000}]", "begins like JSON but is not"),
    ],
)  # fmt: skip
def test_a_malformed_file_is_a_clear_error_without_values(
    text: str, problem: str, file_store: Callable[[str], CookieStore]
) -> None:
    with pytest.raises(ConfigError, match=problem) as caught:
        file_store(text).find("a.org")
    assert "cookies.txt" in str(caught.value)
    assert CANARY not in shown(caught.value)
    assert "471147114711" not in shown(caught.value)


def test_a_bad_value_in_the_file_counts_only_for_its_own_domain(file_store: Callable[[str], CookieStore]) -> None:
    store = file_store(line("a.org", "good", "1") + line("b.org", "bad", f"{CANARY} naïve"))
    assert plain(store.find("a.org")) == [("a.org", "good", "1")]
    with pytest.raises(ConfigError, match="a cookie 'bad' with a character") as caught:
        store.find("b.org")
    assert CANARY not in shown(caught.value)


@given(st.text() | st.lists(st.text('\t\n[]{}":,.ab01'), max_size=5).map("\t".join))
def test_any_text_is_cookies_or_a_config_error(text: str) -> None:
    try:
        found = parse_cookies(Secret(text), "test")
    except ConfigError:
        return
    assert all(cookie.domain for cookie in found)


# --- JSON exports


def test_a_json_export_is_read_as_extensions_write_it() -> None:
    entries = [
        {"domain": ".a.org", "name": "a", "value": "1", "expirationDate": 1.9e9, "hostOnly": False, "httpOnly": True},
        {"domain": "a.org", "name": "b", "value": "2", "session": True, "expirationDate": 5, "path": "/api"},
        {"domain": "a.org", "name": "c", "value": "3", "expires": -1},
        {"domain": "a.org", "name": "d", "value": "4", "expiry": 5, "storeId": None},
    ]
    found = parse_cookies(Secret(json.dumps(entries)), "test")
    assert plain(found) == [("a.org", name, value) for name, value in zip("abcd", "1234", strict=True)]
    assert [cookie.expires_s for cookie in found] == [1.9e9, None, None, 5.0]
    assert found[1].path == "/api"
    assert plain(parse_cookies(Secret(json.dumps({"cookies": entries, "origins": []})), "test")) == plain(found)


def test_a_file_with_a_byte_order_mark_is_read(file_store: Callable[[str], CookieStore]) -> None:
    assert file_store("\ufeff" + json.dumps([{"domain": "a.org", "name": "a", "value": "1"}])).find("a.org")


# --- the file itself


@pytest.mark.parametrize("name", ["missing.txt", "no/such/directory", "nul\0byte"])
def test_a_file_that_is_not_there_is_a_clear_error(name: str, tmp_path: Path) -> None:
    store = CookieStore(environ={"AICHAT_COOKIES": str(tmp_path / name)}, browsers=lambda domain: ())
    with pytest.raises(ConfigError, match="AICHAT_COOKIES names"):
        store.find("a.org")


def test_a_directory_is_a_clear_error(tmp_path: Path) -> None:
    store = CookieStore(environ={"AICHAT_COOKIES": str(tmp_path)}, browsers=lambda domain: ())
    with pytest.raises(ConfigError, match="cannot be read"):
        store.find("a.org")


def test_a_file_that_is_not_utf_8_is_a_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "cookies.txt"
    path.write_bytes(CANARY.encode() + b"\xff")
    with pytest.raises(ConfigError, match="not text in UTF-8") as caught:
        CookieStore(environ={"AICHAT_COOKIES": str(path)}).find("a.org")
    assert CANARY not in shown(caught.value)


def test_an_endless_file_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cookies, "_MAX_FILE_BYTES", 2**20)
    path = tmp_path / "cookies.txt"
    path.write_bytes(b"#" * (2**20 + 1))
    with pytest.raises(ConfigError, match="larger than 1 MB"):
        CookieStore(environ={"AICHAT_COOKIES": str(path)}).find("a.org")


def test_the_environment_is_read_at_each_look(
    process: CookieStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "cookies.txt"
    path.write_text(line(".chat-gpt.org", "a", "1"))
    assert get_cookies("chat-gpt.org") == {}
    monkeypatch.setenv("AICHAT_COOKIES", str(path))
    assert get_cookies("chat-gpt.org") == {"a": "1"}


# --- the browsers


class BrowserCookieError(Exception):
    """What the package raises for a browser that is not installed, known here by its name."""


def browsers_hold(monkeypatch: pytest.MonkeyPatch, *readers: Callable[..., list[BrowserCookie]]) -> None:
    module = types.ModuleType("browser_cookie3")
    module.all_browsers = list(readers)  # type: ignore[attr-defined]  # a stand-in for the package
    monkeypatch.setitem(sys.modules, "browser_cookie3", module)


def fails(error: Exception) -> Callable[..., list[BrowserCookie]]:
    def read(domain_name: str = "") -> list[BrowserCookie]:
        raise error

    return read


def test_what_the_browsers_give_is_filtered(process: CookieStore, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def read(domain_name: str = "") -> list[BrowserCookie]:
        asked.append(domain_name)
        return [
            browser_cookie(".chat-gpt.org", "good"),
            browser_cookie("chat-gpt.org", "session", expires=0),
            browser_cookie("notchat-gpt.org", "foreign"),
            browser_cookie("chat-gpt.org.evil.com", "evil"),
            browser_cookie("chat-gpt.org", "expired", expires=1000),
            browser_cookie("chat-gpt.org", "broken", value="a\nb"),
        ]

    browsers_hold(monkeypatch, read)
    assert get_cookies("chat-gpt.org") == {"good": "2", "session": "2"}
    assert asked == ["chat-gpt.org"]


def test_without_the_extra_the_browsers_have_none(process: CookieStore) -> None:
    assert get_cookies("chat-gpt.org") == {}


def test_a_browser_that_fails_does_not_hide_the_others(process: CookieStore, monkeypatch: pytest.MonkeyPatch) -> None:
    browsers_hold(
        monkeypatch,
        fails(KeyError("DBUS_SESSION_BUS_ADDRESS")),
        lambda domain_name: [browser_cookie("chat-gpt.org")],
        fails(BrowserCookieError()),
    )
    assert get_cookies("chat-gpt.org") == {"b": "2"}


def test_browsers_that_are_not_installed_are_no_news(process: CookieStore, monkeypatch: pytest.MonkeyPatch) -> None:
    browsers_hold(monkeypatch, fails(BrowserCookieError()), lambda domain_name: [])
    assert get_cookies("chat-gpt.org") == {}


def test_browsers_that_cannot_be_read_are_a_warning(process: CookieStore, monkeypatch: pytest.MonkeyPatch) -> None:
    browsers_hold(monkeypatch, fails(PermissionError(CANARY)), fails(BrowserCookieError()))
    with pytest.warns(UserWarning, match=r"could not be read \(PermissionError\)") as caught:
        assert get_cookies("chat-gpt.org") == {}
    assert CANARY not in str(caught[0].message)
