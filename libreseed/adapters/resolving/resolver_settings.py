"""The settings of whoever resolves: one table for ``libreseed-resolve`` and for the user's command.

Merged by :mod:`libreseed.adapters.command.settings` from ``resolver.toml``, ``LIBRESEED_*`` and flags.
docs/specification/commands.md, "Configuration".
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from libreseed import limits
from libreseed.adapters.command.settings import (
    Setting,
    boolean,
    default_directory,
    endpoint,
    file_path,
    list_of,
    load_settings,
    seconds,
    text,
)

__all__ = ["load_resolver_settings", "usual_config", "usual_store"]

_PUBLIC_BOOTSTRAP = "router.bittorrent.com:6881 dht.libtorrent.org:25401 router.utorrent.com:6881"


def usual_config() -> Path | None:
    """``resolver.toml`` in the configuration folder, if it is there."""
    usual = default_directory("config") / "resolver.toml"
    return usual if usual.exists() else None


def usual_store(named: Path | None = None) -> Path:
    """The store that ``libreseed-resolve`` uses when it is told no other: ``named``, the variable, ``resolver.toml``.

    Raises what :func:`load_resolver_settings` raises.
    """
    from libreseed.adapters.resolving.store import store_root

    return store_root(named if named is not None else load_resolver_settings(None, {})["store"])


def load_resolver_settings(config: Path | None, flags: Mapping[str, object]) -> dict[str, Any]:
    """Every setting by key; ``config`` None is the usual file. Raises what ``load_settings`` raises."""
    usual_policy = default_directory("config") / "policy.toml"
    schema = (
        Setting("store", file_path),
        Setting("bootstrap", list_of(endpoint), list_of(endpoint)(_PUBLIC_BOOTSTRAP)),
        Setting("listen", list_of(endpoint), list_of(endpoint)("0.0.0.0:0 [::]:0")),
        Setting("policy", file_path, usual_policy if usual_policy.exists() else None),
        Setting("silexium", list_of(text), ()),
        Setting("mirrors", _mirrors, (), flag="--mirror"),
        Setting("ca-file", file_path),
        Setting("private-redirects", boolean, False),
        Setting("timeout", seconds, math.inf),
    )
    return load_settings(schema, config=config if config is not None else usual_config(), flags=flags)


def _mirrors(value: object) -> tuple[str, ...]:
    urls = tuple(dict.fromkeys(list_of(_mirror_url)(value)))
    if len(urls) > limits.MIRRORS:
        raise ValueError(f"{len(urls)} mirrors; at most {limits.MIRRORS} can be used at once")
    return urls


def _mirror_url(value: object) -> str:
    from libreseed.adapters.http.weburl import parse_base

    return parse_base(text(value))
