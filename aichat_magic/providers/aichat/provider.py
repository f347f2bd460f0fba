"""The historical provider `Aichat` of https://chat-gpt.org, and its synchronous form `create_completion`."""

from __future__ import annotations

import contextlib
import dataclasses
import html
import os
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, cast
from urllib.parse import urlsplit

from ...core.endpoints import Preset
from ...core.errors import (
    BadInputError,
    ConfigError,
    CookiesRequiredError,
    MalformedReplyError,
    RefusedReplyError,
)
from ...core.installation import install_command
from ...core.messages import ChatRequest, Reply
from ...core.options import Options
from ...core.secrets import Secret
from ...core.settings import load_settings
from ...http.client import Cookie, HttpClient, HttpRequest, HttpResponse
from ...text.words import shorten
from ..base import AsyncProvider, Messages
from ..dialect import encode_json
from .cookies import StoredCookie, cookies_from, known_cookies, sendable_to
from .prompt import format_prompt, messages_of

_MODEL = "gpt-3.5-turbo"
_SITE = "https://chat-gpt.org"
_CONNECT_TIMEOUT_S = 6.0
# The newest Chrome that curl_cffi knew in November 2026, with its hints. User agent and hints must name one version.
_CHROME = "150"
_CHROME_HEADERS = (
    ("sec-ch-ua", f'"Not;A=Brand";v="8", "Chromium";v="{_CHROME}", "Google Chrome";v="{_CHROME}"'),
    ("sec-ch-ua-mobile", "?0"),
    ("sec-ch-ua-platform", '"Windows"'),
    (
        "user-agent",
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
        f"Chrome/{_CHROME}.0.0.0 Safari/537.36",
    ),
)
_FETCH_HEADERS = (("sec-fetch-dest", "empty"), ("sec-fetch-mode", "cors"), ("sec-fetch-site", "same-origin"))
_KEYWORDS = ("cookies", "temperature", "top_p", "timeout", "verify", "impersonate", "base_url")


