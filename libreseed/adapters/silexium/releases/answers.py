"""What a Silexium server answers about releases, out of its catalogue and its log, under one head.

A :class:`Served` is one head with everything answered under it: a release is there if its entry is covered by that
head, whatever else the database holds by now, so nothing is served before it is logged. Answers are kept as bytes and
given again while the head stays. A head that a client knows and that does not fit is answered with the proof of the
fork (``silexium.fork``): a database that lost its end must not go on unnoticed. Everything here blocks but
:meth:`Served.cached`. Specification: ``silexium-api.md``, 4.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from libreseed import limits, wire
from libreseed.adapters.silexium.log.log_store import LogStore
from libreseed.adapters.silexium.releases.catalogue import Progress, read_release
from libreseed.errors import LocalFault, NotFound, ProofRejected
from libreseed.ids import PackageName, ReleaseId, Version
from libreseed.silexium.bundle import Bundle, HeaderRun, InclusionProof
from libreseed.silexium.cbor import write_cbor
from libreseed.silexium.install_answer import InstallAnswer
from libreseed.silexium.install_request import DEFAULT_CHANNEL, InstallRequest
from libreseed.silexium.log_memory import ConsistencyProof, HeadConflict
from libreseed.silexium.log_path import LogPath, covered_size
from libreseed.silexium.log_proofs import verify_consistency
from libreseed.silexium.precedence import rank
from libreseed.silexium.release_manifest import ReleaseManifest
from libreseed.silexium.tree_head import Checkpoint, SignedTreeHead, parse_tree_head

__all__ = ["Answers", "Served", "question_of"]

_FIND = (
    "SELECT versions.id FROM versions JOIN packages ON packages.id = package_id "
    "WHERE name = ? AND state = 'logged' AND log_index < ?"
)


@dataclass(slots=True)
class Served:
    """A head, and the answers made under it; at most ``ANSWER_CACHE_BYTES`` of them, those used last."""

    checkpoint: Checkpoint
    headers: HeaderRun | None = None
    _answers: OrderedDict[object, bytes] = field(default_factory=OrderedDict)
    _bytes: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def head(self) -> SignedTreeHead:
        """The head."""
        return self.checkpoint.sth

    def cached(self, question: object) -> bytes | None:
        """The answer that was given to this question before."""
        with self._lock:
            answer = self._answers.get(question)
            if answer is not None:
                self._answers.move_to_end(question)
            return answer

    def keep(self, question: object, answer: bytes) -> bytes:
        """Remember an answer; returns it."""
        with self._lock:
            if question not in self._answers and len(answer) <= limits.ANSWER_CACHE_BYTES:
                self._answers[question] = answer
                self._bytes += len(answer)
                while self._bytes > limits.ANSWER_CACHE_BYTES:
                    self._bytes -= len(self._answers.popitem(last=False)[1])
        return answer


class Answers:
    """``headers`` gives the block headers to put into bundles, None where a client must have its own.

    Heads are served once ``cosigned`` witnesses have signed them.
    """

    def __init__(self, log: LogStore, *, headers: Callable[[], HeaderRun | None], cosigned: int = 0) -> None:
        self._log = log
        self._headers = headers
        self._cosigned = cosigned

    def served(self, before: Served | None = None) -> Served:
        """What is served now: ``before`` itself while the head is the same. Raises ``silexium.unready`` before the
        first head."""
        checkpoint = self._log.checkpoint(self._cosigned)
        if checkpoint is None:
            raise LocalFault("silexium.unready", "the log has no head yet")
        if before is not None and before.checkpoint == checkpoint:
            return before
        return Served(checkpoint, self._headers())

    def install(self, served: Served, request: InstallRequest, *, update: bool, cbor: bool = False) -> bytes:
        """The answer to a request, as JSON or ``cbor``. Raises NotFound (``notfound.version``) and ProofRejected
        (``silexium.head*``, ``.behind``, ``.fork``) for a known head that is not this log's or does not fit."""
        question = question_of(request, update=update, cbor=cbor)
        if (known := served.cached(question)) is not None:
            return known
        consistency = self._consistency(served, request.known_sth)
        release = self._find(served, request)
        up_to_date = None
        if update and request.current_version is not None:
            up_to_date = rank(release.release.version) <= rank(request.current_version)
        answer = InstallAnswer.of(
            ReleaseManifest(release.manifest),
            self._bundle(served, release),
            (request.os, request.arch),
            consistency=consistency,
            up_to_date=up_to_date,
        )
        return served.keep(question, (write_cbor if cbor else wire.canonical)(answer.members()))

    def bundle(self, served: Served, release: ReleaseId) -> bytes:
        """The bundle of a release; raises NotFound (``notfound.version``)."""
        if (known := served.cached(release)) is not None:
            return known
        with self._log.database.read() as connection:
            found = _exact(connection, served.head.size, release.name, release.version)
        if found is None:
            raise NotFound("notfound.version", f"{release} is not in the log")
        return served.keep(release, self._bundle(served, found).data)

    def file(self, served: Served, place: LogPath) -> bytes:
        """A tile, a bundle of entries or an entry, as far as the served head covers it; raises ``notfound.log``."""
        if covered_size(place) > served.head.size:
            raise NotFound("notfound.log", f"the log does not have {place.path} yet")
        return self._log.read_path(place)

    def _find(self, served: Served, request: InstallRequest) -> Progress:
        size = served.head.size
        with self._log.database.read() as connection:
            if request.version is not None:
                found = _exact(connection, size, request.package, request.version)
                if found is not None and request.channel not in (None, ReleaseManifest(found.manifest).channel):
                    found = None
            else:
                query = f"{_FIND} AND channel = ? ORDER BY rank DESC, log_index DESC LIMIT 1"
                channel = request.channel or DEFAULT_CHANNEL
                row = connection.execute(query, (str(request.package), size, channel)).fetchone()
                found = None if row is None else read_release(connection, row[0])
        if found is None:
            what = f"version {request.version}" if request.version else f"channel {request.channel or DEFAULT_CHANNEL}"
            raise NotFound("notfound.version", f"the log has nothing of {request.package}, {what}")
        return found

    def _bundle(self, served: Served, release: Progress) -> Bundle:
        if release.entry is None or release.log_index is None:
            raise AssertionError("only what is logged is served")
        hashes = self._log.inclusion(release.log_index, served.head.size)
        return Bundle(
            release.manifest,
            release.attestations,
            release.stamps,
            release.entry,
            InclusionProof(release.log_index, served.head.size, tuple(hashes)),
            served.head.members(),
            tuple(str(cosignature.line) for cosignature in served.checkpoint.cosignatures),
            served.headers,
        )

    def _consistency(self, served: Served, value: wire.JsonValue) -> ConsistencyProof | None:
        if value is None:
            return None
        known, head = parse_tree_head(value, self._log.identity), served.head
        if known.size > head.size:
            evidence = {"known": known.members(), "served": head.members()}
            message = f"this server's log has {head.size} entries; you have seen {known.size}"
            raise ProofRejected("silexium.behind", message, evidence=evidence)
        if known.size == 0:
            return None  # every log begins with the empty one
        proof = ConsistencyProof(known.size, known.size, ())
        if known.size < head.size:
            proof = self._log.consistency(known.size, head.size)
        try:
            verify_consistency(known.size, head.size, known.root.raw, head.root.raw, proof.hashes)
        except ProofRejected as error:
            raise self._forked(known, head) from error
        return proof

    def _forked(self, known: SignedTreeHead, head: SignedTreeHead) -> ProofRejected:
        """Both heads are signed by this log, and do not fit: everybody must hear of it."""
        nodes = tuple(self._log.prefix(known.size, head.size)) if known.size < head.size else ()
        conflict = HeadConflict(known, head, nodes)
        message = f"this log has signed two histories: heads of {known.size} and {head.size} entries do not fit"
        return ProofRejected("silexium.fork", message, evidence=conflict.members())


def question_of(request: InstallRequest, *, update: bool, cbor: bool = False) -> object:
    """What makes two requests one question."""
    return (update, cbor, wire.canonical(request.members()))


def _exact(connection: sqlite3.Connection, size: int, package: PackageName, version: Version) -> Progress | None:
    row = connection.execute(f"{_FIND} AND version = ?", (str(package), size, str(version))).fetchone()
    return None if row is None else read_release(connection, row[0])
