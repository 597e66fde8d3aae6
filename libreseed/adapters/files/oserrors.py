"""What an ``OSError`` means to a user: the one translation from errno to a reason code.

A module that does file IO may let ``OSError`` pass: the top of every command translates it here. It translates earlier
only where it knows more than the errno says (which file of whose it was). Nothing is swallowed.
"""

from __future__ import annotations

import errno

from libreseed.errors import LibreSeedError, LocalFault, NotFound

__all__ = ["from_oserror"]

_STORAGE = {
    errno.ENOSPC: "storage.full",
    errno.EDQUOT: "storage.full",
    errno.EFBIG: "storage.full",  # RLIMIT_FSIZE, or the file system's own limit
    errno.EROFS: "storage.read-only",
    errno.EACCES: "storage.permission",
    errno.EPERM: "storage.permission",
    errno.EEXIST: "storage.exists",
    errno.ENOTEMPTY: "storage.exists",
    errno.EMFILE: "storage.open-files",
    errno.ENFILE: "storage.open-files",
}
_MISSING = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EISDIR})


def from_oserror(error: OSError, doing: str = "") -> LibreSeedError:
    """The declared error for ``error``; ``doing`` says what was attempted (``"writing the chunk map"``)."""
    what = error.strerror or str(error) or type(error).__name__
    places = [str(name) for name in (error.filename, error.filename2) if name is not None]
    message = ": ".join(part for part in (doing, " -> ".join(places), what) if part)
    if error.errno in _MISSING:
        return NotFound("notfound.file", message)
    if error.errno in (errno.EADDRINUSE, errno.EADDRNOTAVAIL):
        return LocalFault("config.port", message)
    return LocalFault(_STORAGE.get(error.errno or 0, "storage.io"), message)
