"""Code contexts: what the later skill code_review will learn from."""

from __future__ import annotations

from datetime import datetime
from random import Random

from opstune.simulate.incidents import Row
from opstune.simulate.words import SECOND

_SNIPPETS = (
    ("hard_coded_secret", "high", "{word}_client = connect(user='{word}', password='{secret}')"),
    ("wide_role", "high", "rules:\n- apiGroups: ['*']\n  resources: ['*']\n  verbs: ['*']  # {word}"),
    ("risky_trigger", "medium", "on:\n  pull_request_target:\n    branches: ['{word}']"),
    ("", "low", "def {word}(items):\n    return sorted(items, key=len)"),
    ("", "low", "replicas: 3\nimage: {word}:1.4\nreadOnlyRootFilesystem: true"),
)


def code_context(seed: int, number: int, at: datetime) -> tuple[Row, list[str]]:
    """A reviewed piece of code and the secrets in it."""
    rng = Random(f"{seed}-{number}-code")
    finding, risk, snippet = rng.choice(_SNIPPETS)
    secret = "".join(rng.choices("abcdefghkmnpqrstuvwxyz23456789", k=16))
    code = snippet.format(word=rng.choice(SECOND), secret=secret)
    row: Row = {
        "id": f"CC-{number:06d}",
        "at": at.isoformat(),
        "path": f"deploy/{rng.choice(SECOND)}/{rng.choice(SECOND)}",
        "code": code,
        "findings": [finding] if finding else [],
        "risk": risk,
    }
    return row, [secret] if secret in code else []
