"""RFC 3161 time stamps, verified offline: who trusted to tell the time saw these exact bytes, and when.

A response is believed when all of this holds: status granted; imprint SHA-512 of the message; one signer, whose
certificate is named in the signed attributes (ESSCertID), is for time stamping only, and chains at the stamped time to
the pinned root (or is the pinned leaf) of one :class:`TrustedTsa`; that authority's policy and trust window. The clock
now does not decide about certificates: an expired authority's old stamps stay good, a compromised one's are cut off by
``distrust_after``. Revocation lists are not asked.

Signature and chain are checked by ``rfc3161-client``; what it leaves out (imprint algorithm, ESSCertID, digest
strength, window, a certificate set that is not in DER order) is checked here. A response is malleable where nothing
signs it, so its hash is no identity. Specification: ``silexium.md``, 4.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from libreseed import limits
from libreseed.errors import ProofRejected, UsageFault
from libreseed.silexium.instants import LAST_INSTANT, format_instant

if TYPE_CHECKING:
    from cryptography import x509
    from rfc3161_client import TimeStampResponse

__all__ = ["TimeStamp", "TrustedTsa", "verify_time_stamp"]

_SHA512 = "2.16.840.1.101.3.4.2.3"
_DIGESTS = frozenset({"sha256", "sha384", "sha512"})


@dataclass(frozen=True, slots=True)
class TrustedTsa:
    """One authority of a policy. ``root`` and ``leaf`` are DER certificates, ``policy`` a dotted OID.

    Stamps are believed from ``not_before`` to ``distrust_after`` (Unix seconds, inclusive): set the latter when the
    authority is retired or its key is stolen. Without ``leaf`` or ``policy`` every time-stamping certificate under the
    root will do.
    """

    name: str
    root: bytes = field(repr=False)
    leaf: bytes | None = field(default=None, repr=False)
    policy: str | None = None
    not_before: int = 0
    distrust_after: int = LAST_INSTANT
    root_key: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        from cryptography import x509

        if not 0 <= self.not_before <= self.distrust_after:
            raise UsageFault("config.policy", f"policy: the TSA {self.name} ends before it begins")
        try:
            object.__setattr__(self, "root_key", _key_of(x509.load_der_x509_certificate(self.root)))
            if self.leaf is not None:
                x509.load_der_x509_certificate(self.leaf)
            if self.policy is not None:
                x509.ObjectIdentifier(self.policy)
        except (ValueError, x509.InvalidVersion) as error:
            message = f"policy: the TSA {self.name} has a bad certificate or policy OID: {error}"
            raise UsageFault("config.policy", message) from error


@dataclass(frozen=True, slots=True)
class TimeStamp:
    """A verified stamp: ``tsa`` saw the message not after ``time`` (Unix seconds, its accuracy added, rounded up).

    ``signer`` is the SHA-256 of the signing key, by which distinct authorities are counted.
    """

    tsa: str
    time: int
    signer: bytes


def verify_time_stamp(response: bytes, message: bytes, trusted: Sequence[TrustedTsa], *, now: int) -> TimeStamp:
    """Verify a DER TimeStampResp over ``message``; ``now`` in Unix seconds.

    Raises ``silexium.tsa`` (form), ``.tsa-imprint`` (of other bytes or by another algorithm), ``.tsa-certificate`` (the
    signer's certificate may not do this), ``.tsa-untrusted`` (by no trusted authority), ``.tsa-window`` or ``.future``.
    """
    if len(response) > limits.TSA_RESPONSE_BYTES:
        raise ProofRejected("silexium.tsa", f"a time stamp has at most {limits.TSA_RESPONSE_BYTES} bytes")
    token = _decode(response)
    digest = hashlib.sha512(message).digest()
    if token.algorithm != _SHA512:
        raise ProofRejected("silexium.tsa-imprint", f"the imprint is by {token.algorithm}, not SHA-512")
    if token.imprint != digest:
        hashes = {"expected": digest.hex(), "actual": token.imprint.hex()}
        raise ProofRejected("silexium.tsa-imprint", "the time stamp is of other bytes", evidence=hashes)
    refusals: list[str] = []
    for tsa in trusted:
        refusal = _chain_refusal(token, digest, tsa)
        if refusal is not None:
            refusals.append(f"{tsa.name}: {refusal}")
            continue
        signer = _check_signer(token, tsa)
        _check_time(token, tsa, now)
        return TimeStamp(tsa.name, token.time, signer)
    evidence = {"tried": refusals, "time": format_instant(token.time)}
    raise ProofRejected("silexium.tsa-untrusted", "no trusted authority made this time stamp", evidence=evidence)


@dataclass(frozen=True, slots=True)
class _Token:
    """A decoded response; nothing about it is verified."""

    der: bytes  # certificates in DER order, as the verifier demands
    algorithm: str
    imprint: bytes
    gen_time: float  # Unix seconds
    time: int  # accuracy added, rounded up
    digest: str  # the signer's digest algorithm
    certificate_hash: tuple[str, bytes]  # ESSCertID: algorithm and hash of the signer's certificate


def _decode(response: bytes) -> _Token:
    from asn1crypto import tsp

    try:
        parsed = tsp.TimeStampResp.load(response, strict=True)
        status = parsed["status"]["status"].native
        if status != "granted":
            raise ProofRejected("silexium.tsa", f"the authority answered {status}, not granted")
        signed = parsed["time_stamp_token"]["content"]
        if len(signed["signer_infos"]) != 1:
            raise ProofRejected("silexium.tsa", "a time stamp has exactly one signer")
        info = signed["encap_content_info"]["content"].parsed
        if not isinstance(info, tsp.TSTInfo):
            raise ProofRejected("silexium.tsa", "the content is no TSTInfo")
        signer = signed["signer_infos"][0]
        imprint = info["message_imprint"]
        gen_time = info["gen_time"].native.timestamp()
        token = _Token(
            der=_in_der_order(parsed, signed),
            algorithm=imprint["hash_algorithm"]["algorithm"].dotted,
            imprint=imprint["hashed_message"].native,
            gen_time=gen_time,
            time=math.ceil(gen_time + _accuracy(info["accuracy"])),
            digest=signer["digest_algorithm"]["algorithm"].native,
            certificate_hash=_ess_cert_id(signer["signed_attrs"]),
        )
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, RecursionError) as error:
        raise ProofRejected("silexium.tsa", f"not an RFC 3161 response: {type(error).__name__}") from error
    if not 0 <= token.time <= LAST_INSTANT:
        raise ProofRejected("silexium.tsa", "the stamped time is outside the years 1970 to 9999")
    return token


def _in_der_order(parsed: Any, signed: Any) -> bytes:
    """The response with its certificates sorted as DER demands of a SET.

    OpenSSL writes them as they come, the verifier insists on the order, and no signature covers the set.
    """
    from asn1crypto import cms

    certificates = signed["certificates"]
    if certificates.native is None:
        return bytes(parsed.dump())
    encoded = [certificate.dump() for certificate in certificates]
    if len(encoded) > limits.TSA_CERTIFICATES:
        raise ProofRejected("silexium.tsa", f"a time stamp has at most {limits.TSA_CERTIFICATES} certificates")
    if encoded == sorted(encoded):
        return bytes(parsed.dump())
    signed["certificates"] = cms.CertificateSet([cms.CertificateChoices.load(der) for der in sorted(encoded)])
    return bytes(parsed.dump(force=True))


def _accuracy(accuracy: Any) -> float:
    if accuracy.native is None:
        return 0.0
    parts = accuracy.native
    return float(parts["seconds"] or 0) + float(parts["millis"] or 0) / 1e3 + float(parts["micros"] or 0) / 1e6


def _ess_cert_id(attributes: Any) -> tuple[str, bytes]:
    """Which certificate the signer says is its own: RFC 5816's SigningCertificateV2, else RFC 2634's (SHA-1)."""
    found = {attribute["type"].native: attribute["values"] for attribute in attributes}
    for name in ("signing_certificate_v2", "signing_certificate"):
        if name in found:
            if len(found[name]) != 1:
                raise ProofRejected("silexium.tsa", "the signer names its certificate more than once")
            identifier = found[name][0]["certs"][0]
            algorithm = identifier["hash_algorithm"]["algorithm"].native if name.endswith("v2") else "sha1"
            if name.endswith("v2") and algorithm not in _DIGESTS:
                raise ProofRejected("silexium.tsa-certificate", f"the signer names its certificate by {algorithm}")
            return algorithm, identifier["cert_hash"].native
    raise ProofRejected("silexium.tsa-certificate", "the signer does not name its certificate (ESSCertID)")


def _chain_refusal(token: _Token, digest: bytes, tsa: TrustedTsa) -> str | None:
    """Why signature, chain, purpose and policy do not verify under ``tsa``; None when they do."""
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from rfc3161_client import VerificationError, VerifierBuilder

    try:
        # Everything goes to the constructor: the builder's add_* methods share their lists between builders.
        verifier = VerifierBuilder(
            policy_id=None if tsa.policy is None else x509.ObjectIdentifier(tsa.policy),
            tsa_certificate=None if tsa.leaf is None else x509.load_der_x509_certificate(tsa.leaf),
            roots=[x509.load_der_x509_certificate(tsa.root)],
        ).build()
        verifier.verify(_response(token), digest)
    except (
        VerificationError,
        ValueError,
        TypeError,
        OverflowError,
        x509.InvalidVersion,
        UnsupportedAlgorithm,
    ) as error:
        return f"{error}"[:200]
    return None


def _check_signer(token: _Token, tsa: TrustedTsa) -> bytes:
    """What the verifier leaves open about the signer's certificate; returns the SHA-256 of its key."""
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.x509.oid import ExtendedKeyUsageOID

    try:
        leaf = _signer_certificate(token, tsa)
        algorithm, expected = token.certificate_hash
        actual = hashlib.new(algorithm, _der(leaf), usedforsecurity=False).digest()
        usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
        key = _key_of(leaf)
    except (ValueError, TypeError, x509.ExtensionNotFound, x509.InvalidVersion, UnsupportedAlgorithm) as error:
        message = f"the signer's certificate cannot be judged: {type(error).__name__}"
        raise ProofRejected("silexium.tsa-certificate", message) from error
    if actual != expected:
        raise ProofRejected("silexium.tsa-certificate", "the certificate is not the one that the signer names")
    if list(usage.value) != [ExtendedKeyUsageOID.TIME_STAMPING] or not usage.critical:
        raise ProofRejected("silexium.tsa-certificate", "the certificate is not for time stamping alone")
    if token.digest not in _DIGESTS:
        raise ProofRejected("silexium.tsa-certificate", f"the signature is made with {token.digest}")
    return key


def _signer_certificate(token: _Token, tsa: TrustedTsa) -> x509.Certificate:
    from cryptography import x509

    signed = _response(token).signed_data
    (signer,) = signed.signer_infos
    candidates = [x509.load_der_x509_certificate(der) for der in signed.certificates]
    if not candidates and tsa.leaf is not None:
        return x509.load_der_x509_certificate(tsa.leaf)
    matching = [
        certificate
        for certificate in candidates
        if certificate.issuer == signer.issuer and certificate.serial_number == signer.serial_number
    ]
    if len(matching) != 1:
        raise ValueError("no certificate, or more than one, answers to the signer's name")
    return matching[0]


def _check_time(token: _Token, tsa: TrustedTsa, now: int) -> None:
    stamped = {"tsa": tsa.name, "time": format_instant(token.time)}
    if not tsa.not_before <= token.gen_time <= tsa.distrust_after:
        message = f"{tsa.name} is not trusted for what it stamped at {format_instant(token.time)}"
        raise ProofRejected("silexium.tsa-window", message, evidence=stamped)
    if token.gen_time > now + limits.CLOCK_SKEW_SECONDS:
        raise ProofRejected("silexium.future", f"{tsa.name} stamped it in the future", evidence=stamped)


def _response(token: _Token) -> TimeStampResponse:
    """A fresh decoding each time: accessors of the library's object fail lazily and consume what they return."""
    from rfc3161_client import decode_timestamp_response

    return decode_timestamp_response(token.der)


def _der(certificate: x509.Certificate) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return certificate.public_bytes(Encoding.DER)


def _key_of(certificate: x509.Certificate) -> bytes:
    """SHA-256 of the subject's public key, by which certificates of one key are recognised."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(key).digest()
