"""Text for a terminal: made harmless, and amounts in a form for people. Does no output itself."""

from __future__ import annotations

__all__ = ["counted", "harmless", "human_bytes"]


def harmless(text: str) -> str:
    """``text`` on one line, with control, bidi-override and other invisible characters written as escapes."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def counted(count: int, one: str, many: str = "") -> str:
    """``count`` of something in words: ``1 entry``, ``2 entries``; ``many`` is ``one`` with an s unless it is given."""
    return f"{count} {one}" if count == 1 else f"{count} {many or one + 's'}"


def human_bytes(count: float) -> str:
    """``count`` bytes for a person: ``831 B``, ``12.5 MB``; powers of 1000."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
