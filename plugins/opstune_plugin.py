"""What opstune registers with Airflow. Registration only; everything lives in opstune_airflow."""

from typing import Any

from airflow.plugins_manager import AirflowPlugin

from opstune_airflow import reports, run_note


class OpstunePlugin(AirflowPlugin):
    name = "opstune"
    listeners = [run_note]  # noqa: RUF012 (Airflow reads a plain class attribute)
    external_views = [reports.VIEW]  # noqa: RUF012

    @property
    def fastapi_apps(self) -> list[dict[str, Any]]:
        """Only the api-server asks for them, and only there is FastAPI worth its import."""
        return [{"name": "opstune reports", "app": reports.app(), "url_prefix": reports.PREFIX}]
