"""The reports of a retrain as pages in Airflow: behind its sign-in, for who may see the DAG's runs, signature checked.

The files stand under OPSTUNE_HOME, which the api-server must be able to read, as the workers do.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from opstune_airflow.catalog import RETRAINS, run_folder

if TYPE_CHECKING:
    from fastapi import FastAPI

PREFIX: Final = "/opstune/reports"
#: The last verdict first: that of the file that ships, else of the challenger.
_VERDICTS: Final = ("gate_shipped", "gate")
_FILES: Final = {"gate_shipped": "report.html", "gate": "report.html", "dataset": "card.html"}
#: A report needs no script and nothing from elsewhere; an answer in it that looks like one gets none.
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'self'"

#: The tab of a DAG run. Airflow fills in the names in braces, and the page's base is put before a path without a slash:
#: with one, the tab would miss an Airflow that stands under a path of its host.
VIEW: Final[dict[str, Any]] = {
    "name": "Report",
    "href": f"{PREFIX.lstrip('/')}/{{DAG_ID}}/{{RUN_ID}}",
    "destination": "dag_run",
    "url_route": "opstune-report",
}


def url(dag_id: str, run_id: str, stage: str = "") -> str:
    """The address of a run's report, of one stage or of its last verdict."""
    from airflow.sdk.configuration import conf

    base = str(conf.get("api", "base_url", fallback="")).rstrip("/")
    return "/".join(filter(None, [f"{base}{PREFIX}", quote(dag_id, safe=""), quote(run_id, safe=""), stage]))


@cache
def app() -> FastAPI:
    """The pages, without documentation of its own: that would be open to anybody."""
    from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
    from airflow.api_fastapi.core_api.security import requires_access_dag
    from fastapi import Depends, FastAPI
    from fastapi.responses import HTMLResponse

    allowed = [Depends(requires_access_dag("GET", DagAccessEntity.RUN))]
    pages = FastAPI(title="opstune reports", docs_url=None, redoc_url=None, openapi_url=None)

    def page(dag_id: str, run_id: str, stage: str = "") -> HTMLResponse:
        status, html = read(dag_id, run_id, stage)
        return HTMLResponse(html, status, {"Content-Security-Policy": _POLICY, "X-Content-Type-Options": "nosniff"})

    pages.get("/{dag_id}/{run_id}", dependencies=allowed)(page)
    pages.get("/{dag_id}/{run_id}/{stage}", dependencies=allowed)(page)
    return pages


def read(dag_id: str, run_id: str, stage: str) -> tuple[int, str]:
    """Status and page: a report that stands under our signature, or in words why there is none."""
    from opstune import settings
    from opstune.artifacts import open_ref
    from opstune.errors import OpstuneError
    from opstune.security import signing

    if dag_id not in RETRAINS or (stage and stage not in _FILES):
        return 404, _words("There is no such report.")
    try:
        found = settings.load()
        folder = found.runs_dir / run_folder(dag_id, run_id)
        made = next((one for one in ([stage] if stage else _VERDICTS) if (folder / one).is_dir()), None)
        if made is None:
            return 404, _words("There is no verdict yet: the gate writes the report.")
        signing.check(open_ref(folder / made), found.keys_dir)
        return 200, Path(folder / made / _FILES[made]).read_text()
    except (OpstuneError, OSError) as error:
        return 409, _words(str(error))


def _words(text: str) -> str:
    from html import escape

    return f"<!doctype html><meta charset=utf-8><title>opstune</title><p style='font-family:sans-serif'>{escape(text)}"
