"""What holds for every DAG: light to import, documented, owned, in declared pools, with a form that works."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from airflow.sdk import DAG
from jsonschema import Draft7Validator

from opstune_airflow import catalog, settings
from opstune_airflow.apply_settings import importable

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "dags").glob("*.py"))
HEAVY = (
    "torch",
    "transformers",
    "trl",
    "peft",
    "datasets",
    "mlflow",
    "pandas",
    "pyarrow",
    "llama_cpp",
    "label_studio_sdk",
    "statsmodels",
    "sklearn",
)
STAGES = ["collect", "dataset", "train", "evaluate", "gate", "convert", "register", "deploy"]


def load(file: Path) -> dict[str, DAG]:
    namespace: dict[str, Any] = {"__name__": file.stem, "__file__": str(file)}
    exec(compile(file.read_text(), file, "exec"), namespace)
    return {value.dag_id: value for value in namespace.values() if isinstance(value, DAG)}


DAGS = {dag_id: dag for file in FILES for dag_id, dag in load(file).items()}
TASKS = [(dag_id, task_id) for dag_id, dag in DAGS.items() for task_id in dag.task_ids]
every_dag = pytest.mark.parametrize("dag", DAGS.values(), ids=DAGS.keys())


def declared() -> dict[str, dict[str, Any]]:
    return importable(yaml.safe_load((ROOT / "airflow_settings.yaml").read_text()))


def test_the_dags_are_the_ones_that_the_catalog_knows() -> None:
    assert set(DAGS) == set(catalog.DAGS)


def test_the_dag_files_import_in_no_time_and_pull_in_nothing_heavy(tmp_path: Path) -> None:
    program = f"""
import json, runpy, sys, time
from airflow.sdk import DAG, BaseSensorOperator, TaskGroup, task
task.short_circuit
seconds = []
for file in sys.argv[1:]:
    before = time.process_time()
    runpy.run_path(file)
    seconds.append(time.process_time() - before)
    for name in [name for name in sys.modules if name.startswith("opstune")]:
        del sys.modules[name]
