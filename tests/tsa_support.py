"""A time stamp authority for tests: real keys and certificates, and tokens that can be wrong in exactly one way."""

from __future__ import annotations

import datetime as dt
import hashlib
from dataclasses import dataclass, field
from typing import Any

from asn1crypto import cms, tsp
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

__all__ = ["POLICY", "Authority", "Certified", "certify", "root_authority"]

POLICY = "1.3.6.1.4.1.99999.1"
PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
_FROM, _TO = dt.datetime(2020, 1, 1, tzinfo=dt.UTC), dt.datetime(2045, 1, 1, tzinfo=dt.UTC)


@dataclass(frozen=True, slots=True)
class Certified:
    """A key with its certificate."""

    key: PrivateKey
    certificate: x509.Certificate

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )


def root_authority(name: str = "root", key: PrivateKey | None = None) -> Certified:
    """A self-signed certificate authority, P-256 unless told otherwise."""
    return certify(name, None, key=key, ca=True)


def certify(
    name: str,
    issuer: Certified | None,
    *,
    key: PrivateKey | None = None,
    ca: bool = False,
    usage: list[x509.ObjectIdentifier] | None = None,
    critical: bool = True,
    valid: tuple[dt.datetime, dt.datetime] = (_FROM, _TO),
    serial: int | None = None,
) -> Certified:
    """A certificate by ``issuer`` (self-signed without one); for time stamping unless ``ca`` or ``usage`` say else."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "test"), x509.NameAttribute(NameOID.COMMON_NAME, name)]
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.certificate.subject)
        .public_key(key.public_key())
        .serial_number(serial or x509.random_serial_number())
        .not_valid_before(valid[0])
        .not_valid_after(valid[1])
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    if ca:
        signs = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        builder = builder.add_extension(signs, critical=True)
    else:
        signs = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
        builder = builder.add_extension(signs, critical=True)
        usage = [ExtendedKeyUsageOID.TIME_STAMPING] if usage is None else usage
        if usage:
            builder = builder.add_extension(x509.ExtendedKeyUsage(usage), critical=critical)
    signer = key if issuer is None else issuer.key
    algorithm = None if isinstance(signer, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return Certified(key, builder.sign(signer, algorithm))


@dataclass
class Authority:
    """Answers with a TimeStampResp. Every keyword of :meth:`stamp` makes one thing wrong."""

    leaf: Certified
    chain: list[bytes] = field(default_factory=list)
    policy: str = POLICY
    accuracy: int | None = 1

    def stamp(
        self,
        message: bytes,
        at: int,
        *,
        algorithm: str = "sha512",
        label: str | None = None,
        status: str = "granted",
        named: bytes | None = None,
        ess: str = "v2",
        digest: str = "sha256",
        certificates: list[bytes] | None = None,
        signers: int = 1,
        content_type: str = "tst_info",
    ) -> bytes:
        imprint = hashlib.new(algorithm, message).digest()
        fields: dict[str, Any] = {
            "version": "v1",
            "policy": self.policy,
            "message_imprint": {"hash_algorithm": {"algorithm": label or algorithm}, "hashed_message": imprint},
            "serial_number": 7,
            "gen_time": dt.datetime.fromtimestamp(at, dt.UTC),
        }
        if self.accuracy is not None:
            fields["accuracy"] = {"seconds": self.accuracy}
        info = tsp.TSTInfo(fields).dump()
        attributes = self._attributes(info, digest, content_type, ess, named or self.leaf.der)
        signer = {
            "version": "v1",
            "sid": cms.SignerIdentifier("issuer_and_serial_number", self._name()),
            "digest_algorithm": {"algorithm": digest},
            "signed_attrs": attributes,
            "signature_algorithm": {"algorithm": self._signature_algorithm(digest)},
            "signature": self._sign(attributes.dump(), digest),
        }
        embedded = [self.leaf.der, *self.chain] if certificates is None else certificates
        signed: dict[str, Any] = {
            "version": "v3",
            "digest_algorithms": [{"algorithm": digest}],
            "encap_content_info": {"content_type": content_type, "content": cms.ParsableOctetString(info)},
            "signer_infos": [signer] * signers,
        }
        if embedded:
            signed["certificates"] = [
                cms.CertificateChoices("certificate", asn1_x509.Certificate.load(der)) for der in embedded
            ]
        token = {"content_type": "signed_data", "content": cms.SignedData(signed)}
        return bytes(tsp.TimeStampResp({"status": {"status": status}, "time_stamp_token": token}).dump())

    def _name(self) -> dict[str, Any]:
        certificate = asn1_x509.Certificate.load(self.leaf.der)
        return {"issuer": certificate.issuer, "serial_number": certificate.serial_number}

    def _attributes(self, info: bytes, digest: str, content_type: str, ess: str, named: bytes) -> cms.CMSAttributes:
        attributes = [
            {"type": "content_type", "values": [content_type]},
            {"type": "message_digest", "values": [hashlib.new(digest, info).digest()]},
        ]
        if ess in ("v2", "md5"):
            algorithm = "sha256" if ess == "v2" else ess
            named_by = {"hash_algorithm": {"algorithm": algorithm}, "cert_hash": hashlib.new(algorithm, named).digest()}
            identifier = tsp.ESSCertIDv2(named_by)
            certificates = tsp.SigningCertificateV2({"certs": [identifier]})
            attributes.append({"type": "signing_certificate_v2", "values": [certificates]})
        elif ess == "v1":
            old = tsp.SigningCertificate({"certs": [tsp.ESSCertID({"cert_hash": hashlib.sha1(named).digest()})]})
            attributes.append({"type": "signing_certificate", "values": [old]})
        return cms.CMSAttributes([cms.CMSAttribute(attribute) for attribute in attributes])

    def _signature_algorithm(self, digest: str) -> str:
        if isinstance(self.leaf.key, ed25519.Ed25519PrivateKey):
            return "ed25519"
        return f"{digest}_rsa" if isinstance(self.leaf.key, rsa.RSAPrivateKey) else f"{digest}_ecdsa"

    def _sign(self, data: bytes, digest: str) -> bytes:
        algorithm = {"sha1": hashes.SHA1, "sha256": hashes.SHA256, "sha512": hashes.SHA512}[digest]()
        key = self.leaf.key
        if isinstance(key, ed25519.Ed25519PrivateKey):
            return key.sign(data)
        if isinstance(key, rsa.RSAPrivateKey):
            return key.sign(data, padding.PKCS1v15(), algorithm)
        return key.sign(data, ec.ECDSA(algorithm))
