"""A time stamp authority in itself: a DER TimeStampReq in, a DER TimeStampResp out (RFC 3161, 5816).

For development, tests and groups that trust their own server: whoever runs it sets the time that it states, so its
stamps prove nothing about the operator. Imprints by SHA-256, SHA-384 or SHA-512 (never checked against a message: it
sees none), one policy, no extensions. The key is P-256: OpenSSL can neither make nor check stamps by Ed25519.

Clock and serial numbers are arguments. Specification: ``silexium-time.md``, 5.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from libreseed import limits

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

__all__ = ["EMBEDDED_POLICY", "EmbeddedTsa"]

# A UUID's OID (X.667) needs no registration; this one stands for "an embedded authority: proves nothing".
EMBEDDED_POLICY = "2.25.274486393640961349541498562087931276401"
_ACCURACY_SECONDS = 1
_IMPRINTS = {"sha256": 32, "sha384": 48, "sha512": 64}


@dataclass(frozen=True)
class EmbeddedTsa:
    """``certificate`` (DER, of ``key``) is sent when asked for, followed by ``chain``."""

    key: EllipticCurvePrivateKey = field(repr=False)
    certificate: bytes = field(repr=False)
    chain: tuple[bytes, ...] = field(default=(), repr=False)
    policy: str = EMBEDDED_POLICY

    def answer(self, request: bytes, *, now: int, serial: int) -> bytes:
        """The response to ``request``, a refusal where it is bad; ``now`` in Unix seconds, ``serial`` used once."""
        from asn1crypto import tsp

        if len(request) > limits.TSA_REQUEST_BYTES:
            return _refuse("bad_data_format", "the request is too long")
        try:
            asked = tsp.TimeStampReq.load(request, strict=True)
            asked.native  # noqa: B018  # everything in it is decoded now, or it is refused
            if asked.dump(force=True) != request:
                return _refuse("bad_data_format", "the request is not in DER")
            return self._judge(asked, now, serial)
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, RecursionError):
            return _refuse("bad_data_format", "not a TimeStampReq")

    def _judge(self, asked: Any, now: int, serial: int) -> bytes:
        from asn1crypto import tsp

        imprint, policy = asked["message_imprint"], asked["req_policy"]
        if asked["version"].native != "v1":
            return _refuse("bad_request", "only version 1 is answered")
        if _IMPRINTS.get(imprint["hash_algorithm"]["algorithm"].native) != len(imprint["hashed_message"].native):
            return _refuse("bad_alg", "the imprint must be by SHA-256, SHA-384 or SHA-512")
        if asked["extensions"].native:
            return _refuse("unaccepted_extension", "no extension is known")
        if policy.native is not None and policy.dotted != self.policy:
            return _refuse("unaccepted_policy", "the only policy is " + self.policy)
        fields = {
            "version": "v1",
            "policy": self.policy,
            "message_imprint": imprint,
            "serial_number": serial,
            "gen_time": datetime.fromtimestamp(now, UTC),
            "accuracy": {"seconds": _ACCURACY_SECONDS},
        }
        if asked["nonce"].native is not None:
            fields["nonce"] = asked["nonce"].native
        return self._sign(tsp.TSTInfo(fields).dump(), with_certificates=bool(asked["cert_req"].native))

    def _sign(self, info: bytes, *, with_certificates: bool) -> bytes:
        from asn1crypto import cms, tsp, x509
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec

        attributes = self._attributes(info)
        signer = {
            "version": "v1",
            "sid": cms.SignerIdentifier("issuer_and_serial_number", self._name),
            "digest_algorithm": {"algorithm": "sha256"},
            "signed_attrs": attributes,
            "signature_algorithm": {"algorithm": "sha256_ecdsa"},
            "signature": self.key.sign(attributes.dump(), ec.ECDSA(hashes.SHA256())),
        }
        signed: dict[str, Any] = {
            "version": "v3",
            "digest_algorithms": [{"algorithm": "sha256"}],
            "encap_content_info": {"content_type": "tst_info", "content": cms.ParsableOctetString(info)},
            "signer_infos": [signer],
        }
        if with_certificates:
            signed["certificates"] = [
                cms.CertificateChoices("certificate", x509.Certificate.load(der))
                for der in sorted((self.certificate, *self.chain))  # the DER order of a SET
            ]
        token = {"content_type": "signed_data", "content": cms.SignedData(signed)}
        return bytes(tsp.TimeStampResp({"status": {"status": "granted"}, "time_stamp_token": token}).dump())

    def _attributes(self, info: bytes) -> Any:
        from asn1crypto import cms, tsp

        named = tsp.ESSCertIDv2({"cert_hash": hashlib.sha256(self.certificate).digest()})  # SHA-256 is its default
        attributes = [
            {"type": "content_type", "values": ["tst_info"]},
            {"type": "message_digest", "values": [hashlib.sha256(info).digest()]},
            {"type": "signing_certificate_v2", "values": [tsp.SigningCertificateV2({"certs": [named]})]},
        ]
        return cms.CMSAttributes([cms.CMSAttribute(attribute) for attribute in attributes])

    @cached_property
    def _name(self) -> dict[str, Any]:
        from asn1crypto import x509

        certificate = x509.Certificate.load(self.certificate)
        return {"issuer": certificate.issuer, "serial_number": certificate.serial_number}


def _refuse(fault: str, why: str) -> bytes:
    from asn1crypto import core, tsp

    class Refusal(core.Sequence):  # type: ignore[misc]  # asn1crypto has no types
        """A response without a token, which asn1crypto's own class demands."""

        _fields = [("status", tsp.PKIStatusInfo)]  # noqa: RUF012  # asn1crypto's way to declare

    status = {"status": "rejection", "status_string": [why], "fail_info": {fault}}
    return bytes(Refusal({"status": status}).dump())
