"""URLs of servers and proxies: what is refused, and what a message shows of them."""

from __future__ import annotations

import pytest

from aichat_magic.core.errors import ConfigError
from aichat_magic.core.secrets import Secret
from aichat_magic.core.urls import checked_proxy, checked_url, host_of, proxy_name, without_password

CANARY = "canary-4f1c"
NOT_URLS = ("", "nothing", "localhost:8000", "ftp://x/", "http://", "http://x:99999/", "http://x:0/", "http://x:abc/",
            "http://[::1/", "http://a b/", "http://x/a b", "http://x/ ", "http://x/\x7f")  # fmt: skip


@pytest.mark.parametrize("url", ["http://x", "https://api.example.com:8443/v1?api-version=1", "http://[::1]:8080/v1"])
def test_a_url_that_can_be_called_comes_back_as_it_is(url: str) -> None:
    assert checked_url(url) == url


@pytest.mark.parametrize("url", NOT_URLS)
def test_what_is_no_url_is_one_clear_error(url: str) -> None:
    with pytest.raises(ConfigError, match="The base URL ") as caught:
        checked_url(url, "base URL")
    assert "\n" not in str(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    "url", [f"https://user:{CANARY}@example.com/", f"https://{CANARY}@example.com/", f"http://u:{CANARY}@x:0"]
)
def test_a_password_in_a_url_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        checked_url(url)
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "whole"),
    [
        ("http://a:1", "http://a:1"),
        (" https://u:p@a:1 ", "https://u:p@a:1"),
        ("a:1", "http://a:1"),
        ("u:p@a:1", "http://u:p@a:1"),
        ("socks://a:1", "socks5://a:1"),
        ("socks5h://a:1", "socks5h://a:1"),
    ],
)
def test_a_proxy_is_completed(given: str, whole: str) -> None:
    assert checked_proxy(Secret(given), "HTTPS_PROXY").reveal() == whole


@pytest.mark.parametrize(
    "proxy",
    [
        f"ftp://u:{CANARY}@x:1",
        f"http://u:{CANARY}@x:99999",
        f"http://u:{CANARY}@",
        "http://",
        f"u:{CANARY}",
        f"a {CANARY}",
    ],
)
def test_a_proxy_that_is_none_is_refused_and_not_shown(proxy: str) -> None:
    with pytest.raises(ConfigError, match="HTTPS_PROXY") as caught:
        checked_proxy(Secret(proxy), "HTTPS_PROXY")
    assert CANARY not in str(caught.value)
    assert caught.value.__context__ is None


def test_a_proxy_is_named_without_its_password() -> None:
    assert proxy_name(Secret("http://user:can@ary@proxy.example:3128/")) == "http://proxy.example:3128"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (f"https://u:{CANARY}@h:1/x?key={CANARY}#{CANARY}", "https://h:1/x"),
        (f"http://u:a{CANARY}#b@h/x", "http://h/x"),
        (f"http://u:a{CANARY}/b@h/x", "http://h/x"),
        (f"u:{CANARY}@h:1", "h:1"),
        ("https://evil.example/?next=me@good.example", "https://evil.example/"),
        ("/login?next=me@good.example", "/login"),
        ("//evil.example/x", "//evil.example/x"),
    ],
)
def test_a_message_names_the_host_and_no_password(url: str, shown: str) -> None:
    assert without_password(url) == shown


def test_host_is_scheme_name_and_port() -> None:
    assert host_of("https://API.example.com./v1") == "https://api.example.com:443"
