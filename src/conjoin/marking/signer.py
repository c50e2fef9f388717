"""Whose key signed a C2PA manifest: the certificate that its signature names.

C2PA's reader tells a name and a serial number, and whoever signs a certificate chooses both. The
certificate itself is in the manifest: a tree of boxes (JUMBF, ISO/IEC 19566-5), of which one holds
a COSE_Sign1 (J. Schaad (2022), RFC 9052) in CBOR (C. Bormann and P. Hoffman (2020), RFC 8949),
whose header x5chain (RFC 9360) begins with it.
"""

from collections.abc import Iterator
from typing import Any

__all__ = ["certificate_in"]

BOX_HEAD_BYTES = 8  # length and type
DESCRIPTION_HEAD_BYTES = 17  # what a box is, and what of it is told, before its label
SIGNATURE = "c2pa.signature"
CHAIN = (33, "x5chain")  # by its number, and as older manifests name it
MAX_DEPTH = 16  # of values inside of values


def certificate_in(store: bytes, active: str) -> bytes | None:
    """The certificate, in DER, by which the manifest labelled ``active`` in a manifest store is
    signed; None where none can be read."""
    try:
        (held,) = (body for label, body in _boxes(store) if label == "c2pa")
        (manifest,) = (body for label, body in _boxes(held) if label == active)
        (signature,) = (body for label, body in _boxes(manifest) if label == SIGNATURE)
        (signed,) = (body for kind, body in _parts(signature) if kind == b"cbor")
        protected, unprotected, *_ = _read(signed)
        headers = (_read(protected), unprotected)
        chain = next(head[name] for head in headers for name in CHAIN if name in head)
    except (ValueError, IndexError, TypeError, StopIteration):
        return None
    first = chain[0] if isinstance(chain, list) and chain else chain
    return first if isinstance(first, bytes) else None


def _parts(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The type and the content of each box in a row of boxes."""
    place = 0
    while place < len(data):
        size = int.from_bytes(data[place : place + 4], "big")
        if size < BOX_HEAD_BYTES or place + size > len(data):
            raise ValueError
        yield data[place + 4 : place + 8], data[place + BOX_HEAD_BYTES : place + size]
        place += size


def _boxes(data: bytes) -> Iterator[tuple[str, bytes]]:
    """The label and the content of each box that holds others."""
    for kind, body in _parts(data):
        if kind == b"jumb":
            inside = _parts(body)
            described, description = next(inside)
            if described != b"jumd":
                raise ValueError
            label, end, _ = description[DESCRIPTION_HEAD_BYTES:].partition(b"\0")
            if end:
                yield label.decode(), body[BOX_HEAD_BYTES + len(description) :]


def _read(data: bytes) -> Any:
    """One value in CBOR."""
    value, _ = _value(data, 0, 0)
    return value


def _value(data: bytes, place: int, depth: int) -> tuple[Any, int]:
    """A value, and where it ends; ValueError for what COSE does not hold, such as a length that is
    not told before."""
    if depth > MAX_DEPTH:
        raise ValueError
    major = data[place] >> 5
    count = data[place] & 31
    place += 1
    if count >= 24:
        size = {24: 1, 25: 2, 26: 4, 27: 8}.get(count)
        if size is None or place + size > len(data):
            raise ValueError
        count = int.from_bytes(data[place : place + size], "big")
        place += size
    if major in (2, 3):
        content = data[place : place + count]
        if len(content) != count:
            raise ValueError
        return content if major == 2 else content.decode(), place + count
    if major in (4, 5):
        return _values(data, place, depth, count, major == 5)
    if major == 6:  # a tag: its value counts
        return _value(data, place, depth + 1)
    return count if major == 0 else -1 - count if major == 1 else None, place


def _values(data: bytes, place: int, depth: int, count: int, pairs: bool) -> tuple[Any, int]:
    """A list, or a dictionary of ``pairs``, and where it ends."""
    found = []
    for _ in range(count * (2 if pairs else 1)):
        value, place = _value(data, place, depth + 1)
        found.append(value)
    if not pairs:
        return found, place
    return dict(zip(found[::2], found[1::2], strict=True)), place
