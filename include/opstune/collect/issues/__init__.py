"""Incidents as closed issues: Linear."""
