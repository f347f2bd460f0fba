"""The tree of errors.

::

    AichatError
    ├── BadInputError (ValueError)         refused before anything is sent
    │   ├── OptionError                    a sampling option outside its range
    │   ├── PromptError                    an empty prompt, an unknown placeholder
    │   ├── UnknownNameError               no such provider, option or conversation; names the nearest
    │   └── ConfigError                    a setting, a URL, a key that cannot be used
    ├── MissingKeyError                  F the provider needs a key and there is none
    ├── MissingExtraError (ImportError)  F a package is not installed
    ├── NotWorkingError                  F the provider is known not to work now
    ├── CookiesRequiredError (RuntimeError)  F  no cookies from a browser
    ├── ModelFileError                   F the model file cannot be downloaded, verified or loaded
    ├── NestedCallError (RuntimeError)     called from inside one of our own callbacks
    ├── UnexpectedError                    a provider raised an exception outside this tree
    ├── BatchStoppedError                  a batch ended before its last row
    └── ProviderError                      the server, or the connection to it
        ├── ConnectionFailedError       R  refused, reset, disconnected
        │   ├── HostNotFoundError       RF no host has this name
        │   ├── NotRunningError         R  no server listens at an address of this machine
        │   └── TooManyOpenFilesError   R  this process has no file descriptor left
        ├── TLSError                     F the certificate is not valid
        ├── DeadlineError               R  the total deadline or the idle time ran out (TimeoutError)
        ├── IncompleteReplyError        R  the response ended too early
        ├── TooLargeError                  more bytes than the limit
        ├── RedirectError                F a redirect, which was not followed
        ├── MalformedReplyError            the response is not valid in the provider's dialect
        ├── RefusedReplyError              the provider says that it has no reply
        ├── EmptyReplyError                a reply without an answer: cut off, filtered, refused
        │   └── BlankReplyError         R  and the provider gives no reason
        ├── StreamError                    an error inside a response with status 200
        └── StatusError                    an HTTP status of 400 or more
            ├── BadRequestError            400, 405, 406, 413, 415, 422 and other 4xx
            │   ├── UnsupportedOptionError     an option that the server or the model does not have
            │   ├── ContextLengthError         more tokens than the model takes (400, 413, 422, 429)
            │   └── FlaggedPromptError         a prompt that the server's filters refuse (400, 403, 422, 451)
            ├── AuthenticationError      F 401
            ├── PermissionDeniedError      403
            ├── NotFoundError            F 404
            ├── QuotaError               F 402, or 429 for a quota that is used up: money, or a day's requests
            ├── RateLimitError          R  429
            │   └── NoCapacityError     R  429 or 498: the server has no capacity, whoever asks
            └── ServerError             R  408, 409, 425, 5xx
                └── ModelLoadingError   R  503 while the server loads the model

``R``: trying again can help (`is_retryable`). ``F``: every other request of the same run would fail alike
(`is_fatal`). A message says what happened, then what to do. No message holds a key, a
cookie or a whole prompt.
"""

from __future__ import annotations

from typing import Any, ClassVar

from .rate_limits import RateLimits