class Aichat(AsyncProvider):
    """The web chat at https://chat-gpt.org, asked in the same way as by its own page.

    The service requires the cookies of a browser that has its page open, and all messages are sent as one text
    (`format_prompt`). Another server with the same API is reached with a `base_url`; it gets the cookies of its own
    host, and needs none.

    The headers are those of a desktop Chrome, but the TLS fingerprint (the order of ciphers and extensions in the
    handshake) is not: httpx cannot copy one, and a server that compares the two can tell. ``impersonate="chrome"``
    copies it with the extra ``aichat-magic[impersonate]``.
    """

    url = f"{_SITE}/chat"
    working = False
    not_working_reason = "its web service is known not to work at present."
    supports_gpt_35_turbo = True
    presets: ClassVar[Mapping[str, Preset]] = MappingProxyType({"aichat": Preset(base_url=_SITE, default_model=_MODEL)})

    async def complete(self, request: ChatRequest) -> Reply:
        """Return the whole reply at once.

        Raises:
            CookiesRequiredError: There are no cookies for the service.
            BadInputError: The service does not have the model or an option.
            ProviderError: The service or the connection to it failed.
        """
        return await self._ask(request)

    async def models(self) -> list[str]:
        """Return the name of the one model."""
        return [_MODEL]

    @classmethod
    async def create_async(cls, model: str, messages: Messages, proxy: str | None = None, **kwargs: Any) -> str:
        """Return the text of one reply, without retry, history or store, and even though `working` is False.

        Args:
            model: ``gpt-3.5-turbo``.
            messages: `Message` values or ``{"role": ..., "content": ...}`` mappings.
            proxy: URL of a proxy.
            **kwargs: `cookies` (values by name; default: those of `get_cookies`), `temperature` (default: 0.5), `top_p`
                (default: 1), `timeout` (of the whole call, in seconds), `verify` (whether to check the certificate;
                default: True), `impersonate` (name of a browser) and `base_url`.

        Returns:
            The text of the reply.

        Raises:
            UnknownNameError: There is no such keyword; the error names the nearest one.
            AichatError: The same errors as `complete`.
        """
        # First, because tracebacks can show the variables of every frame.
        problem, cookies = cookies_from("", kwargs.pop("cookies", None) or {})
        secret_proxy = Secret(proxy or "")
        del proxy
        cls._check_keywords(kwargs, _KEYWORDS)
        if problem:
            raise ConfigError(problem)
        given = {name: value for name, value in kwargs.items() if value is not None}
        # The service's own address unless this call names another: AICHAT_BASE_URL is meant for the model of the magic.
        endpoint = load_settings(os.environ).endpoint(
            "aichat", cls.presets["aichat"], base_url=given.get("base_url") or _SITE, proxy=secret_proxy
        )
        options = Options(temperature=given.get("temperature"), top_p=given.get("top_p"))
        timeout = {"timeout_s": given["timeout"]} if "timeout" in given else {}
        request = ChatRequest(model=model, messages=messages_of(messages), options=options, **timeout)
        async with contextlib.aclosing(HttpClient()) as http:
            reply = await cls(endpoint, http)._ask(
                request, cookies, verify=given.get("verify", True), impersonate=given.get("impersonate")
            )
        return reply.text

    async def _ask(
        self,
        request: ChatRequest,
        cookies: tuple[StoredCookie, ...] = (),
        *,
        verify: bool = True,
        impersonate: str | None = None,
    ) -> Reply:
        """Send a request and return the reply, for `complete` and `create_async`."""
        response = await self._http.send(self._post(request, cookies, verify=verify, impersonate=impersonate))
        return Reply(text=self._text(response), model=f"{self.name}/{request.model}")

    def _post(
        self, request: ChatRequest, cookies: tuple[StoredCookie, ...], *, verify: bool, impersonate: str | None
    ) -> HttpRequest:
        """Return the HTTP request for a chat request."""
        if request.model != _MODEL:
            raise BadInputError(
                f"Provider {self.name!r} serves only the model {_MODEL!r}, not {shorten(request.model, 60)!r}."
            )
        if not isinstance(verify, bool) or not isinstance(impersonate, str | None):
            raise BadInputError("verify must be True or False, and impersonate the name of a browser: 'chrome'.")
        url = f"{self.endpoint.base_url}/api/text"
        site = urlsplit(url)
        return HttpRequest(
            provider=self.name,
            url=url,
            body=encode_json({"message": format_prompt(request.messages), **self._wire_options(request.options)}),
            headers=(
                ("authority", site.netloc),
                ("accept", "*/*"),
                ("accept-language", "en-US,en;q=0.9"),
                ("content-type", "application/json"),
                ("origin", f"{site.scheme}://{site.netloc}"),
                ("referer", f"{self.endpoint.base_url}/chat"),
                *_FETCH_HEADERS,
                # A fingerprint comes with the headers of its own version.
                *(_CHROME_HEADERS if impersonate is None else ()),
            ),
            cookies=self._cookies(url, cookies),
            proxy=self.endpoint.proxy,
            timeout_s=request.timeout_s,
            connect_timeout_s=min(_CONNECT_TIMEOUT_S, request.timeout_s),
            verify=verify,
            impersonate=impersonate,
        )

    def _wire_options(self, options: Options) -> dict[str, Any]:
        """Return the sampling options under the names that the service uses, in its order."""
        wire = {"temperature": 0.5, "presence_penalty": 0, "top_p": 1, "frequency_penalty": 0}
        given = options.sent()
        flags = {"extra": "-O (options)"}
        unknown = [flags.get(name, f"--{name.replace('_', '-')}") for name in given if name not in wire]
        if unknown:
            raise BadInputError(
                f"Provider {self.name!r} cannot take {', '.join(unknown)}. Leave it out, or choose another model."
            )
        return {**wire, **given}

    def _cookies(self, url: str, given: tuple[StoredCookie, ...]) -> tuple[Cookie, ...]:
        """Choose the cookies that go to a URL: those given for this call, else those known for its host.

        Raises:
            ConfigError: Cookies are given and the URL is plain http, or the cookie file cannot be used.
            CookiesRequiredError: There are none for the service itself.
        """
        parts = urlsplit(url)
        host = (parts.hostname or "").rstrip(".")
        if given and parts.scheme != "https":
            raise ConfigError("Cookies are sent over https only, and the base URL is plain http.")
        found = tuple(dataclasses.replace(cookie, domain=host) for cookie in given) or known_cookies(host)
        chosen = sendable_to(url, found)
        if not chosen and f"{parts.scheme}://{host}" == _SITE:
            raise CookiesRequiredError(
                f"{type(self).__name__} (provider {self.name!r}) requires cookies. Open {_SITE} in a browser, then "
                f"pass its cookies in one of three ways: set_cookies({host!r}, {{...}}) from "
                "aichat_magic.providers.aichat (or cookies={...} for one call); a file, cookies.txt or a JSON export, "
                f"named in AICHAT_COOKIES; straight from the browser, after {install_command('browser')}."
            )
        return tuple(Cookie(name=cookie.name, value=cookie.value) for cookie in chosen)

    def _text(self, response: HttpResponse) -> str:
        """Return the text of the reply in a response."""
        if not response.body.strip():
            raise self._malformed("it is empty", response)
        content = response.json()
        if not isinstance(content, dict):
            raise self._malformed("it is not a JSON object", response)
        if not content.get("response"):
            raise RefusedReplyError(
                f"Provider {self.name!r} has no reply to give. It said: {_extract(response.body)}", provider=self.name
            )
        if not isinstance(content.get("message"), str):
            raise self._malformed("it has no 'message' that is a text", response)
        return cast("str", content["message"])

    def _malformed(self, reason: str, response: HttpResponse) -> MalformedReplyError:
        """Return the error for a response that the service does not have."""
        return MalformedReplyError(
            f"The answer of provider {self.name!r} cannot be read: {reason}: {_extract(response.body)}",
            provider=self.name,
        )


def create_completion(model: str, messages: Messages, proxy: str | None = None, **kwargs: Any) -> str:
    """Call `Aichat.create_async` in synchronous code, inside and outside a running event loop.

    Args:
        model: ``gpt-3.5-turbo``.
        messages: `Message` values or ``{"role": ..., "content": ...}`` mappings.
        proxy: URL of a proxy.
        **kwargs: The keywords of `Aichat.create_async`.

    Returns:
        The text of the reply.

    Raises:
        AichatError: The same errors as `Aichat.create_async`.
    """
    from ...core.sync import run_sync  # only synchronous callers need it

    call = Aichat.create_async(model, messages, proxy, **kwargs)
    # Tracebacks can show the variables of every frame.
    del proxy, kwargs
    return run_sync(call)


def _extract(body: bytes) -> str:
    """Return the beginning of a body as one line without markup."""
    words = shorten(body[:1000].decode("utf-8", "replace"), 100)
    return html.escape(words, quote=False) or "nothing."
