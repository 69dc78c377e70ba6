"""The key that this home signs with, and signatures over manifests by it: what a stage made is ours and unchanged.

A manifest lists every file with its sha256, so a signature over its bytes covers the folder. Whoever changes a file
and writes the hashes anew still lacks the key. The key never leaves ``<home>/keys``; whoever reads it can sign.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import BaseModel, ConfigDict, ValidationError

from opstune import artifacts
from opstune.artifacts import MANIFEST, SIGNATURE, Ref
from opstune.errors import IntegrityError
from opstune.security.keys import private_folder, write_private

PRIVATE, PUBLIC = "signing.pem", "signing.pub"
#: Signed before the manifest's bytes: a signature over anything else can never pass for one over a manifest.
_CONTEXT = b"opstune manifest 1\n"
_AGAIN = "Restore the folder from a backup, or remove it and run its stage again."


class Signature(BaseModel):
    """ECDSA on P-256 with SHA-256, base64, and which key made it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    key: str
    signature: str


class Signed(NamedTuple):
    """How an error names what was signed and the signature over it, where it stands, and what to do."""

    content: str
    signature: str
    where: str
    todo: str


def ensure_key(keys: Path) -> Path:
    """The private key, made at first use with mode 0600; the public one stands beside it."""
    private = keys / PRIVATE
    if private.is_file():
        return private
    with private_folder(keys):
        if private.is_file():
            return private
        key = ec.generate_private_key(ec.SECP256R1())
        spki = serialization.PublicFormat.SubjectPublicKeyInfo
        artifacts.write_text(keys / PUBLIC, key.public_key().public_bytes(serialization.Encoding.PEM, spki).decode())
        pkcs8, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        write_private(private, key.private_bytes(serialization.Encoding.PEM, pkcs8, plain))
    return private


def signed(folder: Path, keys: Path, make: Callable[[], Ref]) -> Ref:
    """What stands in ``folder`` under our signature, or what ``make`` puts there, signed.

    A finished folder without a signature is made again: nobody can tell one that a kill left from a forged one.

    Raises:
        IntegrityError: what stands there is not what was signed here.
    """
    if standing := artifacts.find(folder):
        if (folder / SIGNATURE).is_file():
            check(standing, keys)
        else:
            shutil.rmtree(folder)
    ref = make()
    if not (ref.path / SIGNATURE).is_file():
        sign(ref.path, keys)
    return ref


def check(ref: Ref, keys: Path) -> Ref:
    """A ref's manifest was signed by our key and all files are as it says.

    Raises:
        IntegrityError: names the file: the signature is missing or another key's, the manifest was written anew, or a
            file changed, is missing or was added.
    """
    attest(ref, keys)
    return artifacts.verify(ref)


def attest(ref: Ref, keys: Path) -> None:
    """A ref's manifest was signed by our key. The files that it lists are not looked at.

    Raises:
        IntegrityError: the signature is missing or another key's, or the manifest was written anew.
    """
    signature = ref.path / SIGNATURE
    if not signature.is_file():
        raise IntegrityError(f"{signature} is missing, so nothing proves what the {ref.kind} is", ref.kind, _AGAIN)
    try:
        told = Signature.model_validate_json(signature.read_bytes())
    except ValidationError as error:
        raise IntegrityError(f"{signature} is damaged", ref.kind, _AGAIN) from error
    content = _CONTEXT + (ref.path / MANIFEST).read_bytes()
    check_bytes(content, told, keys, Signed(str(ref.path / MANIFEST), str(signature), ref.kind, _AGAIN))


def sign_bytes(content: bytes, keys: Path) -> Signature:
    """A signature by this home's key, which is made at first use.

    ``content`` begins with a line that no other kind of signed content begins with.
    """
    private = serialization.load_pem_private_key(ensure_key(keys).read_bytes(), password=None)
    if not isinstance(private, ec.EllipticCurvePrivateKey):
        raise IntegrityError(f"{keys / PRIVATE} is not an elliptic-curve key", "keys", "Restore it from a backup.")
    made = private.sign(content, ec.ECDSA(hashes.SHA256()))
    return Signature(key=_key_id(private.public_key()), signature=base64.b64encode(made).decode())


def check_bytes(content: bytes, told: Signature, keys: Path, signed: Signed) -> None:
    """A signature is this home's over these bytes; ``signed`` is how an error names them.

    Raises:
        IntegrityError: it is another key's, or the bytes changed, or there is no key here to tell.
    """
    if not (keys / PUBLIC).is_file():
        what = f"{keys / PUBLIC} is missing, so nothing proves what {signed.content} is"
        raise IntegrityError(what, signed.where, "Restore the key from a backup.")
    try:
        signature, public = base64.b64decode(told.signature, validate=True), _public_key(keys)
    except (binascii.Error, ValueError) as error:
        what = f"{signed.signature} or {keys / PUBLIC} is damaged"
        raise IntegrityError(what, signed.where, signed.todo) from error
    if told.key != (own := _key_id(public)):
        what = f"{signed.signature} was made by the key {told.key}, not by this home's {PRIVATE} ({own})"
        raise IntegrityError(what, signed.where, signed.todo)
    try:
        public.verify(signature, content, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature as error:
        raise IntegrityError(f"{signed.content} changed after it was signed", signed.where, signed.todo) from error


def key_id(keys: Path) -> str:
    """Sixteen hexadecimal digits of the public key's hash: which key a signature says it is by."""
    return _key_id(_public_key(keys))


def sign(folder: Path, keys: Path) -> None:
    """Sign a folder's manifest, with a key made at first use."""
    told = sign_bytes(_CONTEXT + (folder / MANIFEST).read_bytes(), keys)
    artifacts.write_text(folder / SIGNATURE, told.model_dump_json(indent=1))


def _public_key(keys: Path) -> ec.EllipticCurvePublicKey:
    public = serialization.load_pem_public_key((keys / PUBLIC).read_bytes())
    if not isinstance(public, ec.EllipticCurvePublicKey):
        raise ValueError("not an elliptic-curve key")
    return public


def _key_id(public: ec.EllipticCurvePublicKey) -> str:
    spki = serialization.PublicFormat.SubjectPublicKeyInfo
    return hashlib.sha256(public.public_bytes(serialization.Encoding.DER, spki)).hexdigest()[:16]
