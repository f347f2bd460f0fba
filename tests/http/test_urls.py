"""The destination of a request, and its proxy."""

from __future__ import annotations

import pytest

from aichat_magic.http.urls import origin_of, proxy_for


def proxied(url, **environ):
    proxy = proxy_for(*origin_of(url), environ)
    return proxy and proxy.reveal()


def test_a_url_has_scheme_host_and_port():
    assert origin_of("https://API.Example.com/v1") == ("https", "api.example.com", 443)
    assert origin_of("http://[::1]:8080/v1") == ("http", "::1", 8080)


def test_the_environment_names_a_proxy_for_each_scheme():
    both = {"HTTP_PROXY": "http://a:1", "https_proxy": "b:2"}
    assert proxied("http://example.com", **both) == "http://a:1"
    assert proxied("https://example.com", **both) == "http://b:2"
    assert proxied("https://example.com", ALL_PROXY="socks://c:3") == "socks5://c:3"
    assert proxied("https://example.com", HTTP_PROXY="http://a:1") is None
    assert proxied("http://example.com", http_proxy="low:1", HTTP_PROXY="high:1") == "http://low:1"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.8.8", "[::1]", "x.localhost"])
def test_this_machine_is_never_asked_for_at_a_proxy(host):
    assert proxied(f"http://{host}:11434", HTTP_PROXY="http://a:1", ALL_PROXY="http://a:1") is None


@pytest.mark.parametrize(
    ("no_proxy", "url", "is_direct"),
    [
        ("*", "http://example.com", True),
        ("example.com", "http://example.com", True),
        ("example.com", "http://api.example.com", True),
        (".example.com", "http://api.example.com", True),
        ("*.example.com", "http://api.example.com", True),
        ("example.com", "http://notexample.com", False),
        ("a.org, example.com:8080", "http://example.com:8080", True),
        ("example.com:8080", "http://example.com", False),
        ("10.0.0.0/8", "http://10.1.2.3", True),
        ("10.0.0.0/8", "http://11.1.2.3", False),
        ("10.1.2.3", "http://10.1.2.3", True),
        ("fe80::/10", "http://[fe80::1]", True),
        ("::2", "http://[::2]:8", True),
        ("EXAMPLE.com", "http://example.com.", True),
    ],
)
def test_no_proxy_names_hosts_domains_and_networks(no_proxy, url, is_direct):
    assert (proxied(url, HTTP_PROXY="http://a:1", NO_PROXY=no_proxy) is None) is is_direct