print(json.dumps([seconds, sorted(set({HEAVY!r}) & set(sys.modules))]))
"""
    command = [sys.executable, "-c", program, *map(str, FILES)]
    environment = {**os.environ, "AIRFLOW_HOME": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    seconds, heavy = json.loads(done.stdout.splitlines()[-1])
    assert heavy == []
    assert max(seconds) < 0.3


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_dag_file_is_wiring_only(file: Path) -> None:
    assert len(file.read_text().splitlines()) <= 80


def test_airflow_scans_only_the_registration_among_the_plugins() -> None:
    from airflow._shared.module_loading import find_path_from_directory

    scanned = [Path(path) for path in find_path_from_directory(ROOT / "plugins", ".airflowignore", "glob")]
    assert [path.name for path in scanned if path.suffix == ".py"] == ["opstune_plugin.py"]


@every_dag
def test_a_dag_says_whose_it_is_and_what_to_do_when_a_stage_fails(dag: DAG) -> None:
    assert dag.doc_md and catalog.OWNER in dag.doc_md
    assert {task.owner for task in dag.tasks} == {catalog.OWNER}
    assert dag.tags and dag.tags <= set(catalog.TAGS)
    for task_id in dag.task_ids:
        assert f"| `{task_id.split('.')[0]}` |" in dag.doc_md


@every_dag
def test_a_dag_starts_nothing_for_nights_long_past(dag: DAG) -> None:
    assert dag.start_date is None and not dag.catchup
    assert dag.max_active_runs == 1


@every_dag
def test_every_task_judges_its_failures_and_tells_them(dag: DAG) -> None:
    for task in dag.tasks:
        assert task.retries and task.retry_policy, task.task_id
        assert task.on_failure_callback and task.on_retry_callback, task.task_id


@every_dag
def test_every_pool_is_declared(dag: DAG) -> None:
    assert {task.pool for task in dag.tasks} - {"default_pool"} <= set(declared()["pools"])


def test_every_connection_that_is_named_is_declared() -> None:
    code = [file.read_text() for folder in ("dags", "plugins") for file in (ROOT / folder).rglob("*.py")]
    named = set(re.findall(r'"(opstune_[a-z_]+)"', "\n".join(code))) - set(assets()) - set(settings.STORE_KEYS)
    for source in settings.source_names():
        named.update(settings.source_connections(source))
    assert named and named <= set(declared()["connections"]) | {"opstune_airflow"}


def test_the_settings_file_holds_no_secret() -> None:
    text = (ROOT / "airflow_settings.yaml").read_text()
    assert "conn_password" not in text and not re.search(r"://[^/\s]*:[^/\s]*@", text)


def assets() -> list[str]:
    return re.findall(r'Asset\("(\w+)"\)', (ROOT / "plugins/opstune_airflow/assets.py").read_text())


@pytest.mark.parametrize("dag_id", catalog.RETRAINS)
def test_a_retrain_goes_through_the_stages_in_order_each_a_group(dag_id: str) -> None:
    dag = DAGS[dag_id]
    assert [task_id.split(".")[0] for task_id in dag.task_ids if "." in task_id] == sorted(
        (task_id.split(".")[0] for task_id in dag.task_ids if "." in task_id), key=STAGES.index
    )
    assert set(dag.task_group.children) == {"turn", *STAGES}
    after = {task.task_id: set(task.get_flat_relative_ids(upstream=True)) for task in dag.tasks}
    assert after["collect.source"] == {"turn"}
    assert "collect.annotation" in after["collect.snapshot"]
    assert after["deploy.champion"] == set(dag.task_ids) - {"deploy.champion"}
    assert "gate.verdict" in after["convert.gguf"]


@pytest.mark.parametrize(("dag_id", "mode"), [("retrain_weekly", "incremental"), ("retrain_monthly", "full")])
def test_the_two_retrains_differ_in_mode_and_night_only(dag_id: str, mode: str) -> None:
    assert DAGS[dag_id].params["mode"] == mode
    assert DAGS[dag_id].task_ids == DAGS["retrain_weekly"].task_ids


@pytest.mark.parametrize(
    ("dag_id", "after", "expected"),
    [
        ("collect", "2026-11-03T12:00", "2026-11-04T02:00"),
        ("annotate", "2026-11-03T12:10", "2026-11-03T13:00"),
        ("retrain_weekly", "2026-11-03T12:00", "2026-11-09T03:00"),
        ("retrain_monthly", "2026-11-03T12:00", "2026-12-01T04:00"),
        ("retrain_monthly", "2026-11-01T04:01", "2026-12-01T04:00"),
    ],
)
def test_a_dag_that_is_switched_on_runs_on_its_next_night(
    dag_id: str, after: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.serialization.serialized_objects import DagSerialization
    from airflow.timetables import trigger
    from airflow.timetables.base import TimeRestriction
    from pendulum import parse

    monkeypatch.setattr(trigger, "utcnow", lambda: parse(after))
    timetable = DagSerialization.from_dict(DagSerialization.to_dict(DAGS[dag_id])).timetable
    restriction = TimeRestriction(earliest=None, latest=None, catchup=False)
    info = timetable.next_dagrun_info(last_automated_data_interval=None, restriction=restriction)
    assert info and info.run_after == parse(expected)


@every_dag
def test_every_field_of_the_form_has_a_title_a_description_and_a_default_that_fits(dag: DAG) -> None:
    for name in dag.params:
        param = dag.params.get_param(name)
        Draft7Validator.check_schema(param.schema)
        Draft7Validator(param.schema).validate(param.value)
        assert param.schema["title"] and param.description


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("mode", "half"),
        ("profile", "nobody"),
        ("days_back", 0),
        ("epochs", 0),
        ("wait_for_annotation", "yes"),
        ("approval", "yes"),
        ("learning_rate", 2),
        ("max_steps", 1.5),
    ],
)
def test_the_form_refuses_what_makes_no_sense(field: str, value: Any) -> None:
    schema = DAGS["retrain_weekly"].params.get_param(field).schema
    assert not Draft7Validator(schema).is_valid(value)


def test_training_runs_where_the_devices_are() -> None:
    dag = DAGS["retrain_weekly"]
    on_device = {task.task_id for task in dag.tasks if (task.pool, task.queue) == (catalog.GPU_POOL, catalog.GPU_QUEUE)}
    assert on_device == {"train.adapter", "evaluate.measure", "evaluate.red_team"}


def test_a_person_is_asked_between_the_last_gate_and_the_registry() -> None:
    dag = DAGS["retrain_weekly"]
    approval = dag.get_task("register.approval")
    assert "convert.measure" in approval.upstream_task_ids
    assert approval.downstream_task_ids == {"register.version"}
    assert (approval.options, approval.defaults) == (["Approve", "Reject"], ["Reject"])


def test_the_red_team_s_findings_reach_both_gates() -> None:
    attacked = DAGS["retrain_weekly"].get_task("evaluate.red_team")
    assert attacked.downstream_task_ids == {"gate.verdict", "convert.measure"}


def test_people_are_heard_before_they_are_asked_and_each_project_goes_its_own_way() -> None:
    dag = DAGS["annotate"]
    push = dag.get_task("annotate.push")
    assert push.upstream_task_ids == {"annotate.pull"}
    assert set(settings.annotation_projects()) == {"root_cause", "query_quality", "remediation", "log_error"}
    mapped = list(dag.get_task("annotate.pull").iter_mapped_task_groups())
    assert [group.group_id for group in mapped] == ["annotate"]