class AichatError(Exception):
    """The root of the tree: `except AichatError` catches everything that this package raises on purpose.

    Attributes:
        is_retryable: Whether the same request, sent again, can succeed.
        is_fatal: Whether every other request to the same place would fail alike, so that a batch stops.
    """

    is_retryable: ClassVar[bool] = False
    is_fatal: ClassVar[bool] = False

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the message and the attributes: the `__init__` of a subclass may want more than a message."""
        return _unpickled, (type(self), self.args), self.__dict__


def _unpickled(cls: type[AichatError], args: tuple[Any, ...]) -> AichatError:
    """Return an error with these arguments and no attributes yet."""
    error = cls.__new__(cls, *args)
    error.args = args
    return error


class BadInputError(AichatError, ValueError):
    """Input that cannot be used. Nothing was sent."""


class OptionError(BadInputError):
    """A sampling option outside its range."""


class PromptError(BadInputError):
    """A prompt that is empty, or a placeholder that cannot be filled."""


class UnknownNameError(BadInputError):
    """A name that does not exist. The message names the nearest one that does."""


class ConfigError(BadInputError):
    """A setting, a URL or a key that cannot be used as it is."""


class MissingKeyError(AichatError):
    """No key for the host of a provider that needs one."""

    is_fatal = True


class MissingExtraError(AichatError, ImportError):
    """An optional package that is not installed. The message holds the command that installs it."""

    is_fatal = True


class NotWorkingError(AichatError):
    """A provider that is known not to work at present. The message says how to go on."""

    is_fatal = True


class CookiesRequiredError(AichatError, RuntimeError):
    """No cookies for a provider that needs those of a browser."""

    is_fatal = True


class ModelFileError(AichatError):
    """A model file that cannot be downloaded, verified or loaded."""

    is_fatal = True


class NestedCallError(AichatError, RuntimeError):
    """A synchronous call from inside code that this package itself is running."""


class UnexpectedError(AichatError):
    """An exception outside this tree where only this tree is expected."""


class BatchStoppedError(AichatError):
    """A batch that ended before its last row. The finished rows are kept.

    Attributes:
        run: The run, with its replies and errors; None if it did not begin.
    """

    def __init__(self, message: str, *, run: Any = None) -> None:
        """Store the run with the message."""
        super().__init__(message)
        self.run = run

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the error without its run, which holds connections."""
        return _unpickled, (type(self), self.args), {**self.__dict__, "run": None}


class ProviderError(AichatError):
    """A failure of the server, or of the connection to it.

    Attributes:
        provider: Name of the provider, such as ``"openai"``; empty when it is not known.
        retry_after_s: Seconds the server asked to wait before the next attempt, > 0, or None.
    """

    def __init__(self, message: str, *, provider: str = "", retry_after_s: float | None = None) -> None:
        """Store what a program needs with the message."""
        super().__init__(message)
        self.provider = provider
        self.retry_after_s = retry_after_s


class ConnectionFailedError(ProviderError):
    """No connection, or one that broke before the response began."""

    is_retryable = True


class HostNotFoundError(ConnectionFailedError):
    """No host of this name, or no means to look it up."""

    is_fatal = True


class NotRunningError(ConnectionFailedError):
    """No server at an address of this machine: one that was not started."""


class TooManyOpenFilesError(ConnectionFailedError):
    """No file descriptor left for a connection, in this process or the system. Nothing was sent."""


class TLSError(ProviderError):
    """A certificate that is not valid, or a TLS handshake that failed."""

    is_fatal = True


class DeadlineError(ProviderError, TimeoutError):
    """A timeout: of the whole request, or between two parts of the response."""

    is_retryable = True


class IncompleteReplyError(ProviderError):
    """A response that ended too early: a reset, a short body, a stream without its last event."""

    is_retryable = True


class TooLargeError(ProviderError):
    """A response larger than the limit."""


class RedirectError(ProviderError):
    """A redirect by the server, which was not followed."""

    is_fatal = True


class MalformedReplyError(ProviderError):
    """A response that is not valid in the provider's dialect: no JSON, HTML, a missing field."""


class RefusedReplyError(ProviderError):
    """A response in which the provider says that it has no reply."""


class EmptyReplyError(ProviderError):
    """A reply that arrived and is paid for, but holds no answer. The message says why, and what to change.

    Attributes:
        finish_reason: Why the reply ended: ``length``, ``content_filter``, ``refusal``, ``tool_calls`` or ``stop``.
        reply: The reply, with its usage, its thinking and what text it has; None where it is not known.
    """

    def __init__(
        self,
        message: str,
        *,
        provider: str = "",
        retry_after_s: float | None = None,
        finish_reason: str = "stop",
        reply: Any = None,
    ) -> None:
        """Store with the message the reply, and why it ended."""
        super().__init__(message, provider=provider, retry_after_s=retry_after_s)
        self.finish_reason = finish_reason
        self.reply = reply


