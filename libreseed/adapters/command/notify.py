"""What systemd is told: ready, stopping, alive, and one line of status (sd_notify(3)); nothing without NOTIFY_SOCKET.

The watchdog's sign of life is sent by the event loop, so that a loop that hangs is noticed.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

import trio

__all__ = ["Notifier"]


class Notifier:
    """Sends datagrams to the service manager; one that cannot be sent is dropped, as sd_notify does."""

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        environ = os.environ if environ is None else environ
        address = environ.get("NOTIFY_SOCKET", "")
        # "@name" is Linux's abstract namespace.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._watchdog = _watchdog_seconds(environ)

    def ready(self, status: str) -> None:
        """The daemon serves."""
        self._send(f"READY=1\nSTATUS={status}")

    def status(self, text: str) -> None:
        """One line for ``systemctl status``."""
        self._send(f"STATUS={text}")

    def stopping(self) -> None:
        """The daemon has begun to stop."""
        self._send("STOPPING=1\nSTATUS=stopping")

    async def run_watchdog(self) -> None:
        """Say that we live, twice per ``WATCHDOG_USEC``; returns at once when no watchdog is set."""
        while self._address and self._watchdog:
            self._send("WATCHDOG=1")
            await trio.sleep(self._watchdog / 2)

    def _send(self, message: str) -> None:
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as channel:
            try:
                channel.sendto(message.encode(), self._address)
            except OSError:
                return  # the manager is gone or does not read: that is no reason to stop


def _watchdog_seconds(environ: Mapping[str, str]) -> float:
    text, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if pid and pid != str(os.getpid()):  # meant for another process of the unit
        return 0.0
    return int(text) / 1e6 if text.isascii() and text.isdigit() and len(text) < 16 else 0.0
