"""Other people's near-duplicate finders, each run as a program in an environment of its own.

A driver gets a JSONL file of ``{"text": ...}`` and a work folder, and prints one JSON document:
``seconds`` (without start and imports) and ``dropped``, the positions that it would leave out.
"""
