"""What the store says is installed, and its removal. Local only; floors stay, so an old version cannot come back.

Every function blocks. ``OSError`` passes through and becomes ``storage.*`` at the top.
"""

from __future__ import annotations

import shutil
from contextlib import closing
from pathlib import Path

from libreseed import limits
from libreseed.adapters.resolving.store import Store
from libreseed.errors import LocalFault, NotFound
from libreseed.ids import ReleaseId
from libreseed.resolve.receipt import Receipt, parse_receipt

__all__ = ["installed", "uninstall"]


def installed(store: Store) -> list[Receipt]:
    """The receipts of all installed releases whose tree is there, ordered by release and place."""
    found = [receipt for _, receipt in _receipts(store)]
    return sorted(found, key=lambda receipt: (str(receipt.minimal.release), receipt.path))


def uninstall(store: Store, release: ReleaseId) -> list[str]:
    """Remove ``release`` from every place where it is installed; returns the places.

    A tree loses its name in one rename before it is deleted, so nobody sees half of one. Raises :class:`NotFound`
    (``notfound.release``), and :class:`LocalFault` (``storage.locked``) while a resolver works on it.
    """
    mine = [(path, receipt) for path, receipt in _receipts(store) if receipt.minimal.release == release]
    if not mine:
        raise NotFound("notfound.installed", f"{release} is not installed in {store.root}")
    with closing(store.lock(release)) as lock:
        if not lock.acquire(wait=False):
            raise LocalFault("storage.locked", f"a resolver works on {release}")
        for path, receipt in mine:
            _remove_tree(Path(receipt.path))
            path.unlink()
    return [receipt.path for _, receipt in mine]


def _remove_tree(tree: Path) -> None:
    doomed = tree.with_name(f".removed-{tree.name}")
    if doomed.exists():
        shutil.rmtree(doomed)
    tree.rename(doomed)
    shutil.rmtree(doomed)


def _receipts(store: Store) -> list[tuple[Path, Receipt]]:
    """Receipts with their files; one whose tree was taken away by hand does not count."""
    found = []
    for path in _listed(store.root / "receipts"):
        with path.open("rb") as file:
            receipt = parse_receipt(file.read(limits.STORE_RECORD_BYTES + 1))
        if Path(receipt.path).is_dir():
            found.append((path, receipt))
    return found


def _listed(folder: Path) -> list[Path]:
    """The receipts in ``folder``; none where no store was made yet. What cannot be listed is never taken for empty."""
    try:
        paths = sorted(folder.iterdir())
    except FileNotFoundError:
        return []
    except NotADirectoryError as error:
        raise LocalFault("storage.occupied", f"{folder}: a part of this path is a file, no folder") from error
    return [path for path in paths if path.suffix == ".json"]