class BlankReplyError(EmptyReplyError):
    """A reply without text, for which the provider gives no reason."""

    is_retryable = True


class StreamError(ProviderError):
    """An error that the server reported in a response with status 200, streamed or whole."""


class StatusError(ProviderError):
    """A response with a status of 400 or more.

    Attributes:
        status: The HTTP status, or the one that an error inside a response of status 200 stands for.
        rate_limits: The rate limits that the server sent with it, as with a reply; None if it sent none.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int,
        provider: str = "",
        retry_after_s: float | None = None,
        rate_limits: RateLimits | None = None,
    ) -> None:
        """Store what the server told with the message."""
        super().__init__(message, provider=provider, retry_after_s=retry_after_s)
        self.status = status
        self.rate_limits = rate_limits


class BadRequestError(StatusError):
    """A request that the server does not accept (400, 413, 422 and other 4xx)."""


class UnsupportedOptionError(BadRequestError):
    """An option that the server, or this model, does not have (400 or 422).

    Attributes:
        option: The field at the top of the request's body, as the server wrote it: ``max_tokens``, ``presencePenalty``.
        instead: The option to use instead, where the server names one: ``max_completion_tokens``.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int,
        option: str,
        instead: str | None = None,
        provider: str = "",
        retry_after_s: float | None = None,
        rate_limits: RateLimits | None = None,
    ) -> None:
        """Store the option with the message."""
        super().__init__(
            message, status=status, provider=provider, retry_after_s=retry_after_s, rate_limits=rate_limits
        )
        self.option = option
        self.instead = instead


class ContextLengthError(BadRequestError):
    """A request with more tokens than the model, or the account, takes at once. Another request may be short enough.

    Attributes:
        limit_tokens: Tokens that may be sent, where the server tells.
        sent_tokens: Tokens that were sent, with those asked for as a reply where the server counts them in.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int,
        limit_tokens: int | None = None,
        sent_tokens: int | None = None,
        provider: str = "",
        retry_after_s: float | None = None,
        rate_limits: RateLimits | None = None,
    ) -> None:
        """Store the numbers with the message."""
        super().__init__(
            message, status=status, provider=provider, retry_after_s=retry_after_s, rate_limits=rate_limits
        )
        self.limit_tokens = limit_tokens
        self.sent_tokens = sent_tokens


class FlaggedPromptError(BadRequestError):
    """A prompt, or the reply to it, that the server's filters refuse. Other prompts are not concerned."""


class AuthenticationError(StatusError):
    """A key that the server does not accept (401)."""

    is_fatal = True


class PermissionDeniedError(StatusError):
    """A request that the key does not permit, or that a filter does not let through (403)."""


class NotFoundError(StatusError):
    """No such model or address on the server (404)."""

    is_fatal = True


class QuotaError(StatusError):
    """An account with nothing left to spend: no money (402, 429), or no requests or tokens of its day or month (429).

    `retry_after_s` is the time until the quota is there again, where that is known.
    """

    is_fatal = True


class RateLimitError(StatusError):
    """Too many requests for now (429)."""

    is_retryable = True


class NoCapacityError(RateLimitError):
    """No capacity on the server for a request of this tier, however few are sent (429; Groq: 498)."""


class ServerError(StatusError):
    """A server that is in trouble or busy (408, 409, 425 and 5xx)."""

    is_retryable = True


class ModelLoadingError(ServerError):
    """A server that is still loading the model (503). It may take minutes, and ends by itself."""


class ChatInterrupt(KeyboardInterrupt):
    """An interrupt by the user: the one form in which every interrupt leaves this package.

    It shows as one line in IPython, and it stops queued cells as any `KeyboardInterrupt` does.
    """

    def __init__(self, message: str = "Interrupted.") -> None:
        """Store the one line that is shown."""
        super().__init__(message)

    def _render_traceback_(self) -> list[str]:
        """Return what IPython shows instead of a traceback."""
        return [f"{type(self).__name__}: {self}"]
