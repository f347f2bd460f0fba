"""Everything that can go wrong, as one tree.

::

    AichatError
    ├── BadInputError (ValueError)         refused before anything is sent
    │   ├── OptionError                    a sampling option outside its range
    │   ├── PromptError                    an empty prompt, an unknown placeholder
    │   ├── UnknownNameError               no such provider, option or conversation; names the nearest
    │   └── ConfigError                    a setting, a URL, a key that cannot be used
    ├── MissingKeyError                  F the provider needs a key and there is none
    ├── MissingExtraError (ImportError)  F a package that is not installed
    ├── NotWorkingError                  F a provider that is known not to work now
    ├── CookiesRequiredError (RuntimeError)  F  no cookies from a browser
    ├── ModelFileError                   F the weights cannot be fetched, verified or loaded
    ├── NestedCallError (RuntimeError)     called from inside one of our own callbacks
    ├── UnexpectedError                    a provider raised what is not of this tree
    ├── BatchStoppedError                  a run over rows ended before its last row
    └── ProviderError                      the other side, or the way to it
        ├── ConnectionFailedError       R  refused, reset, disconnected
        │   ├── HostNotFoundError       RF no host of this name
        │   ├── NotRunningError         R  nobody listens at an address of this machine
        │   └── TooManyOpenFilesError   R  this process has no file descriptor left
        ├── TLSError                     F a certificate that does not hold
        ├── DeadlineError               R  the total deadline or the idle time ran out (TimeoutError)
        ├── IncompleteReplyError        R  cut before its end
        ├── TooLargeError                  more bytes than the cap
        ├── RedirectError                F sent elsewhere; not followed
        ├── MalformedReplyError            what came is not what the dialect promises
        ├── RefusedReplyError              the provider says that it has no reply
        ├── EmptyReplyError                a reply without an answer: cut before its first word, filtered, refused
        │   └── BlankReplyError         R  for no reason that the provider gives
        ├── StreamError                    an error inside a response that began well
        └── StatusError                    an HTTP status of 400 or more
            ├── BadRequestError            400, 405, 406, 413, 415, 422 and other 4xx
            ├── AuthenticationError      F 401
            ├── PermissionDeniedError    F 403
            ├── NotFoundError            F 404
            ├── QuotaError               F 402, or 429 for an exhausted quota
            ├── RateLimitError          R  429
            └── ServerError             R  408, 409, 425, 5xx

``R``: trying again can help (`is_retryable`). ``F``: every other request of the same run would fail alike
(`is_fatal`). A message says what happened, then what to do. No message holds a key, a
cookie or a whole prompt.
"""

from __future__ import annotations

from typing import Any, ClassVar


class AichatError(Exception):
    """The root: `except AichatError` catches all that this package raises on purpose.

    Attributes:
        is_retryable: Whether the same request, sent again, can succeed.
        is_fatal: Whether every other request to the same place would fail alike, so that a run over rows stops.
    """

    is_retryable: ClassVar[bool] = False
    is_fatal: ClassVar[bool] = False


class BadInputError(AichatError, ValueError):
    """What the caller gave cannot be used. Nothing was sent."""


class OptionError(BadInputError):
    """A sampling option is outside its range."""


class PromptError(BadInputError):
    """The prompt is empty, or a placeholder in it cannot be filled."""


class UnknownNameError(BadInputError):
    """There is nothing of this name. The message names the nearest one that exists."""


class ConfigError(BadInputError):
    """A setting, a URL or a key cannot be used as it is."""


class MissingKeyError(AichatError):
    """The provider needs a key, and there is none for its host."""

    is_fatal = True


class MissingExtraError(AichatError, ImportError):
    """An optional package is not installed. The message holds the command that installs it."""

    is_fatal = True


class NotWorkingError(AichatError):
    """The provider is known not to work at present. The message says how to go on."""

    is_fatal = True


class CookiesRequiredError(AichatError, RuntimeError):
    """The provider needs cookies from a browser, and there are none."""

    is_fatal = True


class ModelFileError(AichatError):
    """The weights of the embedded model cannot be fetched, verified or loaded."""

    is_fatal = True


class NestedCallError(AichatError, RuntimeError):
    """A synchronous call was made from inside code that this package itself is running."""


class UnexpectedError(AichatError):
    """Something outside this tree was raised where only this tree is expected."""


