"""What holds for every test, however the suite was started."""

from __future__ import annotations

import os
import signal

from hypothesis import HealthCheck, settings

# A busy machine makes any example slow; that says nothing about the code. Where CI runs the tests (a missing program is
# a failure there, see tests/tools.py), every run draws the same examples: what turns red is what was changed.
settings.register_profile(
    "suite",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=bool(os.environ.get("LIBRESEED_REQUIRE_TOOLS")),
)
settings.load_profile("suite")


def pytest_configure() -> None:
    """Take signals back that whoever started the suite ignores: a shell SIGINT for what runs in the background, nohup
    SIGHUP. Programs inherit that, and the commands under test would rightly ignore what tests send them.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGHUP, signal.SIGTERM):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
