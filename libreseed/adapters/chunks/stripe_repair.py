"""One pass over the stripes of a release on disk: verify what is read, decode what lacks, verify that, write it.

Only chunks that verified in this pass enter decoding, and a stripe is written only if all that was decoded verifies.
Each stripe is touched by one thread, so the shared :class:`RepairFindings` need no lock. The caller opens the files,
syncs what was written and only then reports it. Section 3.6 of the specification.
"""

from __future__ import annotations

from libreseed import limits
from libreseed.adapters.chunks.chunk_runs import flags_of, read_at
from libreseed.adapters.chunks.stripe_io import read_row, write_at
from libreseed.repair.chunkmap import ChunkMap, chunk_digests, digests_of
from libreseed.repair.encoder import StripeWindow
from libreseed.repair.plan import Verified, plan_repair
from libreseed.repair.stripes import choose_shares, stripe_coder

__all__ = ["RepairFindings", "StripeRepairer"]

_CHUNK = limits.CHUNK_BYTES


class RepairFindings:
    """What all threads of a pass found and did; see ``RepairReport`` for the members."""

    def __init__(self, chunk_map: ChunkMap, known: Verified | None = None) -> None:
        flags = (known.data, known.parity) if known is not None else ()
        self.verified = Verified(chunk_map.grid, chunk_map.m, *flags)
        self.least_parts = chunk_map.grid.k + chunk_map.m
        if known is not None:
            self.least_parts = plan_repair(self.verified).coherence.verified
        self.repaired: list[int] = []
        self.repaired_parity: list[int] = []
        self.lying: list[int] = []


class StripeRepairer:
    """Repairs groups of stripes with memory of its own; one thread owns it. A descriptor of -1 is a missing file."""

    def __init__(
        self, chunk_map: ChunkMap, tgz: int, parity: int, *, heal_parity: bool, findings: RepairFindings
    ) -> None:
        self._map = chunk_map
        self._grid = chunk_map.grid
        self._m = chunk_map.m
        self._tgz = tgz
        self._parity_file = parity
        self._heal_parity = heal_parity
        self._findings = findings
        self._window = StripeWindow(self._grid, self._m)
        self._parity = memoryview(bytearray(self._window.width * self._m * _CHUNK))
        self._coder = stripe_coder(self._grid.k, self._m)

    def repair_group(self, first: int) -> int:
        """Repair the group that begins with stripe ``first``; returns how many stripes it has."""
        self._window.move(first)
        bad_rows = self._load_data()
        self._load_parity()
        verified, findings = self._findings.verified, self._findings
        for at, stripe in enumerate(self._window.stripes()):
            parts = verified.rows_verified(stripe) + verified.parity_verified(stripe)
            findings.least_parts = min(findings.least_parts, parts)
            if bad_rows[at] and (parts < self._grid.k or not self._decode(at, stripe, bad_rows[at])):
                continue
            if self._heal_parity and verified.parity_verified(stripe) < self._m:
                self._encode(at, stripe)
        return self._window.count

    def _load_data(self) -> list[list[int]]:
        """Read and judge the group's data; for each of its stripes the rows that do not verify."""
        bad_rows: list[list[int]] = [[] for _ in range(self._window.count)]
        for row in range(self._grid.k):
            chunks = self._window.chunks(row)
            places = read_row(self._tgz, self._window, row)
            flags = flags_of(digests_of(places), self._map.data_digests(chunks))
            self._findings.verified.data[chunks.start : chunks.stop] = flags
            at = flags.find(0)
            while at >= 0:
                bad_rows[at].append(row)
                at = flags.find(0, at + 1)
        return bad_rows

    def _load_parity(self) -> None:
        window, m = self._window, self._m
        chunks = range(window.first * m, (window.first + window.count) * m)
        memory = self._parity[: len(chunks) * _CHUNK]
        got = read_at(self._parity_file, memory, window.parity_offset)
        flags = flags_of(chunk_digests(memory[:got]), self._map.parity_digests(chunks))
        self._findings.verified.parity[chunks.start : chunks.stop] = flags

    def _decode(self, at: int, stripe: int, bad_rows: list[int]) -> bool:
        """Decode, verify and write the rows that lack; false if the parity proves to be a lie."""
        grid, window, verified = self._grid, self._window, self._findings.verified
        spare = [row for row, j in enumerate(grid.parity_of(stripe, self._m)) if verified.parity[j]]
        shares = set(range(grid.k)) - set(bad_rows) | {grid.k + row for row in spare}
        numbers = choose_shares(grid.k, shares)
        for row in bad_rows:
            start = (at * self._m + numbers[row] - grid.k) * _CHUNK
            window.place(at, row)[:] = self._parity[start : start + _CHUNK]
        decoded = memoryview(self._coder.decode(window.stripe(at), numbers))
        chunks = [row * grid.s + stripe for row in bad_rows]
        pieces = [decoded[n * _CHUNK :][: grid.chunk(i)[1]] for n, i in enumerate(chunks)]
        if digests_of(pieces) != b"".join(map(self._map.data_digest, chunks)):
            self._findings.lying.append(stripe)
            return False
        for n, (row, i) in enumerate(zip(bad_rows, chunks, strict=True)):
            write_at(self._tgz, pieces[n], grid.chunk(i)[0])
            window.place(at, row)[:] = decoded[n * _CHUNK : (n + 1) * _CHUNK]
            verified.data[i] = 1
        self._findings.repaired += chunks
        return True

    def _encode(self, at: int, stripe: int) -> None:
        """Make the parity of a complete stripe anew and write the chunks that are wrong in the file."""
        chunks = self._grid.parity_of(stripe, self._m)
        memory = bytearray(self._m * _CHUNK)
        self._coder.encode_into(self._window.stripe(at), memory)
        if chunk_digests(memory) != self._map.parity_digests(chunks):
            self._findings.lying.append(stripe)
            return
        for row, j in enumerate(chunks):
            if not self._findings.verified.parity[j]:
                write_at(self._parity_file, memory[row * _CHUNK : (row + 1) * _CHUNK], j * _CHUNK)
                self._findings.verified.parity[j] = 1
                self._findings.repaired_parity.append(j)
