"""Ends a foreground service on SIGTERM, SIGINT or SIGHUP."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable

import trio

__all__ = ["stop_on_signal"]

_LOG = logging.getLogger("libreseed.silexium")


async def stop_on_signal(
    scope: trio.CancelScope,
    *,
    stopping: Callable[[], None] = lambda: None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Cancel ``scope`` on the first signal, after ``stopping`` was told; started once signals are caught."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        task_status.started()
        async for number in signals:
            _LOG.info("stopping on %s", signal.Signals(number).name)
            stopping()
            scope.cancel()
            return
