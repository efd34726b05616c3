"""
Signatures by ``ssh-keygen -Y sign``: the keys, agents and allowed-signers files that git users have already.

Verifying stands in ``verifier.py``, which needs nothing of this package.
"""

from __future__ import annotations

from pathlib import Path

from .transport import Reach, Undelivered
from .verifier import NAMESPACE

__all__ = ["sign"]

_BEGIN = b"-----BEGIN SSH SIGNATURE-----"
_END = b"-----END SSH SIGNATURE-----"


def sign(content: bytes, key: Path, reach: Reach) -> bytes:
    """
    The armored signature over a content.

    :param key: a private key without a passphrase, or a public key whose private half an agent holds.
    :raises Undelivered: without ssh-keygen, without the key, with one that is locked.
    """
    # Nobody sits there to type a passphrase.
    argv = ["ssh-keygen", "-Y", "sign", "-n", NAMESPACE, "-f", str(key)]
    said = reach.execute(argv, content, variables={"SSH_ASKPASS_REQUIRE": "never"})
    begin, end = said.find(_BEGIN), said.find(_END)
    if not 0 <= begin < end:
        raise Undelivered("'ssh-keygen' gave no signature")
    return said[begin:end] + _END + b"\n"