class BatchStoppedError(AichatError):
    """A run over rows ended before its last row. The rows that were finished are kept.

    Attributes:
        run: The run, with its replies and errors; None when it did not begin.
    """

    def __init__(self, message: str, *, run: Any = None) -> None:
        """Keep the run beside the message."""
        super().__init__(message)
        self.run = run


class ProviderError(AichatError):
    """The other side, or the way to it, failed.

    Attributes:
        provider: Name of the provider, such as ``"openai"``; empty when it is not known.
        retry_after_s: Seconds the server asked to wait before the next attempt, > 0, or None.
    """

    def __init__(self, message: str, *, provider: str = "", retry_after_s: float | None = None) -> None:
        """Keep what a program needs beside the message."""
        super().__init__(message)
        self.provider = provider
        self.retry_after_s = retry_after_s


class ConnectionFailedError(ProviderError):
    """No connection, or it broke before the response began."""

    is_retryable = True


class HostNotFoundError(ConnectionFailedError):
    """There is no host of this name, or no way to look it up."""

    is_fatal = True


class NotRunningError(ConnectionFailedError):
    """Nobody listens at an address of this machine: a local server that was not started."""


class TooManyOpenFilesError(ConnectionFailedError):
    """This process, or the system, has no file descriptor left for a connection. Nothing was sent."""


class TLSError(ProviderError):
    """The server's certificate does not hold, or TLS could not be agreed on."""

    is_fatal = True


class DeadlineError(ProviderError, TimeoutError):
    """The total deadline of the request, or the longest silence allowed, has passed."""

    is_retryable = True


class IncompleteReplyError(ProviderError):
    """The response ended before its end: a reset, a short body, a stream without its last event."""

    is_retryable = True


class TooLargeError(ProviderError):
    """The response is larger than the cap."""


class RedirectError(ProviderError):
    """The server redirected the request; it was not followed."""

    is_fatal = True


class MalformedReplyError(ProviderError):
    """The response is not what the dialect promises: no JSON, HTML, a missing field."""


class RefusedReplyError(ProviderError):
    """The provider answered, and says that it has no reply to give."""


class EmptyReplyError(ProviderError):
    """The reply is there and paid for, but it holds no answer. The message says why, and what to change.

    Attributes:
        finish_reason: Why the reply ended: ``length``, ``content_filter``, ``refusal``, ``tool_calls`` or ``stop``.
    """

    def __init__(
        self, message: str, *, provider: str = "", retry_after_s: float | None = None, finish_reason: str = "stop"
    ) -> None:
        """Keep why the reply ended beside the message."""
        super().__init__(message, provider=provider, retry_after_s=retry_after_s)
        self.finish_reason = finish_reason


class BlankReplyError(EmptyReplyError):
    """The reply has no text, and the provider gives no reason."""

    is_retryable = True


class StreamError(ProviderError):
    """The server reported an error in a response that had begun with status 200, streamed or whole."""


class StatusError(ProviderError):
    """The server answered with a status of 400 or more.

    Attributes:
        status: The HTTP status.
    """

    def __init__(self, message: str, *, status: int, provider: str = "", retry_after_s: float | None = None) -> None:
        """Keep the status beside the message."""
        super().__init__(message, provider=provider, retry_after_s=retry_after_s)
        self.status = status


class BadRequestError(StatusError):
    """The server does not accept this request (400, 413, 422 and other 4xx)."""


class AuthenticationError(StatusError):
    """The server does not accept the key (401)."""

    is_fatal = True


class PermissionDeniedError(StatusError):
    """The key may not do this (403)."""

    is_fatal = True


class NotFoundError(StatusError):
    """No such model or address on the server (404)."""

    is_fatal = True


class QuotaError(StatusError):
    """The account has nothing left to spend (402, or 429 with an exhausted quota)."""

    is_fatal = True


class RateLimitError(StatusError):
    """Too many requests for now (429)."""

    is_retryable = True


class ServerError(StatusError):
    """The server is in trouble or busy (408, 409, 425 and 5xx)."""

    is_retryable = True


class ChatInterrupt(KeyboardInterrupt):
    """The user interrupted a call: the one form in which every interrupt leaves this package.

    It shows as one line in IPython, and it stops queued cells as any `KeyboardInterrupt` does.
    """

    def __init__(self, message: str = "Interrupted.") -> None:
        """Keep the one line that is shown."""
        super().__init__(message)

    def _render_traceback_(self) -> list[str]:
        """What IPython shows instead of a traceback."""
        return [f"{type(self).__name__}: {self}"]
