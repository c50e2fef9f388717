"""A mark inside a PNG: a C2PA manifest, as cameras and editors write it.

The manifest binds the picture by SHA-256 and is signed by the user's key (Coalition for Content
Provenance and Authenticity (2025), C2PA technical specification 2.2). Readers of C2PA call such a
file valid and its signer unknown, as no authority vouches for the key. The format leaves bytes
inside the manifest that no signature covers, such as padding; in a PNG the checksum of each chunk
does (ISO/IEC 15948), so that a change of any byte is found.
"""

import contextlib
import io
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from conjoin.marking.keys import INSTALL, Key, fingerprint_of_der
from conjoin.marking.signer import certificate_in

__all__ = [
    "PNG",
    "ElsewhereError",
    "Manifest",
    "can_embed",
    "embed",
    "has_manifest",
    "read_manifest",
]

PNG = b"\x89PNG\r\n\x1a\n"
MANIFEST_CHUNK = b"caBX"
LAST_CHUNK = b"IEND"
LABEL = "org.conjoin.generated"
TRACES = (MANIFEST_CHUNK, b"c2pa", LABEL.encode())  # of a manifest, in a picture that is broken
OUR_FACTS = ("made_with", "verb", "model", "model_sha256", "time")
VALID = ("Valid", "Trusted")
REMOTE = "Remote"  # how C2PA's reader begins to say that a manifest is at an address
CHUNK_OVERHEAD_BYTES = 12  # length, type and checksum


@dataclass(frozen=True)
class Manifest:
    """What a manifest that holds tells. ``facts``: of the file's origin; ``ours``: whether conjoin
    wrote them; ``signer``: the name in the certificate; ``key``: its fingerprint, None where only
    the file's own format tells where the certificate is; ``serial``: its serial number."""

    facts: dict[str, Any]
    ours: bool
    signer: str
    key: str | None
    serial: str


class ElsewhereError(Exception):
    """The manifest of a file lies at an address, which is not called."""


def can_embed(path: Path) -> bool:
    """Whether a file is a PNG, by its first bytes."""
    with path.open("rb") as file:
        return file.read(len(PNG)) == PNG


@cache
def _context() -> Any:
    """No picture beside the picture, and no address is ever called."""
    import c2pa

    settings = c2pa.Settings.from_dict(
        {
            "builder": {"thumbnail": {"enabled": False}},
            "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False},
        }
    )
    return c2pa.Context(settings=settings)


@cache
def _signer(key: Key) -> Any:
    import c2pa

    return c2pa.Signer.from_info(
        c2pa.C2paSignerInfo(c2pa.C2paSigningAlg.ED25519, key.certificate, key.private, None)
    )


def embed(path: Path, name: str, facts: dict[str, Any], key: Key) -> None:
    """Put a manifest into the PNG at ``path``, which is to be called ``name``. The pixels stay as
    they are."""
    import c2pa

    program, _, version = facts["made_with"].partition(" ")
    action = {
        "action": "c2pa.created",
        "digitalSourceType": facts["source"],
        "softwareAgent": {"name": program, "version": version},
        "when": facts["time"],
    }
    manifest = {
        "claim_generator_info": [{"name": program, "version": version}],
        "title": name,
        "assertions": [
            {"label": "c2pa.actions.v2", "data": {"actions": [action]}},
            {"label": LABEL, "data": facts},
        ],
    }
    signed = io.BytesIO()
    builder = c2pa.Builder(manifest, context=_context())
    builder.sign(_signer(key), "image/png", io.BytesIO(path.read_bytes()), signed)
    path.write_bytes(signed.getvalue())


def has_manifest(path: Path) -> bool:
    """Whether a PNG holds a manifest; ValueError where its chunks are broken, and one of them is,
    or was, a manifest."""
    data = path.read_bytes()
    try:
        return any(kind == MANIFEST_CHUNK for kind, _ in _chunks(data))
    except ValueError:
        if any(trace in data for trace in TRACES):
            raise
        return False


