"""Where a server serves, said once on stdout, for whoever chose port 0. silexium-api.md, 4."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from libreseed.adapters.command.console import Report, print_report

__all__ = ["tell_urls"]


def tell_urls(urls: Sequence[str], *, as_json: bool) -> None:
    """One URL a line, or one object with ``urls``; a server that was started with stdout closed goes on without."""
    if sys.stdout is not None:
        print_report(Report("\n".join(urls), {"urls": list(urls)}), as_json)
