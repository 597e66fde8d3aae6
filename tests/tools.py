"""What some tests need of the machine: external programs as the second opinion, IPv6."""

from __future__ import annotations

import os
import shutil
import socket
from typing import NoReturn

import pytest

__all__ = ["as_an_owner", "require_ipv6", "require_program"]


def require_program(name: str) -> str:
    """The path of the program ``name``; where it is missing the test skips, or fails when tools are required.

    ``LIBRESEED_REQUIRE_TOOLS=1`` (set by ``.ci/run``) turns the skip into a failure, so that CI cannot pass without it.
    """
    path = shutil.which(name)
    if path is None:
        _lack(f"the program {name!r} is not installed")
    return path


def require_ipv6() -> None:
    """Skip the test, or fail when tools are required, on a machine without ``::1``, as many containers are."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        _lack("this machine has no IPv6")


def as_an_owner() -> list[str]:
    """What to put before a command that is to meet permissions: root without capabilities is an owner like others."""
    return [require_program("setpriv"), "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []


def _lack(message: str) -> NoReturn:
    if os.environ.get("LIBRESEED_REQUIRE_TOOLS") == "1":
        pytest.fail(message)
    pytest.skip(message)
