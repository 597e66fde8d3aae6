"""What Silexium's server refuses to take in or to answer (``docs/specification/silexium-api.md``)."""

from __future__ import annotations

from libreseed.reasons.table import Exit, Reason, rows

__all__ = ["ROWS"]

ROWS: tuple[Reason, ...] = (
    *rows(Exit.USAGE, "Send what the server's /openapi.json describes.", "silexium.request"),
    *rows(
        Exit.NOT_FOUND, "Ask for another version or channel; what is not logged yet is not served.", "notfound.version"
    ),
    *rows(
        Exit.SILEXIUM_REJECTED,
        "The server is behind what its log has shown: ask another one, and tell its operator.",
        "silexium.behind",
    ),
    *rows(Exit.SILEXIUM_REJECTED, "Ask the server itself, or another mirror.", "silexium.answer"),
    *rows(Exit.NO_SOURCE, "Wait until the server has signed its first head.", "silexium.unready"),
    *rows(
        Exit.SILEXIUM_REJECTED,
        "A version is published once: give the changed release a new version.",
        "silexium.other-content",
    ),
    *rows(Exit.SILEXIUM_REJECTED, "'libreseed-silexium key list' shows the keys.", "silexium.key-conflict"),
    *rows(Exit.NOT_FOUND, "'libreseed-silexium key list' shows the keys.", "notfound.key"),
)
