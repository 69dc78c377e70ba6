"""A sealed list of the store's parts: what one retrain sees, whatever is collected meanwhile."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from opstune import artifacts
from opstune.artifacts import Ref
from opstune.collect.pulling import SourceReport
from opstune.security.keys import Keyring
from opstune.store import SNAPSHOT, ExampleStore


def snapshot(folder: Path, store: Path, reports: list[SourceReport], keyring: Keyring | None = None) -> Ref:
    """Seal the store as it is into ``folder``: kind ``examples``, counts parts, rows, new, quarantined.

    ``snapshot.json`` lists every part with hash and rows, the store's place relative to the folder, so that
    OPSTUNE_HOME can be moved. The reports stand in the manifest: they differ from run to run, the content does not.
    A folder that already lists the same parts is returned as it is.
    """
    parts = ExampleStore(store, keyring).listing()
    content = {"store": os.path.relpath(store.resolve(), folder.resolve()), "parts": [part._asdict() for part in parts]}
    asked = artifacts.fingerprint(content)
    existing = artifacts.find(folder)
    if existing and existing.manifest["asked"] == asked:
        return artifacts.verify(existing)
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        artifacts.write_text(partial / SNAPSHOT, json.dumps(content, indent=1))
        counts = {
            "parts": len(parts),
            "rows": sum(part.rows for part in parts),
            "new": sum(report.new for report in reports),
            "quarantined": sum(report.quarantined for report in reports),
        }
        made = {"asked": asked, "inputs": {}, "settings": {}, "reports": [report.model_dump() for report in reports]}
        artifacts.seal(partial, "examples", counts, made)
        shutil.rmtree(folder, ignore_errors=True)
        partial.replace(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return artifacts.open_ref(folder)
