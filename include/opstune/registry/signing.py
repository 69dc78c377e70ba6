"""A signature over every file of a bundle, by a local key: a changed, missing or added byte is named.

Signatures are model-signing's (a Sigstore bundle with an in-toto statement), so that its own command
line verifies them too. The key never leaves ``keys/``; whoever reads it can sign.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from opstune.artifacts import sha256_file
from opstune.errors import IntegrityError
from opstune.security.signing import PUBLIC, ensure_key

SIGNATURE = "model.sig"
_RESTORE = "Restore the bundle from a backup, or register the run again."


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

    signature, public = folder / SIGNATURE, keys / PUBLIC
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


def digest(folder: Path) -> str:
    """The sha256 of a folder's signature: with the signature verified, it stands for every byte of the folder."""
    return sha256_file(folder / SIGNATURE)


def _hashing(folder: Path) -> Any:
    from model_signing import hashing

    # Git's own names are skipped by default; here an added .gitattributes is an added file.
    return hashing.Config().set_ignored_paths(paths=[folder / SIGNATURE], ignore_git_paths=False)


def _told(folder: Path, reason: str) -> str:
    """model-signing's differences in our words; a hash whose bytes hold a quote puts backslashes before the others."""
    for pattern, what in (
        (r"Hash mismatch for \\?'([^'\\]+)\\?'", "changed after it was signed"),
        (r"Missing files in model '[^']*': ([^\],\"]+)", "is missing"),
        (r"Extra files found in model '[^']*': ([^\],\"]+)", "was added after signing"),
    ):
        if found := re.search(pattern, reason):
            return f"{folder / found.group(1)} {what}"
    return f"{folder / SIGNATURE} cannot be checked: {reason.splitlines()[0] if reason else 'no reason given'}"
