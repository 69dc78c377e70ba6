"""What `make bench` measures: ``python -m opstune.bench [ROW ...]`` prints a table and writes ``bench.json``.

A row is a ratio against a baseline of the same run where there is one, because these figures come from
shared machines: an absolute time says as much about the neighbours as about the code.
"""
