"""What can go wrong while reading a Hub, and whether trying again helps.

::

    CrawlError
    ├── RetryableError        the same request may succeed later
    │   ├── RateLimitedError  429: wait ``wait_s`` first
    │   ├── ServerError       5xx or a broken connection
    │   └── TruncatedError    fewer bytes came than were promised
    └── PermanentError        asking again gives the same answer
        ├── NotFoundError     repository, revision or file does not exist (any more)
        ├── GatedError        exists, but this token may not read it
        ├── DisabledError     switched off by the Hub
        ├── RangeIgnoredError 200 instead of 206: the server would send the whole file
        ├── FileChangedError  the file is not the one of which other bytes were read before
        └── MalformedError    bytes or text that do not mean what they claim to be
"""

from __future__ import annotations

__all__ = [
    "CrawlError",
    "DisabledError",
    "FileChangedError",
    "GatedError",
    "MalformedError",
    "NotFoundError",
    "PermanentError",
    "RangeIgnoredError",
    "RateLimitedError",
    "RetryableError",
    "ServerError",
    "TruncatedError",
]


class CrawlError(Exception):
    """Base of every error of this package; ``code`` is the word kept in the database."""

    code = "crawl"


class RetryableError(CrawlError):
    """The same request may succeed later."""

    code = "retryable"


class RateLimitedError(RetryableError):
    """The Hub asked us to slow down.

    Parameters
    ----------
    message
        What was asked for, and the answer.
    wait_s
        Seconds to wait before the next request, as the server said (capped by the client).
    """

    code = "rate_limited"

    def __init__(self, message: str, wait_s: float) -> None:
        super().__init__(message)
        self.wait_s = wait_s


class ServerError(RetryableError):
    """The server failed (5xx) or the connection broke."""

    code = "server"


class TruncatedError(RetryableError):
    """Fewer bytes came than were promised."""

    code = "truncated"


class PermanentError(CrawlError):
    """Asking again gives the same answer."""

    code = "permanent"


class NotFoundError(PermanentError):
    """The repository, revision or file does not exist (any more)."""

    code = "not_found"


class GatedError(PermanentError):
    """It exists, but this token may not read it."""

    code = "gated"


class DisabledError(PermanentError):
    """The Hub switched this repository off."""

    code = "disabled"


class RangeIgnoredError(PermanentError):
    """The server answered 200 to a range request and would send the whole file."""

    code = "range_ignored"


class FileChangedError(PermanentError):
    """A file is not the one of which other bytes were read before."""

    code = "changed"


class MalformedError(PermanentError):
    """Bytes or text that do not mean what they claim to be."""

    code = "malformed"
