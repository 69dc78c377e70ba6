"""Astro's settings file as what Airflow's importers read."""

from __future__ import annotations

import json

from opstune_airflow.apply_settings import importable


def test_each_kind_takes_the_shape_of_its_importer() -> None:
    found = importable(
        {
            "airflow": {
                "pools": [{"pool_name": "gpu", "pool_slot": 2, "pool_description": "d"}],
                "variables": [{"variable_name": "a", "variable_value": "1"}],
                "connections": [
                    {"conn_id": "x", "conn_type": "fs", "conn_extra": {"path": "/p"}, "conn_login": None},
                    {"conn_id": "y", "conn_uri": "http://y"},
                ],
            }
        }
    )
    assert found["pools"] == {"gpu": {"slots": 2, "description": "d"}}
    assert found["variables"] == {"a": "1"}
    assert found["connections"] == {"x": {"conn_type": "fs", "extra": json.dumps({"path": "/p"})}, "y": "http://y"}


def test_the_empty_template_that_astro_writes_sets_nothing() -> None:
    empty = {"pools": [{"pool_name": None}], "variables": [{"variable_name": ""}], "connections": [{"conn_id": None}]}
    assert importable({"airflow": empty}) == {"pools": {}, "variables": {}, "connections": {}}
    assert importable({"airflow": None}) == {"pools": {}, "variables": {}, "connections": {}}