def _chunks(data: bytes) -> Iterator[tuple[bytes, int]]:
    """The type of each chunk, and where it ends, up to the last one; ValueError where a checksum or
    a length is wrong, or there is no last one."""
    place = len(PNG)
    kind = b""
    while kind != LAST_CHUNK:
        if place >= len(data):
            raise ValueError("the end of the picture is missing")
        size = int.from_bytes(data[place : place + 4], "big")
        body = data[place + 4 : place + 8 + size]
        check = data[place + 8 + size : place + CHUNK_OVERHEAD_BYTES + size]
        if len(check) < 4 or zlib.crc32(body) != int.from_bytes(check, "big"):
            raise ValueError("a checksum of the picture does not hold")
        kind = body[:4]
        place += CHUNK_OVERHEAD_BYTES + size
        yield kind, place


def read_manifest(path: Path) -> Manifest | None:
    """What a file's manifest tells, if every byte is as it was signed; None where it holds none.

    Raises
    ------
    ValueError
        If it was changed; why.
    ElsewhereError
        If the file only names an address of its manifest.
    ImportError
        Without the extra ``mark``.
    """
    try:
        import c2pa
    except ImportError:
        raise ImportError(
            f"{path} holds, or may hold, a C2PA manifest, which {INSTALL} reads."
        ) from None
    data = path.read_bytes()
    form = path.suffix.lstrip(".").lower()
    if data.startswith(PNG):
        *_, (_, end) = _chunks(data)
        if end != len(data):
            raise ValueError(f"{len(data) - end:,} bytes lie behind the end of the picture")
        form = "image/png"
    try:
        with contextlib.closing(c2pa.Reader(form, io.BytesIO(data), context=_context())) as reader:
            state = reader.get_validation_state()
            results = reader.get_validation_results() or {}
            found = json.loads(reader.json())
    except c2pa.C2paError.ManifestNotFound:
        return None
    except c2pa.C2paError as error:
        if str(error).startswith(REMOTE):
            raise ElsewhereError(str(error).partition(" from url ")[2]) from None
        raise ValueError(f"its manifest can't be read ({error!s:.200})") from None
    if state not in VALID:
        raise ValueError(f"its manifest says {_failures(results) or state}")
    manifest = found["manifests"][found["active_manifest"]]
    signer = manifest.get("signature_info", {})
    facts = _facts(manifest)
    return Manifest(
        facts,
        facts["verb"] is not None,
        str(signer.get("common_name") or signer.get("issuer")),
        _key_of(data, found["active_manifest"]) if form == "image/png" else None,
        str(signer.get("cert_serial_number")),
    )


def _key_of(data: bytes, active: str) -> str | None:
    """The fingerprint of the certificate by which the active manifest of a PNG is signed."""
    start = len(PNG)
    stores = []
    for kind, end in _chunks(data):
        if kind == MANIFEST_CHUNK:
            stores.append(data[start + 8 : end - 4])
        start = end
    certificate = certificate_in(stores[0], active) if len(stores) == 1 else None
    return None if certificate is None else fingerprint_of_der(certificate)


def _facts(manifest: dict[str, Any]) -> dict[str, Any]:
    """What conjoin told; of files of other programs, their name."""
    for assertion in manifest.get("assertions", []):
        facts = assertion.get("data")
        if assertion.get("label") == LABEL and _ours(facts):
            return dict(facts)
    program = (manifest.get("claim_generator_info") or [{}])[0]
    named = f"{program.get('name')} {program.get('version') or ''}".strip()
    sources = _sources(manifest)
    return {"made_with": named, "verb": None} | ({"source": sources[0]} if sources else {})


def _sources(manifest: dict[str, Any]) -> list[str]:
    """What a manifest says of how the file came to be, in IPTC's words."""
    data = [
        each.get("data")
        for each in manifest.get("assertions", [])
        if str(each.get("label")).startswith("c2pa.actions")
    ]
    known = [each for each in data if isinstance(each, dict)]
    actions = [action for each in known for action in each.get("actions") or ()]
    found = [action.get("digitalSourceType") for action in actions if isinstance(action, dict)]
    return [source for source in found if isinstance(source, str)]


def _ours(facts: Any) -> bool:
    """Whether facts are such as conjoin writes: others may use its label."""
    return isinstance(facts, dict) and all(isinstance(facts.get(name), str) for name in OUR_FACTS)


def _failures(results: dict[str, Any]) -> str:
    failed = results.get("activeManifest", {}).get("failure", [])
    codes = [each.get("code", "") for each in failed]
    return ", ".join(code for code in codes if code != "signingCredential.untrusted")
