"""What the stages of one resolve share: the trusted state, the store, the workspace, the stopwatch and the display."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from libreseed.adapters.command.console import Progress
from libreseed.adapters.resolving.store import Store, Workspace
from libreseed.resolve.engine import Resolution

from .outcome import Steps

if TYPE_CHECKING:
    from libreseed.adapters.resolving.early_extraction import EarlyExtraction

__all__ = ["Job"]


@dataclass(frozen=True, slots=True)
class Job:
    """One resolve whose minimal manifest is trusted (step 3) and whose content lies in ``space``."""

    resolution: Resolution
    store: Store
    space: Workspace
    steps: Steps
    progress: Progress
    early: EarlyExtraction | None = None
