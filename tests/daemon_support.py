"""A daemon under test: a process on loopback, awaited by systemd's own protocol, always ended."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["PATIENCE_S", "DaemonProcess", "clean_environment", "daemon_process"]

PATIENCE_S = 60.0
_NAMES = itertools.count()


@dataclass
class DaemonProcess:
    """One daemon; ``log`` is what it writes on stderr."""

    process: subprocess.Popen[bytes]
    log: Path
    notify: socket.socket
    heard: list[str] = field(default_factory=list)

    def wait_ready(self) -> None:
        """Until it has said READY=1; fails with its log when it ends first."""
        deadline = time.monotonic() + PATIENCE_S
        while "READY=1" not in "\n".join(self.heard).splitlines():
            assert time.monotonic() < deadline, self.text()
            try:
                self.heard.append(self.notify.recv(4096).decode())
            except TimeoutError:
                assert self.process.poll() is None, self.text()

    def hear(self) -> list[str]:
        """Everything it has told the service manager until now."""
        with contextlib.suppress(TimeoutError):
            while True:
                self.heard.append(self.notify.recv(4096).decode())
        return "\n".join(self.heard).splitlines()

    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def stop(self, how: int = signal.SIGTERM) -> int:
        self.process.send_signal(how)
        return self.process.wait(PATIENCE_S)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(PATIENCE_S)


@contextlib.contextmanager
def daemon_process(
    line: Sequence[str], log: Path, env: Mapping[str, str], **popen: Any
) -> Iterator[tuple[subprocess.Popen[bytes], socket.socket]]:
    """Start ``line`` and give the process and the socket that it tells its state to; it is killed at the end of the
    block if it still runs. stdout goes to ``log``, too, unless told otherwise."""
    address = f"libreseed-test-{os.getpid()}-{next(_NAMES)}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify, log.open("ab") as output:
        notify.bind("\0" + address)
        notify.settimeout(0.1)
        streams = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": output, **popen}
        process = subprocess.Popen(line, env={**env, "NOTIFY_SOCKET": "@" + address}, **streams)
        try:
            yield process, notify
        finally:
            process.kill()
            process.wait(PATIENCE_S)
            if process.stdout is not None:
                process.stdout.close()


def clean_environment() -> dict[str, str]:
    """This process's environment without what would configure a program of ours."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("LIBRESEED_", "XDG_"))}
