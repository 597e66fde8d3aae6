"""A .tgz as components (section 3.9): component ``c`` is its 244 chunks from ``244 * c`` on, in division 0.

Part ``n`` of component ``c`` holds chunk ``244 * c + n``, so the signed chunk map has the digest of every data part.
(The components are not the stripes of section 3.6, which are interleaved.) At most 256 components, 319 MB; a larger
package has no parts. Nothing here reads a file.
"""

from __future__ import annotations

from dataclasses import dataclass

from libreseed import limits
from libreseed.auraseal.component import Reconstruction, build_component, reconstruct
from libreseed.auraseal.part import ComponentShape, Part, least_parity
from libreseed.errors import ContentRejected
from libreseed.repair.chunkmap import ChunkMap

__all__ = ["TgzComponents"]

_ROWS = limits.STRIPE_DATA_ROWS
_CHUNK = limits.CHUNK_BYTES


@dataclass(frozen=True, slots=True)
class TgzComponents:
    """The components of the .tgz that ``chunks`` speaks of; raises ``auraseal.too-large``."""

    chunks: ChunkMap

    def __post_init__(self) -> None:
        if self.count > limits.COMPONENTS:
            raise ContentRejected(
                "auraseal.too-large", f"{self.chunks.grid.size} bytes are more than {limits.COMPONENTS} components hold"
            )

    @property
    def count(self) -> int:
        """How many components there are, 1 to 256."""
        return -(-self.chunks.grid.n // _ROWS)

    def chunk_range(self, component: int) -> range:
        """The chunks of a component; raises ``IndexError``."""
        if not 0 <= component < self.count:
            raise IndexError(f"component {component} of {self.count}")
        return range(component * _ROWS, min((component + 1) * _ROWS, self.chunks.grid.n))

    def span(self, component: int) -> tuple[int, int]:
        """Offset and length of a component in the .tgz, in bytes; raises ``IndexError``."""
        return self.chunks.grid.span(self.chunk_range(component))

    def shape(self, component: int) -> ComponentShape:
        """What all parts of a component share; raises ``IndexError``."""
        data_parts = len(self.chunk_range(component))
        return ComponentShape(component, 0, data_parts, least_parity(data_parts))

    def digests(self, component: int) -> list[bytes]:
        """BLAKE3-256 of the data of each data part, as signed; raises ``IndexError``."""
        run = self.chunks.data_digests(self.chunk_range(component))
        return [run[at : at + 32] for at in range(0, len(run), 32)]

    def build(self, component: int, data: bytes) -> list[Part]:
        """The parts of a component, whose bytes in the .tgz are ``data``; the caller has verified them."""
        if len(data) != self.span(component)[1]:
            raise ValueError(f"{len(data)} bytes are not component {component}")
        return build_component(data, component=component, division=0)

    def reconstruct(self, component: int, files: dict[int, bytes]) -> Reconstruction:
        """The component out of the part files that are left, every chunk verified; raises :class:`ContentRejected`."""
        return reconstruct(files, shape=self.shape(component), expected=self.digests(component))
