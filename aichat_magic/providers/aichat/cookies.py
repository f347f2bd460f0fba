"""Cookies of a browser: set in this process, read from a file or from the user's browsers."""

from __future__ import annotations

import importlib
import json
import os
import re
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from http.cookiejar import Cookie, CookieJar, DefaultCookiePolicy
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import Request

from ...core.errors import ConfigError
from ...core.secrets import Environment, Secret
from ...text.words import shorten

_MAX_FILE_BYTES = 16 * 2**20
# RFC 6265 (2011), section 4.1.1, widened by the quote, comma and backslash that browsers send, too.
_NAME = re.compile(r"[!-:<>-~]+")
_VALUE = re.compile(r"[!-:<-~]*")
# A host name, or an IPv6 address; no scheme, port or path.
_DOMAIN = re.compile(r"[^\s/@?#:]+|[0-9a-f:]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredCookie:
    """One cookie as a source holds it.

    Attributes:
        domain: Its host, in lower case, without leading or trailing dots.
        name: Its name.
        value: Its value.
        path: The path it belongs to.
        expires_s: Time of expiry, in seconds since 1970; None for a session cookie.
    """

    domain: str
    name: str
    value: Secret
    path: str = "/"
    expires_s: float | None = None

    @property
    def is_sendable(self) -> bool:
        """Tell whether a `Cookie` header can carry it."""
        return bool(_NAME.fullmatch(self.name) and _VALUE.fullmatch(self.value.reveal()))

    def is_valid(self, now_s: float) -> bool:
        """Tell whether it has not expired."""
        return self.expires_s is None or self.expires_s > now_s


Cookies = tuple[StoredCookie, ...]


def of_domain(domain: str, cookies: Iterable[StoredCookie], now_s: float) -> Cookies:
    """Return the cookies of `domain` and its subdomains that have not expired."""
    policy = DefaultCookiePolicy(allowed_domains=(domain, f".{domain}"))
    return tuple(c for c in cookies if c.is_valid(now_s) and not policy.is_not_allowed(c.domain))


def sendable_to(url: str, cookies: Iterable[StoredCookie]) -> Cookies:
    """Return the cookies that a browser sends to a URL: those of its host and path, over https only.

    Args:
        url: Where the request goes.
        cookies: Cookies that have not expired, to choose from.
    """
    return tuple(cookie for cookie in cookies if _is_sent(cookie, url))


def _is_sent(cookie: StoredCookie, url: str) -> bool:
    """Tell whether `http.cookiejar` would send this cookie. It is not given the value: its repr shows values."""
    parts = urlsplit(url)
    request = Request(f"{parts.scheme}://{_jar_host(parts.hostname or '')}{parts.path}")
    # With this policy and `domain_specified=False` a cookie is sent to exactly its own host.
    jar = CookieJar(DefaultCookiePolicy(strict_ns_domain=DefaultCookiePolicy.DomainStrictNonDomain))
    jar.set_cookie(
        Cookie(
            version=0,
            name=cookie.name,
            value="",
            port=None,
            port_specified=False,
            domain=_jar_host(cookie.domain),
            domain_specified=False,
            domain_initial_dot=False,
            path=cookie.path if cookie.path.startswith("/") else "/",
            path_specified=True,
            secure=True,
            expires=None,
            discard=True,
            comment=None,
            comment_url=None,
            rest={},
        )
    )
    jar.add_cookie_header(request)
    return request.has_header("Cookie")


def _jar_host(host: str) -> str:
    """Return a host as `http.cookiejar` expects it: names without a dot are below ``.local``, colons begin a port."""
    plain = _plain(host).replace(":", "-")
    return plain if "." in plain else f"{plain}.local"


def read_browsers(domain: str) -> Cookies:
    """Read the cookies of the user's browsers for `domain`, and for others that contain its name: filter the result.

    Args:
        domain: A host name.

    Returns:
        The cookies; none if the extra ``aichat-magic[browser]`` is not installed.
    """
    try:
        browsers = importlib.import_module("browser_cookie3")
    except ImportError:
        return ()
    found: list[StoredCookie] = []
    problems: set[str] = set()
    # One by one: `load`, which reads all of them, ends at the first that raises an error of another kind.
    for read in getattr(browsers, "all_browsers", None) or [browsers.load]:
        try:
            found += [_from_browser(cookie) for cookie in read(domain_name=domain)]
        except Exception as error:  # keyrings, locked databases, new formats: any kind of error
            problems.add(type(error).__name__)
    # The error of browser_cookie3 itself means that a browser is not installed.
    problems.discard("BrowserCookieError")
    if problems and not found:
        kinds = ", ".join(sorted(problems))
        warnings.warn(f"The cookies of the browsers could not be read ({kinds}).", UserWarning, stacklevel=2)
    return tuple(found)


def _from_browser(cookie: Cookie) -> StoredCookie:
    """Return the cookie of a browser as a `StoredCookie`."""
    return StoredCookie(
        domain=_plain(cookie.domain),
        name=cookie.name,
        value=Secret(cookie.value or ""),
        path=cookie.path or "/",
        expires_s=_expiry(cookie.expires),
    )


class CookieStore:
    """The cookies of each domain: first those set in this process, then a file, then the browsers.

    The first source with cookies for a domain is used alone; sources are not mixed. Values are kept as `Secret`.
    """

    def __init__(
        self,
        *,
        environ: Mapping[str, str] = os.environ,
        browsers: Callable[[str], Cookies] = read_browsers,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Create an empty store.

        Args:
            environ: The environment; its ``AICHAT_COOKIES``, the path of the file, is read at each lookup.
            browsers: Reads the cookies of the browsers for a domain.
            clock: Returns the seconds since 1970.
        """
        self._environ = Environment(environ)
        self._browsers = browsers
        self._clock = clock
        self._set: dict[str, Cookies] = {}
        self._file: tuple[tuple[str, int, int], Cookies] | None = None
        self._from_browsers: dict[str, Cookies] = {}

    def set(self, domain: str, found: Cookies) -> None:
        """Set the cookies for `domain`, in place of earlier ones; without any, forget it and read the browsers again.

        Raises:
            ConfigError: `domain` is not a domain.
        """
        domain = checked_domain(domain)
        self._from_browsers.pop(domain, None)
        self._set[domain] = found

    def find(self, domain: str) -> Cookies:
        """Return the cookies of `domain` and its subdomains that have not expired.

        Raises:
            ConfigError: `domain` is not a domain, or the file cannot be used.
        """
        domain = checked_domain(domain)
        now_s = self._clock()
        for source in (self._set_here, self._in_file, self._in_browsers):
            if found := of_domain(domain, source(domain), now_s):
                return found
        return ()

    def _set_here(self, domain: str) -> Iterable[StoredCookie]:
        """Return the cookies that `set` was given, of any domain."""
        return [cookie for found in self._set.values() for cookie in found]

    def _in_file(self, domain: str) -> Cookies:
        """Return the cookies of the file; it is read again only after it has changed."""
        named = self._environ.get("AICHAT_COOKIES", "")
        if not named:
            return ()
        path = Path(named).expanduser()
        try:
            stat = path.stat()
        except (OSError, ValueError):
            raise ConfigError(
                f"AICHAT_COOKIES names {shorten(named)!r}, which is not there. Export cookies.txt to it, or unset it."
            ) from None
        version = (named, stat.st_mtime_ns, stat.st_size)
        if self._file is None or self._file[0] != version:
            self._file = (version, read_cookie_file(path))
        found = of_domain(domain, self._file[1], self._clock())
        bad = next((cookie.name for cookie in found if not cookie.is_sendable), None)
        if bad is not None:
            raise ConfigError(
                f"{path} holds a cookie {shorten(bad, 40)!r} with a character that no cookie can have. "
                "Export the file again, or remove its line."
            )
        return found

    def _in_browsers(self, domain: str) -> Cookies:
        """Return the cookies of the browsers. Reading is slow, so cookies that were found are kept."""
        now_s = self._clock()
        if not of_domain(domain, self._from_browsers.get(domain, ()), now_s):
            self._from_browsers[domain] = tuple(
                cookie for cookie in of_domain(domain, self._browsers(domain), now_s) if cookie.is_sendable
            )
        return self._from_browsers[domain]


def checked_domain(domain: str) -> str:
    """Return `domain` in lower case, without leading or trailing dots.

    Raises:
        ConfigError: It is empty, or more than a host name.
    """
    plain = _plain(domain)
    if not _DOMAIN.fullmatch(plain):
        raise ConfigError("Cookies belong to a domain such as 'chat-gpt.org': no scheme, port or path.")
    return plain


def cookies_from(domain: str, cookies: Any) -> tuple[str, Cookies]:
    """Make session cookies from a mapping of names to values.

    It raises nothing: tracebacks can show the variables of every frame, so the caller drops the mapping first.

    Args:
        domain: Their domain; empty if it is not known yet.
        cookies: Values by name.

    Returns:
        The problem, without values, empty if there is none; and the cookies.
    """
    if not isinstance(cookies, Mapping) or not all(isinstance(text, str) for pair in cookies.items() for text in pair):
        return "Cookies must be a mapping of names to values, both texts.", ()
    found = tuple(
        StoredCookie(domain=_plain(domain), name=name, value=Secret(value)) for name, value in cookies.items()
    )
    bad = next((cookie.name for cookie in found if not cookie.is_sendable), None)
    if bad is None:
        return "", found
    return (
        f"The cookie {shorten(bad, 40)!r} holds a space, a line end or another character that no cookie can have. "
        "It was not sent. Copy it from the browser again.",
        (),
    )


def read_cookie_file(path: Path) -> Cookies:
    """Read a ``cookies.txt`` or a JSON export.

    Args:
        path: The file.

    Returns:
        All of its cookies, of every domain, expired ones too.

    Raises:
        ConfigError: It cannot be read, or is neither. The error names the place and shows no value.
    """
    try:
        with path.open("rb") as file:
            text = Secret(file.read(_MAX_FILE_BYTES + 1).decode("utf-8-sig"))
            is_too_large = file.tell() > _MAX_FILE_BYTES
    except OSError as error:
        problem = f"cannot be read ({error.strerror})."
    except UnicodeDecodeError:
        problem = "is not text in UTF-8."
    else:
        if not is_too_large:
            return parse_cookies(text, str(path))
        problem = f"is larger than {_MAX_FILE_BYTES // 2**20} MB."
    # Outside the `except`, because the error of the decoder holds the bytes.
    raise ConfigError(f"The file of cookies {path} {problem}")


def parse_cookies(text: Secret, source: str) -> Cookies:
    """Parse the text of a file: a Netscape ``cookies.txt`` or the JSON export of a browser extension.

    Args:
        text: The text; a secret as a whole.
        source: Its origin, for the error.

    Returns:
        The cookies in order.

    Raises:
        ConfigError: It is neither. The error names the place and shows no value.
    """
    parse = _parse_json if text.reveal().lstrip()[:1] in ("[", "{") else _parse_netscape
    problem, found = parse(text.reveal())
    # Raised here, where no variable holds the value of a cookie: tracebacks can show the variables of every frame.
    if problem:
        raise ConfigError(f"The file of cookies {source}: {problem}")
    return found


def _parse_netscape(text: str) -> tuple[str, Cookies]:
    """Return the problem with a ``cookies.txt``, empty if there is none, and its cookies.

    `http.cookiejar.MozillaCookieJar` refuses files without a certain first line and lines whose flag disagrees with the
    dot before the domain, takes expiry 0 (a session, as Chrome's exporters write it) for long ago, reads in the
    encoding of the locale, and its errors show the line with the value. What remains is splitting at tabs.
    """
    found = []
    for number, line in enumerate(text.split("\n"), start=1):
        line = line.rstrip("\r").removeprefix("#HttpOnly_")
        if not line.strip() or line.startswith("#"):
            continue
        fields = line.split("\t")
        # Editors that trim lines also remove the tab before an empty value.
        if len(fields) not in (6, 7):
            return f"line {number} has {len(fields)} fields; cookies.txt has 7, with tabs between them.", ()
        domain, _, path, _, expires, name, value = (*fields, "")[:7]
        try:
            found.append(_stored(domain, name, value, path, expires))
        except ValueError as error:
            return f"line {number}: {error}", ()
    return "", tuple(found)


def _parse_json(text: str) -> tuple[str, Cookies]:
    """Return the problem with a JSON export, empty if there is none, and its cookies."""
    expected = "JSON must be a list of objects with domain, name and value."
    try:
        entries = json.loads(text)
    except (ValueError, RecursionError):
        return "it begins like JSON but is not.", ()
    if isinstance(entries, dict):  # browser drivers wrap the list
        entries = entries.get("cookies")
    if not isinstance(entries, list):
        return expected, ()
    found = []
    for number, entry in enumerate(entries, start=1):
        if not isinstance(entry, dict):
            return f"entry {number}: {expected}", ()
        expires = next((entry[key] for key in ("expirationDate", "expires", "expiry") if key in entry), None)
        try:
            found.append(
                _stored(
                    entry.get("domain"),
                    entry.get("name"),
                    entry.get("value"),
                    entry.get("path") or "/",
                    None if entry.get("session") is True else expires,
                )
            )
        except ValueError as error:
            return f"entry {number}: {error}", ()
    return "", tuple(found)


def _stored(domain: Any, name: Any, value: Any, path: Any, expires: Any) -> StoredCookie:
    """Return one cookie of a file.

    Raises:
        ValueError: A field cannot be used; the error names it and does not show its content.
    """
    texts = {"domain": domain, "name": name, "value": value, "path": path}
    for field, text in texts.items():
        if not isinstance(text, str):
            raise ValueError(f"its {field} is missing or no text.")
    if not _plain(domain):
        raise ValueError("its domain is empty.")
    return StoredCookie(
        domain=_plain(domain), name=name, value=Secret(value), path=path or "/", expires_s=_expiry(expires)
    )


def _expiry(value: Any) -> float | None:
    """Return the seconds since 1970, or None for a session cookie: no time, 0 or -1, as exporters write it."""
    if value is None or value == "":
        return None
    try:
        seconds = float(value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError("its time of expiry is no number.") from None
    return None if seconds <= 0 else seconds


def _plain(domain: str) -> str:
    """Return a domain in lower case, without leading or trailing dots."""
    return domain.strip().strip(".").lower()


# State of the module, on purpose: `set_cookies` is a function by contract, so its cookies must be kept for the whole
# process. Everything else takes a store as an argument.
PROCESS_COOKIES = CookieStore()


def known_cookies(domain: str) -> Cookies:
    """Return the cookies of `domain` and its subdomains that this process knows, values hidden.

    Raises:
        ConfigError: `domain` is not a domain, or the file cannot be used.
    """
    return PROCESS_COOKIES.find(domain)


def get_cookies(domain: str) -> dict[str, str]:
    """Return names and values of the cookies for `domain` and its subdomains, in plain text.

    The sources, in order: `set_cookies`, the file that ``AICHAT_COOKIES`` names (``cookies.txt`` or JSON), and the
    browsers if the extra ``aichat-magic[browser]`` is installed.

    Args:
        domain: A host name: ``"chat-gpt.org"``.

    Returns:
        Values by name; of equal names, that of the domain itself goes before those of its subdomains.

    Raises:
        ConfigError: `domain` is not a domain, or the file cannot be used.
    """
    plain = checked_domain(domain)
    found = sorted(known_cookies(plain), key=lambda cookie: cookie.domain == plain)
    return {cookie.name: cookie.value.reveal() for cookie in found}


def set_cookies(domain: str, cookies: Mapping[str, str]) -> None:
    """Set the cookies for `domain` until the process ends, in place of those set before.

    Args:
        domain: A host name: ``"chat-gpt.org"``.
        cookies: Values by name; an empty mapping forgets the domain.

    Raises:
        ConfigError: `domain` is not a domain, or a header cannot carry one of the cookies.
    """
    problem, found = cookies_from(domain, cookies)
    del cookies
    if problem:
        raise ConfigError(problem)
    PROCESS_COOKIES.set(domain, found)
