"""A signature over every file of a bundle, by a local key: a changed, missing or added byte is named.

Signatures are model-signing's (a Sigstore bundle with an in-toto statement), so that its own command
line verifies them too. The key never leaves ``keys/``; whoever reads it can sign.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from opstune.artifacts import atomic_path
from opstune.errors import IntegrityError

SIGNATURE = "model.sig"
_PRIVATE, _PUBLIC = "signing.pem", "signing.pub"
_RESTORE = "Restore the bundle from a backup, or register the run again."


def ensure_key(keys: Path) -> Path:
    """The private key, made at first use. Callers hold the registry's lock."""
    private = keys / _PRIVATE
    if private.is_file():
        return private
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    keys.mkdir(parents=True, exist_ok=True)
    keys.chmod(0o700)
    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    with atomic_path(keys / _PUBLIC) as partial:
        partial.write_bytes(public)
    plain = serialization.NoEncryption()
    secret = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    with atomic_path(private) as partial:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(secret)
    return private


def sign(folder: Path, keys: Path) -> None:
    """Sign every file of a folder; the signature is its ``model.sig``."""
    from model_signing import signing

    private = ensure_key(keys)
    config = signing.Config().set_hashing_config(_hashing(folder)).use_elliptic_key_signer(private_key=private)
    config.sign(folder, folder / SIGNATURE)


def verify(folder: Path, keys: Path) -> None:
    """Check a folder against its signature.

    Raises:
        IntegrityError: names the file that changed, is missing or was added, or says that the
            signature is missing or not this key's.
    """
    from cryptography.exceptions import InvalidSignature
    from model_signing import verifying

    signature, public = folder / SIGNATURE, keys / _PUBLIC
    for needed in (signature, public):
        if not needed.is_file():
            raise IntegrityError(f"{needed} is missing, so nothing proves what {folder.name} is", "registry", _RESTORE)
    try:
        config = verifying.Config().set_hashing_config(_hashing(folder)).use_elliptic_key_verifier(public_key=public)
        config.verify(folder, signature)
    except InvalidSignature as error:
        raise IntegrityError(f"{signature} was not made by this registry's key", "registry", _RESTORE) from error
    except Exception as error:
        # model-signing has no errors of its own: a mismatch, a symlink and a garbled signature all
        # arrive as ValueError and kin, and whatever keeps a signature from being checked refuses the bundle.
        raise IntegrityError(_told(folder, str(error)), "registry", _RESTORE) from error


def _hashing(folder: Path) -> Any:
    from model_signing import hashing

    # Git's own names are skipped by default; here an added .gitattributes is an added file.
    return hashing.Config().set_ignored_paths(paths=[folder / SIGNATURE], ignore_git_paths=False)


def _told(folder: Path, reason: str) -> str:
    for pattern, what in (
        (r"Hash mismatch for '([^']+)'", "changed after it was signed"),
        (r"Missing files in model '[^']*': ([^\],\"]+)", "is missing"),
        (r"Extra files found in model '[^']*': ([^\],\"]+)", "was added after signing"),
    ):
        if found := re.search(pattern, reason):
            return f"{folder / found.group(1)} {what}"
    return f"{folder / SIGNATURE} cannot be checked: {reason.splitlines()[0] if reason else 'no reason given'}"
