"""Names of services (section 3.9): ``<service>.<operation>.obinexus.<department>.<division>.<country>.org``.

Each label is a host name's (RFC 1123): lower-case letters, digits and hyphens, 1 to 63 characters, none at an end a
hyphen; the whole at most 253. The country is two letters. A name says where something is meant to be found; it proves
nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import Self

from libreseed.errors import ContentRejected

__all__ = ["ServiceName"]

_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
_COUNTRY = re.compile(r"[a-z]{2}", re.ASCII)
_CHARS = 253


@dataclass(frozen=True, slots=True)
class ServiceName:
    """A service's name; raises :class:`ContentRejected` (``auraseal.service-name``) unless every label is one."""

    service: str
    operation: str
    department: str
    division: str
    country: str

    def __post_init__(self) -> None:
        for each in fields(self):
            label = getattr(self, each.name)
            if not isinstance(label, str) or not (_COUNTRY if each.name == "country" else _LABEL).fullmatch(label):
                raise ContentRejected("auraseal.service-name", f"no {each.name} is called {label!r:.100}")
        if len(str(self)) > _CHARS:
            raise ContentRejected("auraseal.service-name", f"a name of more than {_CHARS} characters")

    @classmethod
    def parse(cls, text: object) -> Self:
        """Read a name; raises :class:`ContentRejected` (``auraseal.service-name``)."""
        labels = text.split(".") if isinstance(text, str) and len(text) <= _CHARS else []
        if len(labels) != 7 or labels[2] != "obinexus" or labels[6] != "org":
            raise ContentRejected("auraseal.service-name", f"no name of a service: {text!r:.300}")
        service, operation, _, department, division, country, _ = labels
        return cls(service, operation, department, division, country)

    def __str__(self) -> str:
        return f"{self.service}.{self.operation}.obinexus.{self.department}.{self.division}.{self.country}.org"
