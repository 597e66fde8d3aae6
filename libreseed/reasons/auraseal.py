"""AuraSeal (``docs/specification/auraseal.md``)."""

from __future__ import annotations

from libreseed.reasons.table import ENCODING_FAULTS, Exit, Reason, rows

__all__ = ["ROWS"]

ROWS: tuple[Reason, ...] = (
    *rows(
        Exit.CONTENT_REJECTED,
        "The part is damaged or forged: fetch it from another place, or let its component be healed from the others.",
        "auraseal.huffman-payload",
        "auraseal.huffman-table",
        "auraseal.lying-part",
        "auraseal.part-checksum",
        "auraseal.part-fields",
        "auraseal.part-footer",
        "auraseal.part-header",
        "auraseal.part-length",
        "auraseal.siblings",
    ),
    *rows(
        Exit.CONTENT_REJECTED,
        "It is larger than this format holds: use the .tgz itself.",
        "auraseal.too-large",
    ),
    *rows(
        Exit.CONTENT_REJECTED,
        "The package or its manifest is damaged or forged: fetch it from another place, or ask the publisher.",
        *(f"auraseal.{fault}" for fault in ENCODING_FAULTS if fault != "too-large"),
        "auraseal.collision",
        "auraseal.file-and-folder",
        "auraseal.integrity-recovery",
        "auraseal.path",
        "auraseal.path-bounds",
        "auraseal.zip-crc",
        "auraseal.zip-form",
        "auraseal.zip-path",
        "auraseal.zip-size",
    ),
    *rows(
        Exit.CONTENT_REJECTED,
        "Do not run the file: it is not the one that the page's author meant; ask them.",
        "auraseal.integrity",
        "auraseal.integrity-attribute",
    ),
    *rows(
        Exit.CONTENT_REJECTED,
        "Correct the script tag that is named, or add the file, and run it again.",
        "auraseal.page",
    ),
    *rows(
        Exit.CONTENT_REJECTED,
        "Write it as <service>.<operation>.obinexus.<department>.<division>.<country>.org.",
        "auraseal.service-name",
    ),
    *rows(Exit.NOT_FOUND, "Look into the package's integrity-manifest.json.", "notfound.component"),
)
