from __future__ import annotations

import pytest

from opstune.collect.prose.markdown import Fence, parts
from opstune.collect.prose.query_text import boards, is_query, queries_in, query_of_link, readings


@pytest.mark.parametrize(
    ("language", "code", "holds"),
    [
        ("promql", "up == 0", True),
        ("sql", "UPDATE t SET a = 1", True),
        ("", 'sum by (job) (rate(http_requests_total{code="500"}[5m]))', True),
        ("", 'up{job="api"} == 0', True),
        ("", "histogram_quantile(0.99, x)", True),
        ("", "SELECT count(*) FROM pg_locks", True),
        ("", "with x as (select 1) select * from x", True),
        ("", "sum(", False),
        ("", "select a colour", False),
        ("", "kubectl get pods", False),
        ("yaml", 'expr: up{job="api"}', False),
        ("promql", " ", False),
        ("", "rate limits were hit", False),
    ],
)
def test_queries_are_told_by_their_language_or_their_look(language: str, code: str, holds: bool) -> None:
    assert is_query(Fence(language, code)) is holds


def test_queries_come_from_fences_and_from_inline_code_once_each() -> None:
    text = 'saw `up{a="1"}` and `api`\n- `rate(x[5m])`\n```\nup{a="1"}\n```\n```sql\nSELECT 1\nFROM t\n```'
    assert queries_in(parts(text, ())) == ['up{a="1"}', "rate(x[5m])", "SELECT 1 FROM t"]


@pytest.mark.parametrize(
    ("url", "query"),
    [
        ("http://prometheus:9090/graph?g0.expr=up%7Bjob%3D%22api%22%7D&g0.tab=1", 'up{job="api"}'),
        ("http://prometheus:9090/graph", ""),
        ("http://[", ""),
    ],
)
def test_a_link_to_a_graph_carries_its_query(url: str, query: str) -> None:
    assert query_of_link(url) == query


def test_dashboards_are_told_apart_from_other_links() -> None:
    board = "https://grafana.example/d/x/api"
    assert boards([board, "https://acme.slack.com/archives/C1", board]) == [board]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("- p99: 4 s\n- errors = 12 %\n- **lag** was 90k", {"p99": "4 s", "errors": "12 %", "lag": "90k"}),
        ("| Metric | Value |\n|---|---|\n| cpu | 98 % |\n| disk | n/a |", {"cpu": "98 %"}),
        ("```log\nout of memory\n```", {"log": "out of memory"}),
        ("[board](https://grafana.example)\nhttps://grafana.example", {}),
        ("all looked normal", {}),
    ],
)
def test_readings_come_from_lists_tables_and_logs(text: str, found: dict[str, str]) -> None:
    assert readings(parts(text, ())) == found
