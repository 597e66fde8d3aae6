"""Settings of a process: a TOML file, overridden by ``LIBRESEED_*``, overridden by flags; and where its files live.

Each command declares its settings as a tuple of :class:`Setting`; a key that is not declared is an error
(``config.unknown-key``), so a typing mistake never passes silently. Values are checked by the setting's own reader,
whatever their source, and the message names that source. docs/specification/commands.md, "Configuration".
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from libreseed.adapters.files.oserrors import from_oserror
from libreseed.errors import Malformed, UsageFault

__all__ = [
    "Endpoint",
    "Setting",
    "address",
    "boolean",
    "default_directory",
    "endpoint",
    "file_path",
    "integer",
    "list_of",
    "load_settings",
    "seconds",
    "text",
]

CONFIG_BYTES = 2**20
_DECIMAL = re.compile(r"-?[0-9]{1,18}", re.ASCII)
_SECONDS = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?", re.ASCII)
Reader = Callable[[object], Any]


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: its TOML ``key``; the variable is ``LIBRESEED_`` + the key in capitals with ``_`` for ``-``.

    ``read`` takes what TOML holds or the text of a variable or flag, and returns the value or raises ``ValueError``
    (or :class:`Malformed`) with a message for a person. ``flag`` is for one that is not called as the key is.
    """

    key: str
    read: Reader
    default: object = None
    flag: str | None = None

    @property
    def variable(self) -> str:
        """The environment variable that overrides the file."""
        return "LIBRESEED_" + self.key.upper().replace("-", "_")


def load_settings(
    schema: Sequence[Setting],
    *,
    config: Path | None,
    flags: Mapping[str, object],
    environ: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The value of every setting in ``schema`` by key: flag (when not None), variable, file, default.

    Raises :class:`UsageFault`: ``usage`` for a flag, ``config.*`` for all else; NotFound when ``config`` names no file.
    """
    environ = os.environ if environ is None else environ
    known = {setting.key: setting for setting in schema}
    from_file = _read_file(config, known) if config is not None else {}
    values: dict[str, Any] = {}
    for key, setting in known.items():
        if flags.get(key) is not None:
            values[key] = _read_flag(setting, flags[key])
        elif setting.variable in environ:
            values[key] = _read(setting, environ[setting.variable], setting.variable)
        elif key in from_file:
            values[key] = _read(setting, from_file[key], f"{key} in {config}")
        else:
            values[key] = setting.default
    return values


def _read_file(config: Path, known: Mapping[str, Setting]) -> dict[str, Any]:
    import tomli

    try:
        with config.open("rb") as file:
            data = file.read(CONFIG_BYTES + 1)
    except OSError as error:
        raise from_oserror(error, "reading the configuration") from error
    if len(data) > CONFIG_BYTES:
        raise UsageFault("config.syntax", f"{config} is larger than {CONFIG_BYTES} bytes")
    try:
        table = tomli.loads(data.decode("utf-8"))
    except (UnicodeDecodeError, tomli.TOMLDecodeError, RecursionError) as error:
        raise UsageFault("config.syntax", f"{config} is not TOML: {error}") from error
    if unknown := sorted(table.keys() - known.keys()):
        raise UsageFault("config.unknown-key", f"unknown key {unknown[0]!r} in {config}; known: {', '.join(known)}")
    return table


def _read_flag(setting: Setting, value: object) -> object:
    """What is wrong on the command line is a fault of usage, whatever kind of value it is."""
    try:
        return _read(setting, value, setting.flag or "--" + setting.key)
    except UsageFault as error:
        raise UsageFault("usage", error.message) from error


def _read(setting: Setting, value: object, source: str) -> object:
    try:
        return setting.read(value)
    except UsageFault as error:
        raise UsageFault(error.reason, f"{source}: {error.message}") from error
    except (ValueError, Malformed) as error:
        raise UsageFault("config.value", f"{source}: {error}") from error


# --- readers ----------------------------------------------------------------------------------------------------


def text(value: object) -> str:
    """A text that is not empty."""
    if not isinstance(value, str) or not value:
        raise ValueError(f"expected a text that is not empty, got {value!r:.80}")
    return value


def file_path(value: object) -> Path:
    """A path; ``~`` is the user's home."""
    return value if isinstance(value, Path) else Path(text(value)).expanduser()


def boolean(value: object) -> bool:
    """``true`` or ``false``."""
    if isinstance(value, bool):
        return value
    if value in ("true", "false"):
        return value == "true"
    raise ValueError(f"expected true or false, got {value!r:.80}")


def integer(least: int, most: int) -> Reader:
    """A reader of decimal integers from ``least`` to ``most``."""

    def read(value: object) -> int:
        if isinstance(value, str) and _DECIMAL.fullmatch(value):
            value = int(value)
        if type(value) is not int or not least <= value <= most:
            raise ValueError(f"expected an integer from {least} to {most}, got {value!r:.80}")
        return value

    return read


def seconds(value: object) -> float:
    """A duration in seconds, above zero."""
    if isinstance(value, str) and _SECONDS.fullmatch(value):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 10**10:
        raise ValueError(f"expected a number of seconds above 0, got {value!r:.80}")
    return float(value)


def address(value: object) -> str:
    """An IP address, spelled as connections have it: a name or a network would match none, and nobody would notice."""
    from ipaddress import ip_address  # servers alone need it

    return str(ip_address(text(value)))


def list_of(read: Reader) -> Reader:
    """A reader of lists: a TOML array or repeated flag, or one text with spaces or commas between the items."""

    def read_all(value: object) -> tuple[Any, ...]:
        if isinstance(value, str):
            value = [item for item in re.split(r"[,\s]+", value) if item]
        if not isinstance(value, (list, tuple)):
            raise ValueError(f"expected a list, got {value!r:.80}")
        return tuple(read(item) for item in value)

    return read_all


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A host (name or address, IPv6 without brackets) and a port, 0 to 65535."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def endpoint(value: object) -> Endpoint:
    """Read ``host:port`` or ``[IPv6]:port``; raises :class:`UsageFault` ``config.endpoint``."""
    if isinstance(value, Endpoint):
        return value
    host, colon, port = value.rpartition(":") if isinstance(value, str) else ("", "", "")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        host = ""
    digits = re.fullmatch(r"0|[1-9][0-9]{0,4}", port, re.ASCII)
    if not colon or not re.fullmatch(r"[0-9A-Za-z._:%-]{1,255}", host) or not digits or int(port) > 65535:
        raise UsageFault("config.endpoint", f"expected HOST:PORT or [IPv6]:PORT, got {value!r:.100}")
    return Endpoint(host, int(port))


# --- places -----------------------------------------------------------------------------------------------------


def default_directory(
    kind: Literal["state", "config", "cache", "data"], environ: Mapping[str, str] | None = None
) -> Path:
    """Where files of ``kind`` live: systemd's directory when it gives one, else what platformdirs says."""
    import platformdirs

    environ = os.environ if environ is None else environ
    variable = {"state": "STATE_DIRECTORY", "config": "CONFIGURATION_DIRECTORY", "cache": "CACHE_DIRECTORY"}.get(kind)
    if variable and environ.get(variable):
        return Path(environ[variable].split(":")[0])
    return Path(getattr(platformdirs.PlatformDirs("libreseed", appauthor=False), f"user_{kind}_dir"))
