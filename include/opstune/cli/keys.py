"""``keys``: what the example store is encrypted with and what signs, how old it is, and a new key instead."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import Any

import typer

from opstune import settings as configuration
from opstune.cli.output import AsJson, show, table
from opstune.security import signing
from opstune.security.keys import Keyring
from opstune.settings import Settings

keys = typer.Typer(help="What encrypts the example store and what signs; never a key itself.", no_args_is_help=True)


@keys.command("show")
def show_keys(as_json: AsJson = False) -> None:
    """List every key: where it is kept, its age, how many parts of the store it wraps, and whether it is needed."""
    from opstune.security.data_keys import FILE
    from opstune.security.vault import Vault, key_of

    settings = configuration.load()
    keyring = _keyring(settings)
    vault = Vault(settings.examples_dir, keyring)
    book = vault.keys()
    parts = Counter(key_of(path) for path in vault.parts())
    plain = parts.pop("", 0)
    rows = []
    for key in keyring.masters():
        used = book is not None and book.master == key.id
        rows.append(_row("master", key.id, key.origin, key.made, sum(parts.values()) if used else 0, used))
    if book:
        for name, made in book.made.items():
            rows.append(_row("data", name, FILE, made, parts[name], name == book.current or parts[name] > 0))
    if (public := settings.keys_dir / signing.PUBLIC).is_file():
        made = datetime.fromtimestamp(public.stat().st_mtime, UTC)
        rows.append(_row("signing", signing.key_id(settings.keys_dir), signing.PRIVATE, made, None, True))
    told = f"{plain} parts stand unencrypted; `opstune keys rotate` encrypts them." if plain else ""
    show({"keys": rows, "unencrypted_parts": plain}, as_json, [table(rows), *([told] if told else [])])


@keys.command("rotate")
def rotate_keys(as_json: AsJson = False) -> None:
    """Let a new key take over the example store; the old one is needed no more, and old snapshots hold.

    Without a secret the new key is a file. To rotate a secret, put the new one into the connection opstune_store_key
    and the old one into opstune_store_key_previous, rotate, and remove the latter.
    """
    from opstune.store import ExampleStore

    settings = configuration.load()
    rotated = ExampleStore(settings.examples_dir, _keyring(settings)).rotate()
    unneeded = [key.origin for key in _keyring(settings).masters() if key.id != rotated.master]
    value = {"master": rotated.master, "encrypted_parts": rotated.sealed, "no_longer_needed": unneeded}
    told = [f"{rotated.master} is the store's key now; {rotated.sealed} parts were encrypted for the first time"]
    if unneeded:
        told.append(f"No longer needed, except by backups from before: {', '.join(unneeded)}")
    show(value, as_json, told)


def _keyring(settings: Settings) -> Keyring:
    return Keyring.connected(settings.keys_dir, settings.connection)


def _row(what: str, key: str, place: str, made: datetime | None, parts: int | None, needed: bool) -> dict[str, Any]:
    age = round((datetime.now(UTC) - made).total_seconds() / 86400, 1) if made else None
    return {"what": what, "key": key, "kept_in": place, "age_days": age, "wraps_parts": parts, "needed": needed}
