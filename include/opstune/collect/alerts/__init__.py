"""Alerts and what was done about them: Prometheus and Alertmanager."""
