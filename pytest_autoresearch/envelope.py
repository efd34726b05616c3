"""
DSSE envelopes: a statement, and Ed25519 signatures over it.

Formats: DSSE v1.0.0 (protocol and envelope) and RFC 8032. The key id is that of securesystemslib, by which in-toto's
tools find a key: the SHA-256 of its canonical JSON. It is a hint, and nothing here is decided by it.

Needs the package's extra ``sign``.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

__all__ = [
    "PAYLOAD_TYPE",
    "EnvelopeError",
    "KeyFileError",
    "key_id",
    "open_envelope",
    "pae",
    "private_key",
    "public_key",
    "seal_envelope",
]

PAYLOAD_TYPE = "application/vnd.in-toto+json"


class EnvelopeError(ValueError):
    """An envelope is none, or nobody's; the message is one sentence."""


class KeyFileError(Exception):
    """A key cannot be used; the message says why and what to do."""


def pae(payload_type: str, body: bytes) -> bytes:
    """What is signed: DSSE's pre-authentication encoding, with lengths in bytes."""
    kind = payload_type.encode("utf-8")
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(body), body)


def seal_envelope(body: bytes, key: Ed25519PrivateKey) -> bytes:
    """The envelope of a statement, as one line of JSON."""
    signature = {
        "keyid": key_id(key.public_key()),
        "sig": base64.b64encode(key.sign(pae(PAYLOAD_TYPE, body))).decode("ascii"),
    }
    envelope = {
        "payload": base64.b64encode(body).decode("ascii"),
        "payloadType": PAYLOAD_TYPE,
        "signatures": [signature],
    }
    return json.dumps(envelope).encode("ascii") + b"\n"


def open_envelope(data: bytes, key: Ed25519PublicKey) -> bytes:
    """
    The statement's bytes, once one of the signatures is found to be the key's.

    :raises EnvelopeError: it is no envelope, none of its signatures holds, or it is not about in-toto.
    """
    from cryptography.exceptions import InvalidSignature

    body, kind, signatures = _parts(data)
    for signature in signatures:
        try:
            key.verify(signature, pae(kind, body))
        except InvalidSignature:
            continue
        if kind != PAYLOAD_TYPE:
            raise EnvelopeError(f"its payload is {kind!r}, not {PAYLOAD_TYPE!r}")
        return body
    raise EnvelopeError(
        f"none of its {len(signatures)} signatures is one by the key {key_id(key)[:12]}"
    )


def key_id(key: Ed25519PublicKey) -> str:
    """The id by which in-toto's tools find a key."""
    kind = {"keytype": "ed25519", "scheme": "ed25519"}
    known = {**kind, "keyval": {"public": key.public_bytes_raw().hex()}}
    return hashlib.sha256(
        json.dumps(known, sort_keys=True, separators=(",", ":")).encode()
    ).hexdigest()


def private_key(path: Path) -> Ed25519PrivateKey:
    """
    An Ed25519 key in PEM or in OpenSSH's format, without a passphrase.

    :raises KeyFileError: for anything else.
    """
    serialization = _library()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    data = _content(path)
    load = serialization.load_pem_private_key
    if b"BEGIN OPENSSH PRIVATE KEY" in data:
        load = serialization.load_ssh_private_key
    try:
        key = load(data, password=None)
    except Exception as error:  # the library raises a dozen kinds
        raise KeyFileError(f"{str(path)!r} is no private key that can be used: {error}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyFileError(f"{str(path)!r} is no Ed25519 key: `ssh-keygen -t ed25519` makes one")
    return key


def public_key(path: Path) -> Ed25519PublicKey:
    """
    An Ed25519 public key in PEM or in OpenSSH's one line.

    :raises KeyFileError: for anything else.
    """
    serialization = _library()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    data = _content(path)
    load = serialization.load_pem_public_key
    if data.startswith(b"ssh-"):
        load = serialization.load_ssh_public_key
    try:
        key = load(data)
    except Exception as error:
        raise KeyFileError(f"{str(path)!r} is no public key that can be used: {error}") from error
    if not isinstance(key, Ed25519PublicKey):
        raise KeyFileError(f"{str(path)!r} is no Ed25519 key: `ssh-keygen -t ed25519` makes one")
    return key


def _library() -> Any:
    try:
        from cryptography.hazmat.primitives import serialization
    except ImportError as error:
        raise KeyFileError(
            "signing statements needs the extra 'sign': `pip install 'pytest-autoresearch[sign]'`"
        ) from error
    return serialization


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise KeyFileError(f"the key {str(path)!r} cannot be read: {error.strerror}") from error


def _parts(data: bytes) -> tuple[bytes, str, list[bytes]]:
    """Payload, its type and the signatures of an envelope."""
    try:
        found = json.loads(data)
        body, kind = _decoded(found["payload"]), found["payloadType"]
        signatures = [_decoded(one["sig"]) for one in found["signatures"]]
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise EnvelopeError(f"it is no DSSE envelope: {type(error).__name__} {error}") from error
    if not isinstance(kind, str):
        raise EnvelopeError("it is no DSSE envelope: its payloadType is no text")
    return body, kind, signatures


def _decoded(text: str) -> bytes:
    """Base64 in either alphabet, as a verifier must accept it."""
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        return base64.b64decode(text, altchars=b"-_", validate=True)
