"""airflow_settings.yaml into Airflow's database, without the Astro CLI.

    python -m opstune_airflow.apply_settings [airflow_settings.yaml] [--migrate] [--only pools,variables]

Airflow's own importers do the work, in one process: each ``airflow`` command costs seconds to start.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from opstune.settings import read_yaml

KINDS = ("pools", "variables", "connections")
_FIELDS = ("conn_type", "login", "password", "host", "port", "schema", "extra")


def importable(settings: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Astro's lists as the three mappings that Airflow's importers read.

    Entries without a name are Astro's empty templates and are left out.
    """
    found = settings.get("airflow") or {}
    pools = {
        pool["pool_name"]: {"slots": pool["pool_slot"], "description": pool.get("pool_description") or ""}
        for pool in found.get("pools") or []
        if pool.get("pool_name")
    }
    variables = {
        variable["variable_name"]: variable["variable_value"]
        for variable in found.get("variables") or []
        if variable.get("variable_name")
    }
    connections = {
        connection["conn_id"]: _connection(connection)
        for connection in found.get("connections") or []
        if connection.get("conn_id")
    }
    return {"pools": pools, "variables": variables, "connections": connections}


def _connection(asked: dict[str, Any]) -> Any:
    if asked.get("conn_uri"):
        return asked["conn_uri"]
    fields = {name: asked.get(name if name == "conn_type" else f"conn_{name}") for name in _FIELDS}
    if isinstance(fields["extra"], dict):
        fields["extra"] = json.dumps(fields["extra"])
    return {name: value for name, value in fields.items() if value not in (None, "")}


def main() -> int:
    """Write the settings file's pools, variables and connections into Airflow."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "file", type=Path, nargs="?", default=Path(__file__).resolve().parents[2] / "airflow_settings.yaml"
    )
    parser.add_argument("--migrate", action="store_true", help="create or upgrade Airflow's tables first")
    parser.add_argument("--only", default=",".join(KINDS), help="which kinds, separated by commas")
    asked = parser.parse_args()
    wanted = importable(read_yaml(asked.file))

    from airflow.cli.cli_parser import get_parser

    if asked.migrate:
        from airflow.utils.db import initdb

        initdb()
    commands = get_parser()
    with tempfile.TemporaryDirectory() as folder:
        for kind in asked.only.split(","):
            if not wanted[kind]:
                continue
            path = Path(folder) / f"{kind}.json"
            path.write_text(json.dumps(wanted[kind]))
            overwrite = ["--overwrite"] if kind == "connections" else []
            command = commands.parse_args([kind, "import", str(path), *overwrite])
            command.func(command)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
