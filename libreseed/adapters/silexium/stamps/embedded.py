"""The embedded world: a time stamp authority, an OpenTimestamps calendar and a regtest chain of one's own, in a folder.

It lets the whole of Silexium run without any network, and proves nothing about whoever runs it: the operator sets the
clock of the authority and mines the chain alone. ``time_table`` says so by naming both; nothing trusts them unasked.

The folder appears whole by one rename, with mode 0700: ``tsa-root.pem`` (its key is never stored), ``tsa.pem``,
``tsa.key`` and ``calendar.key`` (0600), and ``calendar.db`` with every commitment, its proof and the chain's headers.
What was promised is on the disk before it is answered, so a restart or kill -9 forgets nothing. Several processes may
use one folder. Specification: ``silexium-time.md``, 5.

Every method blocks for some milliseconds; trio code calls them in threads.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from libreseed.adapters.files.durable import durable_create, publish_directory, remove_leftovers, staging_directory
from libreseed.adapters.files.oserrors import from_oserror
from libreseed.adapters.silexium.database import Database, Schema, open_database
from libreseed.errors import LibreSeedError, LocalFault, Malformed
from libreseed.silexium.bitcoin_headers import HEADER_BYTES, REGTEST, HeaderChain
from libreseed.silexium.embedded_calendar import aggregate, anchor
from libreseed.silexium.embedded_tsa import EMBEDDED_POLICY, EmbeddedTsa
from libreseed.silexium.ots import PROMISE_CHARACTERS, BitcoinAttestation, parse_timestamp, write_ots
from libreseed.silexium.time_stamp_request import TimeStampRequest

if TYPE_CHECKING:
    import sqlite3

    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

__all__ = ["EMBEDDED_LABEL", "EmbeddedWorld", "embedded_world"]

EMBEDDED_LABEL = "embedded: proves nothing about the operator"
_SCHEMA = Schema(
    "calendar",
    (
        (
            "blocks and commitments",
            """
            CREATE TABLE blocks(height INTEGER PRIMARY KEY, header BLOB NOT NULL) STRICT;
            CREATE TABLE commitments(
              sequence INTEGER PRIMARY KEY, commitment BLOB NOT NULL UNIQUE, timestamp BLOB) STRICT;
            CREATE INDEX commitments_waiting ON commitments(sequence) WHERE timestamp IS NULL;
            """,
        ),
    ),
)
_DIGEST_BYTES = range(20, 65)  # what a calendar takes, as the reference server does
_NO_CLOCK = 2**32  # what was mined here was judged by the clock then
_PER_BLOCK = 4096  # commitments


def embedded_world(folder: Path, *, clock: Callable[[], int] = lambda: int(time.time())) -> EmbeddedWorld:
    """The world in ``folder``, made at first use; ``clock`` gives Unix seconds.

    Raises :class:`LocalFault` ``storage.*`` when the folder cannot be used, ``storage.embedded`` when a file of it is
    not what it should be.
    """
    try:
        if not folder.exists():
            _create(folder)
        return EmbeddedWorld(folder, clock)
    except OSError as error:
        raise from_oserror(error, "opening the embedded authorities") from error
    except (ValueError, TypeError) as error:
        raise LocalFault("storage.embedded", f"the embedded authorities in {folder} are damaged: {error}") from error


class EmbeddedWorld:
    """What :func:`embedded_world` returns; ``now`` is in Unix seconds, the world's own clock where it is left out.

    ``uri`` is what proofs name as their calendar: where :func:`embedded_app` is mounted (:meth:`reachable_at`).
    ``mines`` says whether a question about a waiting commitment mines a block at once (else only :meth:`mine` does).
    """

    def __init__(self, folder: Path, clock: Callable[[], int]) -> None:
        from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        self.folder = folder
        self.clock = clock
        self.uri = "http://embedded.invalid"
        self.mines = True
        self.root_pem = (folder / "tsa-root.pem").read_text(encoding="ascii")
        self.root = _der(self.root_pem.encode())  # DER
        key = load_pem_private_key((folder / "tsa.key").read_bytes(), None)
        if not isinstance(key, EllipticCurvePrivateKey):
            raise TypeError("tsa.key holds no P-256 key")
        self._tsa = EmbeddedTsa(key, _der((folder / "tsa.pem").read_bytes()))
        self._known = HeaderChain.read(REGTEST, 0, REGTEST.genesis, now=_NO_CLOCK)
        self._lock = threading.Lock()  # owns _known
        self._calendar_key = (folder / "calendar.key").read_bytes()
        with self._database() as database, database.write() as connection:
            connection.execute("INSERT OR IGNORE INTO blocks VALUES (?, ?)", (0, REGTEST.genesis))

    def reachable_at(self, url: str) -> None:
        """Let promises name ``url`` as their calendar from now on, if they can: the format knows no IPv6 brackets.

        A path needs a slash at its end: the reference client would put ``timestamp`` in the place of its last part.
        """
        if PROMISE_CHARACTERS.issuperset(url):
            self.uri = url

    # --- time stamp authority ---------------------------------------------------------------------------------------

    def answer(self, request: bytes, *, now: int | None = None) -> bytes:
        """The authority's DER TimeStampResp to a DER TimeStampReq."""
        return self._tsa.answer(request, now=self._now(now), serial=secrets.randbits(127))

    def token(self, message: bytes, *, now: int | None = None) -> bytes:
        """A time stamp of ``message`` (a whole response, as bundles hold it)."""
        return self.answer(TimeStampRequest(message, secrets.randbits(62) + 1).encode(), now=now)

    # --- calendar ---------------------------------------------------------------------------------------------------

    def submit(self, digest: bytes, *, now: int | None = None) -> bytes:
        """Take a digest of 20 to 64 bytes; returns its time stamp, which ends in a promise.

        Raises :class:`Malformed` (``encoding.range``) for any other length.
        """
        if len(digest) not in _DIGEST_BYTES:
            raise Malformed("encoding.range", f"a digest has 20 to 64 bytes, not {len(digest)}")
        taken = aggregate([digest], [secrets.token_bytes(16)], uri=self.uri, key=self._calendar_key, now=self._now(now))
        with self._database() as database, database.write() as connection:
            connection.execute("INSERT INTO commitments(commitment) VALUES (?)", (taken.commitment,))
        return taken.answers[0]

    def timestamp(self, commitment: bytes, *, now: int | None = None) -> bytes | None:
        """The rest of the proof for a ``commitment``, None while it waits; raises KeyError for one never made."""
        found = self._timestamp(commitment)
        if found is None and self.mines:
            self.mine(now=now)
            found = self._timestamp(commitment)
        return found

    def mine(self, *, now: int | None = None) -> int | None:
        """Anchor all that waits in one block; its height, or None when nothing waited."""
        with self._database() as database, database.write() as connection:  # one process mines at a time
            rows = connection.execute(
                "SELECT commitment FROM commitments WHERE timestamp IS NULL ORDER BY sequence LIMIT ?", (_PER_BLOCK,)
            ).fetchall()
            if not rows:
                return None
            chain = self._chain(connection)
            after = int.from_bytes(chain.data[-HEADER_BYTES:][68:72], "little") + 1
            mined = anchor([row[0] for row in rows], chain, now=max(self._now(now), after))
            connection.execute("INSERT INTO blocks VALUES (?, ?)", (mined.height, mined.header))
            connection.executemany(
                "UPDATE commitments SET timestamp = ? WHERE commitment = ?",
                [(timestamp, commitment) for commitment, timestamp in mined.timestamps],
            )
        return mined.height

    def proof(self, message: bytes, *, now: int | None = None) -> bytes:
        """A complete detached proof (``.ots``) of ``message``: submitted, mined and joined."""
        digest = hashlib.sha256(message).digest()
        (promised,) = parse_timestamp(self.submit(digest, now=now), digest)
        commitment = getattr(promised.end, "commitment", b"")
        self.mine(now=now)
        rest = self._timestamp(commitment)
        (anchored,) = parse_timestamp(rest or b"", commitment)
        if not isinstance(anchored.end, BitcoinAttestation):
            raise AssertionError("a mined commitment ends in a block")
        return write_ots(digest, (*promised.steps, *anchored.steps), anchored.end)

    # --- chain and policy -------------------------------------------------------------------------------------------

    def headers(self) -> bytes:
        """All headers of the regtest chain from its genesis on, 80 bytes each."""
        return self.chain().data

    def chain(self) -> HeaderChain:
        """The verified regtest chain, as a verifier takes it."""
        with self._database() as database, database.read() as connection:
            return self._chain(connection)

    def time_table(self) -> dict[str, object]:
        """The ``[time]`` table of a policy that believes this world (:func:`parse_silexium_policy`)."""
        return {
            "network": REGTEST.name,
            "tsas": [{"name": "embedded", "root": self.root_pem, "policy": EMBEDDED_POLICY}],
        }

    def _timestamp(self, commitment: bytes) -> bytes | None:
        query = "SELECT timestamp FROM commitments WHERE commitment = ?"
        with self._database() as database, database.read() as connection:
            row = connection.execute(query, (commitment,)).fetchone()
        if row is None:
            raise KeyError(commitment.hex())
        return None if row[0] is None else bytes(row[0])

    def _chain(self, connection: sqlite3.Connection) -> HeaderChain:
        with self._lock:
            query = "SELECT header FROM blocks WHERE height > ? ORDER BY height"
            rows = connection.execute(query, (self._known.tip,)).fetchall()
            try:
                self._known.extend(b"".join(row[0] for row in rows), now=_NO_CLOCK)
            except LibreSeedError as error:
                raise LocalFault("storage.embedded", f"the embedded chain is damaged: {error.message}") from error
            return self._known

    def _database(self) -> Database:
        """Open for one piece of work only: whoever drops a world leaves nothing open."""
        return open_database(self.folder / "calendar.db", [_SCHEMA])

    def _now(self, now: int | None) -> int:
        return self.clock() if now is None else now


