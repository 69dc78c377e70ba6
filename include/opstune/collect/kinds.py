"""The kinds of source: what each needs under ``read`` in its source file, and how its reader is opened.

Adding a kind is a file with its options and its reader, and a line here.
"""

from __future__ import annotations

from opstune.collect.alerts import prometheus
from opstune.collect.databases import clickhouse, database
from opstune.collect.files import files
from opstune.collect.issues import linear
from opstune.collect.merges import git, github
from opstune.collect.source import Kind

KINDS: dict[str, Kind] = {
    "files": files.KIND,
    "database": database.KIND,
    "clickhouse": clickhouse.KIND,
    "prometheus": prometheus.KIND,
    "linear": linear.KIND,
    "github": github.KIND,
    "git": git.KIND,
}
