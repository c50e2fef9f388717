"""The key pair of this user, made once, by which marks are signed; and the record of files that
were not marked.

Ed25519 with a certificate that it signs itself: whoever reads a mark learns that nothing was
changed since this key signed it, and that two files are of one key, but not whose key it is.
"""

import contextlib
import datetime
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conjoin.util.files import before_placing, new_file
from conjoin.util.settings import append_private, config_folder, write_private

__all__ = [
    "INSTALL",
    "Key",
    "fingerprint_of",
    "fingerprint_of_der",
    "key_of_user",
    "record",
    "recorded",
]

INSTALL = 'pip install "conjoin[mark]"'
KEY_FILE = "mark-key.pem"  # the private key and its certificate
RECORD_FILE = "unmarked.jsonl"
YEARS = 10
DAY = datetime.timedelta(days=1)
FINGERPRINT_CHARACTERS = 16


@dataclass(frozen=True)
class Key:
    """``private`` and ``certificate`` in PEM; ``fresh``: whether it was made just now."""

    private: bytes
    certificate: bytes
    fresh: bool = False

    @property
    def fingerprint(self) -> str:
        """The first digits of the certificate's SHA-256."""
        return fingerprint_of(self.certificate)


def fingerprint_of(certificate: bytes) -> str:
    """The first digits of the SHA-256 of a certificate in PEM: what a key is called by."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    return fingerprint_of_der(
        x509.load_pem_x509_certificate(certificate).public_bytes(Encoding.DER)
    )


def fingerprint_of_der(certificate: bytes) -> str:
    """The same of a certificate in DER."""
    return hashlib.sha256(certificate).hexdigest()[:FINGERPRINT_CHARACTERS]


def key_of_user(make: bool = True) -> Key | None:
    """The key of this user; where there is none, or where its time is over, one that is made, or
    None.

    Raises
    ------
    ImportError
        Without the extra ``mark``.
    OSError
        If the folder can't be written.
    """
    file = config_folder() / KEY_FILE
    with contextlib.suppress(FileNotFoundError):
        held = _read(file)
        if held is not None:
            return held
    if not make:
        return None
    private, certificate = _made()
    file.parent.mkdir(parents=True, exist_ok=True)
    with before_placing(None), new_file(file) as draft:
        write_private(draft, private + certificate)
    return Key(private, certificate, fresh=True)


def _read(file: Path) -> Key | None:
    """The key in a file; None where its time is nearly over. ValueError for another file."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    data = file.read_bytes()
    begin = data.find(b"-----BEGIN CERTIFICATE-----")
    private = data[: max(begin, 0)]
    certificate = data[max(begin, 0) :]
    try:
        found = x509.load_pem_x509_certificate(certificate)
        same = load_pem_private_key(private, None).public_key() == found.public_key()
    except ValueError:
        same = False
    if not same:
        raise ValueError(
            f"{file} holds no key and certificate that belong together: remove it, and a new pair "
            "is made."
        )
    over = found.not_valid_after_utc - DAY < datetime.datetime.now(datetime.UTC)
    return None if over else Key(private, certificate)


def _made() -> tuple[bytes, bytes]:
    """A private key and a certificate such as C2PA asks for: no authority, digital signatures
    alone, with a purpose that its profile allows."""
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    key = Ed25519PrivateKey.generate()
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "a user of conjoin, signed by no one"),
            x509.NameAttribute(NameOID.COMMON_NAME, "conjoin mark"),
        ]
    )
    now = datetime.datetime.now(datetime.UTC)
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    authority = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)
    extensions: list[tuple[Any, bool]] = [
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (_signatures_alone(), True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), False),
        (identifier, False),
        (authority, False),
    ]
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - DAY)  # clocks differ
        .not_valid_after(now + YEARS * 365 * DAY)
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return private, builder.sign(key, None).public_bytes(serialization.Encoding.PEM)


def _signatures_alone() -> Any:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


# ------------------------------------------------------------------- files that were not marked


def record(facts: dict[str, Any], digests: dict[str, str]) -> Path:
    """Note down for this user that files (name to SHA-256) were made without a mark; where."""
    file = config_folder() / RECORD_FILE
    lines = [json.dumps({**facts, "file": name, "sha256": sha}) for name, sha in digests.items()]
    append_private(file, lines)
    return file


def recorded(digest: str) -> dict[str, Any] | None:
    """What was noted down of a file without a mark, by its SHA-256; None where nothing was."""
    file = config_folder() / RECORD_FILE
    if not file.is_file():
        return None
    found = None
    with file.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if digest in line:
                with contextlib.suppress(ValueError):
                    found = json.loads(line)
    return found
