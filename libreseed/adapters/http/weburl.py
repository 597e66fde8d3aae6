"""A URL of the web as a small value: what a user or a mirror may name, without the library that could ask it.

The general client's URL type takes a tenth of a second to import; a resolve from a mirror needs no more than this.
The rules are those of :func:`libreseed.adapters.http.redirects.parse_url`; host names are ASCII (``xn--`` for others).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from libreseed import limits
from libreseed.errors import UsageFault

__all__ = ["WebUrl", "parse_base"]

_URL = re.compile(
    r"(https?)://(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?)(?::([0-9]{1,5}))?(/[!-~]*)?",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class WebUrl:
    """``host`` is without brackets, ``port`` as it is in use, ``target`` path and query."""

    scheme: str
    host: str
    port: int
    target: str

    @classmethod
    def parse(cls, text: str) -> WebUrl:
        """Read an http or https URL without user, password and fragment; raises :class:`UsageFault` (``http.url``)."""
        found = _URL.fullmatch(text)
        if not found or len(text) > limits.HTTP_URL_CHARS or "#" in text or int(found[3] or 1) not in range(1, 65536):
            shown = "***@" + text.rpartition("@")[2] if "@" in text.partition("//")[2].partition("/")[0] else text
            message = f"cannot use {shown[:200]!r}: expected http[s]://HOST[:PORT][/PATH], without user and fragment"
            raise UsageFault("http.url", message)
        scheme = found[1]
        port = int(found[3]) if found[3] else _DEFAULT_PORTS[scheme]
        return cls(scheme, found[2].strip("[]").lower(), port, found[4] or "/")

    @property
    def netloc(self) -> str:
        """Host and port as a ``Host`` header has them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def origin(self) -> str:
        """Scheme, host and port."""
        return f"{self.scheme}://{self.netloc}"

    def __str__(self) -> str:
        return self.origin + self.target


_DEFAULT_PORTS = {"http": 80, "https": 443}


def parse_base(text: str) -> str:
    """A server's base URL as a user writes it: no query; without the slash at its end."""
    if "?" in WebUrl.parse(text).target:
        raise UsageFault("http.url", f"cannot use the URL {text[:200]!r}: it has a query")
    return text.rstrip("/")
