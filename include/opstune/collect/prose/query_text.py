"""Telemetry in text: queries in code, readings in lists and tables, links to dashboards."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from urllib.parse import parse_qs, urlsplit

from opstune.collect.prose.markdown import Fence, Part, plain, said

_LANGUAGES = {"promql": True, "sql": True, "logql": True, "metricsql": True, "postgresql": True, "mysql": True}
_SQL = re.compile(r"(?is)\s*(?:explain\s+(?:analyze\s+)?)?(?:select\b.+\bfrom\b|with\b.+\bselect\b|show\s+\w+)")
_PROMQL = re.compile(
    r"(?s)\s*(?:[a-zA-Z_:][\w:]*\{[^{}]*\}|(?:sum|avg|min|max|count|topk|bottomk|rate|irate|increase|delta|histogram_quantile"
    r"|absent|predict_linear|quantile|(?:sum|avg|min|max|count)_over_time)\s*(?:(?:by|without)\s*\([^)]*\)\s*)?\().*"
)
_CODE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_READING = re.compile(r"^(?P<name>[^:=\n]{2,60}?)\s*(?:[:=]|\s[–—-]\s|\s(?:was|is|at)\s)\s*(?P<value>\S.*)$")
_BOARDS = re.compile(
    r"(?i)grafana|kibana|datadoghq|honeycomb|newrelic|sentry|cloudwatch|splunk|opensearch|jaeger|tempo|loki|/graph\?g0\."
    r"|/d/[\w-]+|/explore\b|/goto/"
)
#: Characters of log text and of a reading that are kept.
_LOG, _VALUE = 1000, 200


def is_query(code: Fence) -> bool:
    """Whether code is PromQL or SQL, by its language or by its look."""
    text = code.text.strip()
    if code.language:
        return bool(text) and _LANGUAGES.get(code.language, False)
    if _SQL.match(text):
        return True
    return bool(_PROMQL.match(text)) and text.count("(") == text.count(")") and text.count("{") == text.count("}")


def queries_in(told: Iterable[Part]) -> list[str]:
    """The queries in fences and in inline code, in order, each on one line."""
    found: list[str] = []
    for part in told:
        lines = [part.text, *(item.text for item in part.items), *(value for row in part.rows for value in row)]
        inline = [Fence("", code) for text in lines for code in _CODE.findall(text)]
        found += [" ".join(code.text.split()) for code in (*inline, *part.fences) if is_query(code)]
    return list(dict.fromkeys(found))


def query_of_link(url: str) -> str:
    """The query behind a link to Prometheus' graph page, as alerts carry it."""
    try:
        return " ".join(parse_qs(urlsplit(url).query).get("g0.expr", [""])[0].split())
    except ValueError:
        return ""


def boards(urls: Sequence[str]) -> list[str]:
    """The links that lead to dashboards, logs and traces."""
    return list(dict.fromkeys(url for url in urls if _BOARDS.search(url)))


def readings(told: Iterable[Part]) -> dict[str, str]:
    """What was measured → its reading, from lists, tables and lines; ``log`` is what stands in a fence."""
    found: dict[str, str] = {}
    for part in told:
        for line in [*(item.text for item in part.items), *part.lines]:
            if reading := _READING.match(plain(line)):
                found.setdefault(reading["name"].strip(), reading["value"][:_VALUE])
        for name, value in part.rows:
            if said(value) and not re.fullmatch(r"[\s:-]*", value) and name.lower() not in ("metric", "signal", "name"):
                found.setdefault(name, value[:_VALUE])
        logs = [fence.text for fence in part.fences if not is_query(fence) and fence.text.strip()]
        if logs:
            found.setdefault("log", "\n".join(logs)[:_LOG])
    return {name: value for name, value in found.items() if "://" not in name and not value.startswith("//")}
