"""A mark beside a file: what made it, its SHA-256, and a signature of both.

    NAME.mark.json    {conjoin_mark, claim: {files: {name: {sha256, bytes}}, ...}, ...}

For formats that hold no manifest. One sidecar may speak of all files of a folder. The signature is
Ed25519 (S. Josefsson and I. Liusvaara (2017), RFC 8032) over the certificate and the claim; the
text of the sidecar is written in one way only, so that a change of any byte of it is found.
"""

import base64
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conjoin.marking.keys import INSTALL, Key, fingerprint_of
from conjoin.util.files import before_placing, write_text

__all__ = ["SUFFIX", "Sidecar", "digest_of", "read_sidecar", "sidecar_of", "write_sidecar"]

SUFFIX = ".mark.json"
VERSION = 1
SIGNED_AS = b"conjoin mark 1\n"  # before what is signed, so that it is taken for nothing else
UNSIGNED = f"Without a signature: whoever changes the file can change this too. {INSTALL} adds one."
CHUNK_BYTES = 1 << 20
MAX_BYTES = 64 << 20  # of a sidecar that is read


@dataclass(frozen=True)
class Sidecar:
    """A sidecar that is whole. ``key``: the fingerprint of what signed it, None without a
    signature."""

    claim: dict[str, Any]
    key: str | None

    @property
    def digests(self) -> dict[str, str]:
        """SHA-256 of each file, by the name that it was written under."""
        return {name: entry["sha256"] for name, entry in self.claim["files"].items()}


def digest_of(path: Path) -> str:
    """SHA-256 of a file."""
    out = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(CHUNK_BYTES):
            out.update(piece)
    return out.hexdigest()


def sidecar_of(path: Path) -> Path:
    """Where the mark of a file, or of a folder, lies."""
    return path.with_name(path.name + SUFFIX)


def write_sidecar(
    place: Path, facts: dict[str, Any], files: dict[str, Path], key: Key | None
) -> None:
    """Write the mark of ``files``, by the names that they go under.

    Raises
    ------
    FileExistsError
        If another file, which is no mark, has the sidecar's name.
    """
    if place.exists() and not is_sidecar(place):
        raise FileExistsError(f"{place} exists, and is no mark of a file: rename it.")
    entries = {
        name: {"sha256": digest_of(path), "bytes": path.stat().st_size}
        for name, path in files.items()
    }
    claim = {**facts, "files": entries}
    body: dict[str, Any] = {"conjoin_mark": VERSION, "claim": claim}
    if key is None:
        body |= {"claim_sha256": hashlib.sha256(_signed(claim)).hexdigest(), "note": UNSIGNED}
    else:
        body |= {
            "algorithm": "Ed25519",
            "signature": base64.b64encode(_sign(key, _signed(claim, key.certificate))).decode(),
            "certificate": key.certificate.decode(),
        }
    with before_placing(None):
        write_text(place, _text(body))


def is_sidecar(place: Path) -> bool:
    """Whether a file looks like a mark; whole or not."""
    with place.open("rb") as file:
        return b'"conjoin_mark"' in file.read(CHUNK_BYTES)


def read_sidecar(place: Path) -> Sidecar:
    """A sidecar whose every byte is as it was written.

    Raises
    ------
    ValueError
        If it was changed.
    NotImplementedError
        If a later version of conjoin wrote it in another form.
    ImportError
        If it is signed, and the extra ``mark`` is not there.
    """
    if place.stat().st_size > MAX_BYTES:
        raise ValueError(f"{place.name} is too large for a mark")
    try:
        text = place.read_bytes().decode()
        body = json.loads(text)
        version = body["conjoin_mark"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ValueError(f"{place.name} was changed") from None
    if type(version) is int and version > VERSION and not _was_ours(body, place.name):
        raise NotImplementedError(
            f"{place.name} is a mark of version {version} of the format, and this conjoin reads "
            f"version {VERSION}: whether the file was changed is told by a later conjoin."
        )
    return _read(text, body, place.name)


def _was_ours(body: dict[str, Any], name: str) -> bool:
    """Whether a mark would hold, were it of our version: then somebody changed its version."""
    ours = body | {"conjoin_mark": VERSION}
    try:
        _read(_text(ours), ours, name)
    except ValueError:
        return False
    return True


def _read(text: str, body: dict[str, Any], name: str) -> Sidecar:
    """The sidecar of this text; ValueError where it was changed."""
    try:
        claim = body["claim"]
        whole = text == _text(body) and body["conjoin_mark"] == VERSION
        digests = [entry["sha256"] for entry in claim["files"].values()]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ValueError(f"{name} was changed") from None
    if not whole or not all(isinstance(digest, str) for digest in digests):
        raise ValueError(f"{name} was changed")
    if "signature" not in body:
        same = {"conjoin_mark", "claim", "claim_sha256", "note"} == set(body)
        own = hashlib.sha256(_signed(claim)).hexdigest()
        if not same or body["claim_sha256"] != own or body["note"] != UNSIGNED:
            raise ValueError(f"{name} was changed")
        return Sidecar(claim, None)
    return Sidecar(claim, _checked(body, claim, name))


def _checked(body: dict[str, Any], claim: dict[str, Any], name: str) -> str:
    """The fingerprint of the key by which a claim is signed; ValueError where it is not."""
    try:
        from cryptography import x509
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    except ImportError:
        raise ImportError(f"{name} is signed, and signatures are checked by {INSTALL}.") from None
    try:
        certificate = body["certificate"].encode()
        found = x509.load_pem_x509_certificate(certificate)
        found.verify_directly_issued_by(found)
    except Exception:  # a certificate that was changed may fail in any line that reads it
        raise ValueError(f"{name} was changed: its certificate does not hold") from None
    try:
        signature = base64.b64decode(body["signature"], validate=True)
        same = {"conjoin_mark", "claim", "algorithm", "signature", "certificate"} == set(body)
        plain = base64.b64encode(signature).decode() == body["signature"]
        key = found.public_key()
        if not (isinstance(key, Ed25519PublicKey) and same and plain):
            raise ValueError
        if body["algorithm"] != "Ed25519" or found.public_bytes(_pem()) != certificate:
            raise ValueError
        key.verify(signature, _signed(claim, certificate))
    except (ValueError, TypeError, KeyError, AttributeError, InvalidSignature):
        raise ValueError(f"{name} was changed: its signature does not hold") from None
    return fingerprint_of(certificate)


def _pem() -> Any:
    from cryptography.hazmat.primitives.serialization import Encoding

    return Encoding.PEM


def _sign(key: Key, data: bytes) -> bytes:
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    private: Any = load_pem_private_key(key.private, None)
    return bytes(private.sign(data))


def _signed(claim: dict[str, Any], certificate: bytes = b"") -> bytes:
    """What is signed: the claim, and the certificate, some of whose bytes (how many bits of the
    last one count) its own signature does not cover."""
    text = json.dumps(claim, sort_keys=True, separators=(",", ":")).encode()
    return SIGNED_AS + certificate + text


def _text(body: dict[str, Any]) -> str:
    return json.dumps(body, indent=1, ensure_ascii=False) + "\n"
