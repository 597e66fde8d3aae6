"""What an operator of a mirror can set (docs/operations.md, "A mirror"): one table, merged by the settings adapter."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from libreseed import limits
from libreseed.adapters.command.keys import KEY_VARIABLE
from libreseed.adapters.command.settings import (
    Endpoint,
    Setting,
    address,
    default_directory,
    endpoint,
    file_path,
    integer,
    list_of,
    load_settings,
    seconds,
)
from libreseed.adapters.http.rate_limit import Rate
from libreseed.adapters.http.server import HttpServerOptions
from libreseed.errors import UsageFault
from libreseed.ids import PublicKey

__all__ = ["MirrorConfig", "load_config"]


_SCHEMA = (
    Setting("store", file_path),
    Setting("listen", list_of(endpoint), (Endpoint("127.0.0.1", 8080),)),
    Setting("cert", file_path),
    Setting("key", file_path),
    Setting("publisher", list_of(PublicKey.parse), ()),
    Setting("max-package-bytes", integer(1, limits.PACKAGE_BYTES), limits.PACKAGE_BYTES),
    Setting("rescan-interval", seconds, 10.0),
    Setting("scrub-interval", seconds, 7 * 86400.0),
    Setting("scrub-rate", integer(2**16, 10**12), 20 * 10**6),
    Setting("patience", seconds, 10.0),
    Setting("connections", integer(2, 65000), limits.HTTP_CONNECTIONS),
    Setting("connections-per-client", integer(1, 65000), limits.HTTP_CONNECTIONS_PER_CLIENT),
    Setting("request-rate", integer(0, 10**6), 500),
    Setting("request-burst", integer(1, 10**6), 5000),
    Setting("head-timeout", seconds, 10.0),
    Setting("stall-timeout", seconds, 30.0),
    Setting("trusted-proxy", list_of(address), ()),
)


@dataclass(frozen=True, slots=True)
class MirrorConfig:
    """All settings of one mirror. Times are seconds; ``scrub_rate`` is bytes, ``request_rate`` requests per second and
    client (0: no limit).

    ``publisher`` are the keys whose releases are shown (none: anybody's). ``patience`` is how long a request waits for
    a copy to be verified or healed.
    """

    store: Path
    listen: tuple[Endpoint, ...]
    cert: Path | None
    key: Path | None
    publisher: tuple[PublicKey, ...]
    max_package_bytes: int
    rescan_interval: float
    scrub_interval: float
    scrub_rate: int
    patience: float
    connections: int
    connections_per_client: int
    request_rate: int
    request_burst: int
    head_timeout: float
    stall_timeout: float
    trusted_proxy: tuple[str, ...]

    def http(self, at: Endpoint) -> HttpServerOptions:
        """How to serve on one address."""
        return HttpServerOptions(
            host=at.host,
            port=at.port,
            certfile=self.cert,
            keyfile=self.key,
            connections=self.connections,
            connections_per_client=self.connections_per_client,
            max_body=0,
            head_seconds=self.head_timeout,
            stall_seconds=self.stall_timeout,
            rate=Rate(self.request_rate, self.request_burst, local_free=True) if self.request_rate else None,
            trusted_proxies=frozenset(self.trusted_proxy),
        )


def load_config(
    config: Path | None, flags: Mapping[str, object], environ: Mapping[str, str] | None = None
) -> MirrorConfig:
    """Merge file, variables and flags; raises UsageFault ``config.*``. ``flags`` are by key, ``None`` for not given.

    The certificate's ``key`` has no variable: its name would be ``LIBRESEED_KEY``, which holds a publisher's.
    """
    environ = os.environ if environ is None else environ
    variables = {name: value for name, value in environ.items() if name != KEY_VARIABLE}
    values: dict[str, Any] = load_settings(_SCHEMA, config=config, flags=flags, environ=variables)
    named = {key.replace("-", "_"): value for key, value in values.items()}
    if named["store"] is None:
        named["store"] = default_directory("state", environ) / "mirror"
    named["store"] = named["store"].absolute()
    if not named["listen"]:
        raise UsageFault("config.value", "listen: at least one address is needed")
    if (named["cert"] is None) != (named["key"] is None):
        raise UsageFault("config.tls", "a certificate needs its key, and a key its certificate")
    assert named.keys() == {field.name for field in fields(MirrorConfig)}
    return MirrorConfig(**named)
