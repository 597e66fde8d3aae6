"""Asking OpenTimestamps calendars over HTTP, as the reference client does; what they answer is verified elsewhere.

A promise may name another address than the one that was asked (a pool hands out the names of its calendars), and that
is where it is redeemed: only addresses that the operator listed are asked, so an answer sends nobody anywhere else.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol

from libreseed import limits
from libreseed.adapters.http.client import HttpClient
from libreseed.adapters.http.redirects import parse_url
from libreseed.errors import TransportFault

__all__ = ["CalendarService", "HttpCalendar"]

_LABELS = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)(?:\.(?!-)[a-z0-9-]{1,63}(?<!-)){0,8}", re.ASCII)
_ACCEPT = {"accept": "application/vnd.opentimestamps.v1"}


class CalendarService(Protocol):
    """A calendar, wherever it is, under the ``name`` that its work is kept by."""

    @property
    def name(self) -> str:
        """Its name in the queue."""
        ...

    def redeems(self, uri: str) -> bool:
        """Whether promises under ``uri`` are taken from this calendar."""
        ...

    async def submit(self, digest: bytes) -> bytes:
        """The time stamp (unverified) that the calendar gives for a digest of 32 bytes."""
        ...

    async def timestamp(self, uri: str, commitment: bytes) -> bytes | None:
        """The rest (unverified) of the time stamp of a ``commitment``; None while the calendar asks for patience."""
        ...


@dataclass(frozen=True, slots=True)
class HttpCalendar:
    """The calendar or pool at ``url``. ``redeemed_at`` lists other addresses that its promises may name.

    ``https://*.example.org`` stands for every host below that name, over https. Raises :class:`UsageFault` ``http.url``
    when ``url`` is no address.
    """

    name: str
    url: str
    client: HttpClient
    redeemed_at: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        parse_url(self.url)  # now, not with the first release

    def redeems(self, uri: str) -> bool:
        """As :class:`CalendarService`."""
        own = uri.rstrip("/")
        return own == self.url.rstrip("/") or any(_matches(own, pattern) for pattern in self.redeemed_at)

    async def submit(self, digest: bytes) -> bytes:
        """As :class:`CalendarService`; raises ``http.*``."""
        url = self.url.rstrip("/") + "/digest"
        form = "application/x-www-form-urlencoded"  # what the reference client's library sends
        answer = await self.client.post(url, digest, form, most=limits.OTS_BYTES, headers=_ACCEPT)
        return answer.require().body

    async def timestamp(self, uri: str, commitment: bytes) -> bytes | None:
        """As :class:`CalendarService`; raises ``http.*``."""
        if not self.redeems(uri):
            raise TransportFault("http.redirect", f"promises of {self.name} are not redeemed at {uri}")
        url = f"{uri.rstrip('/')}/timestamp/{commitment.hex()}"
        answer = await self.client.get(url, most=limits.OTS_BYTES, headers=_ACCEPT)
        return None if answer.status == 404 else answer.require().body


def _matches(uri: str, pattern: str) -> bool:
    pattern = pattern.rstrip("/")
    scheme, wildcard, domain = pattern.partition("://*.")
    if not wildcard:
        return uri == pattern
    host = uri.removeprefix("https://")
    below = host.removesuffix("." + domain)
    return scheme == "https" and below != host != uri and bool(_LABELS.fullmatch(below))
