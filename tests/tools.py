"""External programs that some tests use as the second opinion."""

from __future__ import annotations

import os
import shutil

import pytest

__all__ = ["require_program"]


def require_program(name: str) -> str:
    """The path of the program ``name``; where it is missing the test skips, or fails when tools are required.

    ``LIBRESEED_REQUIRE_TOOLS=1`` (set by ``.ci/run``) turns the skip into a failure, so that CI cannot pass without it.
    """
    path = shutil.which(name)
    if path is None:
        message = f"the program {name!r} is not installed"
        if os.environ.get("LIBRESEED_REQUIRE_TOOLS") == "1":
            pytest.fail(message)
        pytest.skip(message)
    return path
