"""What an operator can set: the seeder's settings, their bounds and defaults (docs/operations.md, "Configuration").

One table; the TOML file, ``LIBRESEED_*`` and the flags are merged by :mod:`libreseed.adapters.command.settings`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from libreseed import limits
from libreseed.adapters.command.settings import (
    Endpoint,
    Setting,
    default_directory,
    endpoint,
    file_path,
    integer,
    list_of,
    load_settings,
    seconds,
    text,
)
from libreseed.errors import UsageFault

__all__ = ["SeederConfig", "load_config", "state_directory"]

_TB = 10**12
_PORT = integer(0, 65535)
_BYTES = integer(0, 10**18)

# Ports are fixed by default, so that a router or firewall can be told about them; they differ because libtorrent uses
# the UDP port of its TCP port's number for uTP, which it has to do without when the DHT is given that port.
_EVERYWHERE = (Endpoint("0.0.0.0", 6891), Endpoint("::", 6891))  # noqa: S104  # what this machine has of the two
_SCHEMA = (
    Setting("state-dir", file_path),
    Setting("listen", list_of(endpoint), _EVERYWHERE),
    Setting("dht-port", _PORT, 6892),
    Setting("legacy-port", _PORT, 0),
    Setting("bootstrap", list_of(endpoint), ()),
    Setting("watch", file_path),
    Setting("watch-interval", seconds, 5.0),
    Setting("control-group", text),
    Setting("max-store-bytes", _BYTES, 0),
    Setting("max-package-bytes", integer(1, 2**40), 2**40),
    Setting("upload-rate", _BYTES, 0),
    Setting("download-rate", _BYTES, 0),
    Setting("connections", integer(2, 65000), 500),
    Setting("record-interval", seconds, 3600.0),
    Setting("peer-interval", seconds, 900.0),
    Setting("retry-interval", seconds, 15.0),
    Setting("scrub-interval", seconds, 7 * 86400.0),
    Setting("scrub-rate", integer(2**16, _TB), 20 * 10**6),
    Setting("spot-interval", seconds, float(limits.SPOT_SECONDS)),
    Setting("metrics-listen", endpoint),
)


@dataclass(frozen=True, slots=True)
class SeederConfig:
    """All settings of one daemon. Intervals are seconds, rates bytes per second; 0 means no limit for sizes and rates.

    ``listen`` are TCP addresses of the swarm (or names); the DHT listens on ``dht_port`` (UDP) of the same hosts, and
    the door for old clients on ``legacy_port`` (TCP, 0: any free one) of these.
    ``record_interval`` is between two puts of a signed record, ``peer_interval`` between two announces as a peer (nodes
    forget peers after 30 minutes), ``scrub_interval`` between two full reads of a release, ``spot_interval`` between
    two looks at what peers are being given. ``metrics_listen`` is where Prometheus is answered (TCP), if anywhere.
    """

    state_dir: Path
    listen: tuple[Endpoint, ...]
    dht_port: int
    legacy_port: int
    bootstrap: tuple[Endpoint, ...]
    watch: Path | None
    watch_interval: float
    control_group: str | None
    max_store_bytes: int
    max_package_bytes: int
    upload_rate: int
    download_rate: int
    connections: int
    record_interval: float
    peer_interval: float
    retry_interval: float
    scrub_interval: float
    scrub_rate: int
    spot_interval: float
    metrics_listen: Endpoint | None
    config_file: Path | None = None

    @property
    def shares_port(self) -> bool:
        """Whether the DHT was given the number of a TCP port of the swarm, which then goes without uTP."""
        return any(one.port == self.dht_port != 0 for one in self.listen)

    @property
    def control_socket(self) -> Path:
        """Where the daemon is controlled."""
        return self.state_dir / "control.sock"


def load_config(
    config: Path | None, flags: Mapping[str, object], environ: Mapping[str, str] | None = None
) -> SeederConfig:
    """Merge file, variables and flags; raises UsageFault ``config.*``. ``flags`` are by key, ``None`` for not given."""
    values: dict[str, Any] = load_settings(_SCHEMA, config=config, flags=flags, environ=environ)
    named = {key.replace("-", "_"): value for key, value in values.items()}
    named["state_dir"] = (named["state_dir"] or _default_state(environ)).absolute()
    if named["watch"] is not None:
        named["watch"] = named["watch"].absolute()
    if not named["listen"]:
        raise UsageFault("config.value", "listen: at least one address is needed")
    assert named.keys() == {field.name for field in fields(SeederConfig)} - {"config_file"}
    return SeederConfig(**named, config_file=config.absolute() if config else None)


def _default_state(environ: Mapping[str, str] | None) -> Path:
    """systemd's directory is the unit's own; a person's is shared with the other commands."""
    place = default_directory("state", environ)
    return place if (os.environ if environ is None else environ).get("STATE_DIRECTORY") else place / "seeder"


def state_directory(config: Path | None, flag: str | None, environ: Mapping[str, str] | None = None) -> Path:
    """Where the daemon's state is: for the commands that only talk to it."""
    return load_config(config, {"state-dir": flag}, environ).state_dir
