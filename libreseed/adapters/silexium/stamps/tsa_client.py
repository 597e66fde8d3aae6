"""Asking time stamp authorities over HTTP (RFC 3161, 3.4). What they answer is verified by whoever asks them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from libreseed import limits
from libreseed.adapters.http.client import HttpClient
from libreseed.adapters.http.redirects import parse_url
from libreseed.silexium.rfc3161 import TrustedTsa

__all__ = ["HttpTsa", "TimeStampService"]


class TimeStampService(Protocol):
    """An authority, wherever it is. ``trusted`` is what its answers are verified under; its name names the service."""

    @property
    def trusted(self) -> TrustedTsa:
        """The authority's entry of the policy."""
        ...

    async def ask(self, request: bytes) -> bytes:
        """The DER TimeStampResp to a DER TimeStampReq; nothing about it is verified."""
        ...


@dataclass(frozen=True, slots=True)
class HttpTsa:
    """The authority at ``url``, ``http`` or ``https``: the answer is signed, and the imprint tells nobody anything.

    Raises :class:`UsageFault` ``http.url`` for what is no such address.
    """

    url: str
    trusted: TrustedTsa
    client: HttpClient

    def __post_init__(self) -> None:
        parse_url(self.url)  # now, not with the first release

    async def ask(self, request: bytes) -> bytes:
        """As :class:`TimeStampService`; raises ``http.*``."""
        answer = await self.client.post(
            self.url,
            request,
            "application/timestamp-query",
            most=limits.TSA_RESPONSE_BYTES,
            headers={"accept": "application/timestamp-reply"},
        )
        return answer.require().body
