"""What holds for every test, however the suite was started."""

from __future__ import annotations

import signal


def pytest_configure() -> None:
    """Take Ctrl-C back: a shell starts what runs in the background with SIGINT ignored, and programs inherit that.

    The commands under test would then rightly ignore the interrupts that tests send them.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
