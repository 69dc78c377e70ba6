"""Registered versions as they stand on the disk: none is handed out whose bytes are not those that were registered."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from opstune.errors import InputError, IntegrityError
from opstune.registry import bundle, proof, signing
from opstune.registry.bundle import Version
from opstune.registry.ledger import Entry, registered, standing


class Shelf:
    """The bundles under ``home/models``, as the ledger knows them."""

    def __init__(self, home: Path) -> None:
        self.folder = home / "models"
        self._keys = home / "keys"

    def read(self, version: str, entries: Sequence[Entry]) -> Version:
        """What a bundle says of itself; nothing is checked.

        Raises:
            InputError: it was never registered.
        """
        known = registered(entries)
        if version not in known:
            raise InputError(f"there is no version {version}", "registry", f"Registered: {', '.join(known) or 'none'}.")
        aliases = [alias for alias, at in standing(entries).items() if at == version]
        return bundle.read(self.folder / version, aliases)

    def load(self, version: str, entries: Sequence[Entry]) -> Version:
        """A version whose every file is as it was signed, by the signature that the ledger knows.

        Raises:
            InputError: it was never registered.
            IntegrityError: a file of it changed, is missing or was added; it is named.
        """
        found = self.read(version, entries)
        signing.verify(found.folder, self._keys)
        if signing.digest(found.folder) != registered(entries)[version]:
            what = f"{found.folder} is signed, but is not the bundle that was registered as {version}"
            raise IntegrityError(what, "registry", "Restore it from a backup.")
        return found

    def proven(self, version: str, entries: Sequence[Entry]) -> Version:
        """As ``load``, and its own signed verdicts let it answer. Nothing else lets a version near production.

        Raises:
            InputError: a verdict says something else than promote, or none is about the GGUF in the bundle.
            IntegrityError: a verdict is not as it was signed here.
        """
        found = self.load(version, entries)
        proof.check(found, self._keys)
        return found