def _create(folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder.parent)  # of a process that was killed here; there is a key in it
    with staging_directory(folder.parent) as staging:
        root, leaf, key = _certificates()
        durable_create(staging / "tsa-root.pem", root)
        durable_create(staging / "tsa.pem", leaf)
        durable_create(staging / "tsa.key", key, 0o600)
        durable_create(staging / "calendar.key", secrets.token_bytes(32), 0o600)
        durable_create(staging / "README", f"Time stamps for development ({EMBEDDED_LABEL}).\n".encode())
        try:
            publish_directory(staging, folder, mode=0o700)
        except LocalFault as error:
            if error.reason != "storage.exists":  # another process has just made it: that one is used
                raise


def _certificates() -> tuple[bytes, bytes, bytes]:
    """A root and a time stamping certificate (PEM), and the latter's key. The root's own key is forgotten at once."""
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root = _certificate("Embedded root, proves nothing", root_key, None, root_key)
    leaf = _certificate("Embedded time stamps, prove nothing", key, root, root_key)
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return root.public_bytes(Encoding.PEM), leaf.public_bytes(Encoding.PEM), secret


def _certificate(
    name: str, key: EllipticCurvePrivateKey, issuer: x509.Certificate | None, signer: EllipticCurvePrivateKey
) -> x509.Certificate:
    """An authority without ``issuer``; else a certificate for time stamping and nothing else."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    subject = x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "LibreSeed"), x509.NameAttribute(NameOID.COMMON_NAME, name)]
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2049, 12, 31, tzinfo=UTC))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(_key_usage(authority=issuer is None), critical=True)
    )
    if issuer is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING]), critical=True)
    return builder.sign(signer, hashes.SHA256())


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _der(pem: bytes) -> bytes:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    return x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)
