"""The resolver's store on disk: where trees, work in progress, floors, receipts and locks lie, and in which order.

Layout below the store's root (``docs/specification/resolver.md``, "Store"): ``packages/name@version/`` installed trees,
``staging/name@version.<v2 hash>/`` one download each, ``floors/``, ``receipts/``, ``locks/``. A tree appears by one
rename; its floor is written before and its receipt after it, so that a crash between them costs a second verification
and nothing else. One process at a time works on a release: it holds the release's lock.

Every function blocks; trio code calls it in a thread. ``OSError`` passes through and becomes ``storage.*`` at the top.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import threading
from dataclasses import dataclass
from pathlib import Path

from libreseed import limits
from libreseed.adapters.files.durable import durable_write
from libreseed.errors import LocalFault
from libreseed.ids import PublicKey, ReleaseId, TorrentV2Hash
from libreseed.resolve.floors import Floor, parse_floor, require_rise
from libreseed.resolve.receipt import Receipt, parse_receipt

__all__ = ["ReleaseLock", "Store", "Workspace", "store_root"]


def store_root(named: Path | None = None) -> Path:
    """The store to use: the one that was named, else ``LIBRESEED_STORE``, else the user's own."""
    if named is not None:
        return named.expanduser().absolute()
    from libreseed.adapters.command.settings import default_directory

    chosen = os.environ.get("LIBRESEED_STORE")
    return (Path(chosen).expanduser() if chosen else default_directory("data") / "store").absolute()


@dataclass(frozen=True, slots=True)
class Workspace:
    """Where one download lies until it is installed; everything in it can be thrown away and fetched again."""

    root: Path

    @property
    def record(self) -> Path:
        """The minimal manifest that the download follows."""
        return self.root / "minimal.json"

    @property
    def info(self) -> Path:
        """The torrent's info dictionary, as soon as it is known."""
        return self.root / "torrent-info"

    @property
    def fresh(self) -> bool:
        """Whether nothing is known of the torrent yet, so that nothing of it can be here."""
        return not self.info.exists()

    @property
    def journal(self) -> Path:
        """Which chunks were verified."""
        return self.root / "journal"

    @property
    def swarm(self) -> Path:
        """The folder of the three files that the torrent session writes."""
        return self.root / "swarm"


class ReleaseLock:
    """An exclusive ``flock`` on one release, for as long as it is not closed; the kernel drops it if we die."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._guard = threading.Lock()  # owns _descriptor and _closed
        self._descriptor: int | None = None
        self._closed = False

    def acquire(self, *, wait: bool) -> bool:
        """Take it, waiting for another process if asked to; False when another holds it or it was closed meanwhile."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            os.close(descriptor)
            return False
        with self._guard:
            if self._closed:  # nobody waits any more: a thread that outlived its task must not keep the lock
                os.close(descriptor)
                return False
            self._descriptor = descriptor
        return True

    def close(self) -> None:
        """Give it back."""
        with self._guard:
            self._closed = True
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None


class Store:
    """One store; ``root`` is made on first use."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def packages(self) -> Path:
        """Where releases are installed unless another place is named."""
        return self.root / "packages"

    def open(self) -> None:
        """Make the folders, and prove that they can be written before anything is fetched."""
        for name in ("packages", "staging", "floors", "receipts", "locks"):
            (self.root / name).mkdir(parents=True, exist_ok=True, mode=0o755)
            if not os.access(self.root / name, os.W_OK | os.X_OK):
                raise PermissionError(13, os.strerror(13), str(self.root / name))

    def lock(self, release: ReleaseId) -> ReleaseLock:
        """The lock of one release, not yet taken."""
        return ReleaseLock(self.root / "locks" / f"{release}.lock")

    # --- work in progress -----------------------------------------------------------------------------------------
    def workspace(self, release: ReleaseId, torrent: TorrentV2Hash) -> Workspace:
        """The workspace of this content, kept if it exists; those of other contents of the release are removed."""
        parent = self.root / "staging"
        mine = parent / f"{release}.{torrent.hex[:16]}"
        for other in sorted(parent.glob(f"{release}.*")):
            if other != mine and _belongs_to(other.name, release):
                shutil.rmtree(other)
        space = Workspace(mine)
        space.swarm.mkdir(parents=True, exist_ok=True)
        return space

    def workspaces(self, release: ReleaseId) -> list[Workspace]:
        """Downloads of ``release`` that were begun and not finished."""
        parent = self.root / "staging"
        return [Workspace(path) for path in sorted(parent.glob(f"{release}.*")) if _belongs_to(path.name, release)]

    def discard(self, space: Workspace) -> None:
        """Remove a workspace: its release is installed, or its content was refused."""
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(space.root)

    # --- floors ---------------------------------------------------------------------------------------------------
    def floors(self, release: ReleaseId, publishers: tuple[PublicKey, ...]) -> dict[PublicKey, Floor]:
        """The floors kept for ``release`` by these publishers."""
        found = {}
        for publisher in publishers:
            data = _read(self._floor_path(release, publisher))
            if data is not None:
                found[publisher] = parse_floor(data, release, publisher)
        return found

    def keep_floor(self, floor: Floor) -> None:
        """Write a floor, which never falls, whatever its caller has read; raises ``floor.rollback`` or ``.conflict``.

        Whoever waited for another process, or works offline without the release's lock, has read one that is old.
        """
        require_rise(self.floors(floor.release, (floor.publisher,)).get(floor.publisher), floor)
        durable_write(self._floor_path(floor.release, floor.publisher), floor.data)

    def _floor_path(self, release: ReleaseId, publisher: PublicKey) -> Path:
        return self.root / "floors" / f"{release}.{publisher.raw.hex()[:32]}.json"

    # --- receipts -------------------------------------------------------------------------------------------------
    def receipt(self, release: ReleaseId, final: Path) -> Receipt | None:
        """The receipt of ``release`` installed at ``final``, if it was."""
        data = _read(self._receipt_path(release, final))
        if data is None:
            return None
        receipt = parse_receipt(data)
        if receipt.minimal.release != release or receipt.path != str(final):
            raise LocalFault("storage.state", f"the receipt kept for {release} at {final} is another's")
        return receipt

    def keep_receipt(self, receipt: Receipt) -> None:
        """Write a receipt, after its tree was published."""
        durable_write(self._receipt_path(receipt.minimal.release, Path(receipt.path)), receipt.data)

    def _receipt_path(self, release: ReleaseId, final: Path) -> Path:
        place = hashlib.sha256(os.fsencode(final)).hexdigest()[:16]
        return self.root / "receipts" / f"{release}.{place}.json"


def _read(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            return file.read(limits.STORE_RECORD_BYTES + 1)
    except FileNotFoundError:
        return None


def _belongs_to(name: str, release: ReleaseId) -> bool:
    """Whether ``name`` is ``release`` + "." + 16 hex digits: pkg@1.0.0 must not match pkg@1.0.0-a.<hash>."""
    rest = name.removeprefix(f"{release}.")
    return len(rest) == 16 and all(digit in "0123456789abcdef" for digit in rest)
