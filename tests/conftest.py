"""What holds for every test, however the suite was started."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Generator

import pytest
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


# What would configure a program of ours, or lead it elsewhere; but for what configures the suite.
_CONFIGURES = ("LIBRESEED_", "XDG_", "CONFIGURATION_DIR", "STATE_DIR", "CACHE_DIR", "SOURCE_DATE_EPOCH")
_OF_THE_SUITE = ("LIBRESEED_REQUIRE_TOOLS", "LIBRESEED_VECTORS")


def pytest_configure(config: pytest.Config) -> None:
    """Before any test is even imported: the tests, and the programs that they start, inherit what is set here."""
    _take_signals_back()
    _move_out(config)


def _take_signals_back() -> None:
    """Those that whoever started the suite ignores: a shell SIGINT for what runs in the background, nohup SIGHUP.
    Programs inherit that, and the commands under test would rightly ignore what tests send them.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGHUP, signal.SIGTERM):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


def _move_out(config: pytest.Config) -> None:
    """To a home without settings. Whoever runs the tests may have keys in his, beside which no daemon starts, settings
    and pins there, and a proxy, which knows no server of a test.
    """
    for name in list(os.environ):
        if name not in _OF_THE_SUITE and (name.startswith(_CONFIGURES) or name.lower().endswith("_proxy")):
            del os.environ[name]
    home = tempfile.TemporaryDirectory(prefix="libreseed-home-", ignore_cleanup_errors=True)
    config.add_cleanup(home.cleanup)
    os.environ["HOME"] = home.name


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call() -> Generator[None, object, object]:
    """Say why an async test skips: pytest-trio takes the reason out of trio's group of errors, and drops it."""
    try:
        return (yield)
    except pytest.skip.Exception as skipped:
        why: BaseException | None = skipped.__context__
        while isinstance(why, BaseExceptionGroup):
            why = why.exceptions[0]
        if isinstance(why, pytest.skip.Exception):
            raise why from None
        raise
