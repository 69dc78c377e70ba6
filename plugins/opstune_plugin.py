"""What opstune registers with Airflow. Registration only; everything lives in opstune_airflow."""

from airflow.plugins_manager import AirflowPlugin

from opstune_airflow import run_note


class OpstunePlugin(AirflowPlugin):
    name = "opstune"
    listeners = [run_note]  # noqa: RUF012 (Airflow reads a plain class attribute)
