"""A .tgz whose bytes are not the same each time they are read, while it is extracted beside its download."""

from __future__ import annotations

import random
from functools import partial
from pathlib import Path

import pytest

from libreseed.adapters.files.growing_file import GrowingFile
from libreseed.adapters.resolving import early_extraction
from libreseed.ids import ReleaseId
from services.resolver.mirror_options import MirrorOptions
from tests.archive_forge import Forge, gz
from tests.integration.test_early_extraction import WAITING, extracted, held_back
from tests.mirror_support import files_of, start
from tests.resolver_support import Sample, forge_sample, scene

RELEASE = ReleaseId.parse("pkg@1.0.0")


def signed(folder: Path, seed: int, size: int) -> Sample:
    """One of several packages that their publisher signed under one name, version and time."""
    draw = random.Random(seed)
    forge = Forge({"a.bin": draw.randbytes(9_000_000), "b.bin": draw.randbytes(size)}, executables=())
    return forge_sample(folder, gz(forge.tar), key=forge.key, release=RELEASE)


@pytest.mark.parametrize("size", [3_000_000, 4_000_000])
async def test_what_was_read_beside_the_download_is_what_was_signed_not_only_what_somebody_signed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """Stray blocks lie over verified chunks when the archive is read, and are gone again when it is hashed. They make
    a package of which everything but the signed SHA-256 holds: its publisher signed it, too."""
    monkeypatch.setattr(early_extraction, "_LOOK_S", 0.0)
    monkeypatch.setattr(early_extraction, "_FAST", 10**18)
    asked, other = signed(tmp_path / "asked", 1, 4_000_000), signed(tmp_path / "other", 2, size)
    opened = GrowingFile.__enter__

    def strayed(file: GrowingFile) -> GrowingFile:
        file._path = other.files.tgz
        return opened(file)

    monkeypatch.setattr(GrowingFile, "__enter__", strayed)
    async with scene(tmp_path, asked, publish=False) as it:
        mirror = await start(it.nursery, files_of(asked), held_back(asked, partial(extracted, it.store / "packages")))
        outcome = await it.resolve(bootstrap=(), mirrors=MirrorOptions((mirror.url,)), policy=WAITING)
        assert (Path(outcome.path) / "b.bin").read_bytes() == random.Random(1).randbytes(13_000_000)[9_000_000:]
