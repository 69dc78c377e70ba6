"""Rows of SQL databases and of ClickHouse."""
