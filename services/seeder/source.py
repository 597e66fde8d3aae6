"""Where a release to add is read from: its folder by name, or files that the command has opened for the daemon.

The daemon often may not read what its operator can (systemd's ``ProtectHome=``, a user of its own). So ``add`` opens
the files itself and hands them over the control socket; the names travel beside them. Only regular files are taken, no
link is followed, no pipe is waited for. What the files hold is not judged here.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from libreseed.adapters.files.oserrors import from_oserror
from libreseed.errors import Malformed, NotFound, UsageFault
from libreseed.ids import ReleaseId

__all__ = ["INDEX_SUFFIX", "SUFFIXES", "Source", "handed_over", "locate", "opened", "read_file"]

SUFFIXES = (".tgz", ".chunks", ".parity", ".torrent", ".minimal.json", ".dht.json")
INDEX_SUFFIX = ".index.dht.json"


@dataclass(frozen=True, slots=True)
class Source:
    """The six files of ``release`` in ``folder``. ``descriptors`` (name -> open file) are used instead where given."""

    folder: Path
    release: ReleaseId
    descriptors: Mapping[str, int] = field(default_factory=dict)

    def path(self, suffix: str) -> Path:
        """The file with ``suffix``, for messages above all."""
        return self.folder / f"{self.release}{suffix}"

    @property
    def index(self) -> Path:
        """Where the index of the release's name would lie: beside the folder."""
        return self.folder.parent / f"{self.release.name}{INDEX_SUFFIX}"

    def open(self, path: Path) -> int:
        """A descriptor of one of the files, at its start; the caller closes it. Raises what ``oserrors`` says."""
        if not self.descriptors:
            return _open_regular(path)
        if path.name not in self.descriptors:
            raise NotFound("notfound.file", f"{path} was not handed over")
        descriptor = os.dup(self.descriptors[path.name])
        os.lseek(descriptor, 0, os.SEEK_SET)  # a duplicate shares its position
        return descriptor

    def has(self, path: Path) -> bool:
        """Whether there is such a file."""
        return path.name in self.descriptors if self.descriptors else path.is_file()

    def size(self, path: Path) -> int:
        """Its size in bytes."""
        descriptor = self.open(path)
        try:
            return os.fstat(descriptor).st_size
        finally:
            os.close(descriptor)

    def read(self, path: Path, most: int) -> bytes:
        """Its content, cut after ``most + 1`` bytes, which every parser refuses as too large."""
        with os.fdopen(self.open(path), "rb") as file:
            return file.read(most + 1)


def locate(path: Path) -> Source:
    """The release at ``path``: a release folder, or a file of one. Raises NotFound or UsageFault."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise from_oserror(error, "the release to add") from error
    if stat.S_ISDIR(mode):
        return Source(path, _release_in(path))
    for suffix in SUFFIXES:
        if path.name.endswith(suffix):
            return Source(path.parent, _parse_id(path.name.removesuffix(suffix), path))
    raise UsageFault("usage", f"{path} is neither a release folder nor a file of one (NAME@VERSION.tgz)")


def handed_over(path: Path, names: Sequence[str], descriptors: Sequence[int]) -> Source:
    """The release whose files a client has opened; ``path`` is what it was asked to add."""
    if len(names) != len(descriptors) or len(set(names)) != len(names):
        raise UsageFault("control.request", "there is not one name for every file that was handed over")
    for descriptor in descriptors:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise UsageFault("control.request", "only regular files can be handed over")
    named = [name.removesuffix(".minimal.json") for name in names if name.endswith(".minimal.json")]
    if len(named) != 1:
        raise UsageFault("control.request", "the files that were handed over are not those of one release")
    folder = path.parent if any(path.name == f"{named[0]}{suffix}" for suffix in SUFFIXES) else path
    return Source(folder, _parse_id(named[0], path), dict(zip(names, descriptors, strict=True)))


@contextmanager
def opened(source: Source) -> Iterator[dict[str, int]]:
    """Every file of ``source`` and the index beside it, opened: what a client hands over. Raises NotFound et al."""
    descriptors: dict[str, int] = {}
    try:
        paths = [source.path(suffix) for suffix in SUFFIXES]
        for path in [*paths, source.index] if source.index.is_file() else paths:
            descriptors[path.name] = source.open(path)
        yield descriptors
    finally:
        for descriptor in descriptors.values():
            os.close(descriptor)


def read_file(path: Path, most: int) -> bytes:
    """The content of a regular file, cut after ``most + 1`` bytes."""
    with os.fdopen(_open_regular(path), "rb") as file:
        return file.read(most + 1)


def _release_in(folder: Path) -> ReleaseId:
    named = sorted(path.name for path in folder.glob("[!.]*.minimal.json"))
    if not named:
        raise NotFound("notfound.file", f"{folder} is no release folder: it has no NAME@VERSION.minimal.json")
    if len(named) > 1:
        raise UsageFault("usage", f"{folder} holds several releases: name the .tgz of one")
    return _parse_id(named[0].removesuffix(".minimal.json"), folder / named[0])


def _parse_id(text: str, file: Path) -> ReleaseId:
    try:
        return ReleaseId.parse(text)
    except Malformed as error:
        raise UsageFault("usage", f"{file} is not named like a file of a release: {error.message}") from error


def _open_regular(path: Path) -> int:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if path.is_symlink():
            raise UsageFault("usage", f"{path} is not a regular file") from error
        raise from_oserror(error, "a release has six files") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UsageFault("usage", f"{path} is not a regular file")
    return descriptor
