"""Fixes as merged changes: pull requests from GitHub or a local clone."""
