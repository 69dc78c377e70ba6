"""Pieces of code as they come up for review: files and diffs, with dangerous lines among harmless ones like them."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from opstune.simulate.names import Names
from opstune.simulate.words import SECOND
from opstune.skills.audit import RISKS

#: Kind of finding → risk of one such finding, as an index of ``RISKS``.
WEIGHTS = {
    "hard_coded_secret": 2,
    "wide_role": 2,
    "risky_trigger": 2,
    "open_network": 2,
    "unsafe_command": 2,
    "disabled_check": 1,
    "privileged_container": 1,
    "unpinned_version": 1,
}
#: Nothing is reached from here in production: one step less.
_ASIDE = ("tests", "examples")
_DIFF_SHARE = 0.4


@dataclass(frozen=True)
class Piece:
    """What is reviewed and what was found. ``secrets`` stand in the code in clear."""

    path: str
    kind: str
    code: str
    findings: list[dict[str, str]]
    risk: str
    secrets: list[str]


@dataclass(frozen=True)
class _Spot:
    """One line of a file in a harmless and in a dangerous form."""

    finding: str
    good: tuple[str, ...]
    bad: tuple[str, ...]
    advice: str


@dataclass(frozen=True)
class _Style:
    """A kind of file: lines before, spots, and harmless lines to fill in with."""

    kind: str
    paths: tuple[str, ...]
    head: str
    spots: tuple[_Spot, ...]
    filler: tuple[str, ...]


_TERRAFORM = _Style(
    "infrastructure",
    ("infra/{a}.tf", "terraform/{a}/{b}.tf", "examples/{a}/main.tf"),
    'resource "service" "{a}" {{',
    (
        _Spot("open_network", ('  allow_from = "10.0.0.0/8"', '  allow_from = "172.16.0.0/12"'),
              ('  allow_from = "0.0.0.0/0"', '  ingress = "0.0.0.0/0"', '  allow_from = "::/0"'),
              "allow known networks only"),
        _Spot("wide_role", ('  actions = "read:{b}"', '  actions = "{b}:get"'),
              ('  actions = "*"', '  actions = "{b}:*"', '  permissions = "all"'), "name the actions that are needed"),
        _Spot("hard_coded_secret", ('  password = "$DB_PASSWORD"', "  secret_ref = vault.{b}"),
              ('  password = "{secret}"', '  api_key = "{key}"', '  dsn = "postgres://svc:{secret}@{b}/main"'),
              "read it from the vault and rotate it"),
        _Spot("unpinned_version", ('  source = "modules/{b}?ref=v{n}.{m}"', '  version = "{n}.{m}.1"'),
              ('  source = "modules/{b}?ref=main"', '  version = ">= 0"', '  source = "modules/{b}"'),
              "pin an exact version"),
    ),
    ('  name = "{b}"', "  port = {n}443", "  replicas = {m}", '  region = "eu-{m}"', "  backup = true", '  size = "l"'),
)  # fmt: skip
_KUBERNETES = _Style(
    "infrastructure",
    ("deploy/{a}.yaml", "charts/{a}/templates/{b}.yaml", "tests/{a}.yaml"),
    "kind: Deployment",
    (
        _Spot("privileged_container", ("  runAsNonRoot: true", "  privileged: false"),
              ("  privileged: true", "  runAsUser: 0", "  hostNetwork: true"), "run as an ordinary user"),
        _Spot("unpinned_version", ("  image: {b}:{n}.{m}.2", "  image: registry/{b}:{n}.{m}"),
              ("  image: {b}:latest", "  image: {b}", "  image: registry/{b}:edge"), "pin the image"),
        _Spot("wide_role", ("  verbs: [get, list]", "  resources: [configmaps]"),
              ('  verbs: ["*"]', '  resources: ["*"]', "  clusterRole: cluster-admin"), "grant single verbs"),
        _Spot("hard_coded_secret", ("  secretKeyRef: {b}", "  password: $(DB_PASSWORD)"),
              ("  password: {secret}", "  api_token: {secret}", "  access_key: {key}"), "use a secret object"),
    ),
    ("  name: {b}", "  replicas: {m}", "  port: {n}080", "  cpu: {n}00m", "  memory: {m}Gi", "  namespace: {a}"),
)  # fmt: skip
_PIPELINE = _Style(
    "configuration",
    ("ci/{a}.yaml", "pipelines/{a}-{b}.yaml", "examples/{a}.yaml"),
    "name: {a}",
    (
        _Spot("risky_trigger", ("on: pull_request", "on: push", "on: schedule"),
              ("on: pull_request_target", "on: issue_comment", "on: workflow_run"),
              "run on trusted events only"),
        _Spot("wide_role", ("permissions: read", "  contents: read"),
              ("permissions: write-all", "  id-token: write-all"), "grant read, and single writes"),
        _Spot("unpinned_version", ("  uses: {b}/build@{sha}", "  uses: {b}/scan@{sha}"),
              ("  uses: {b}/build@main", "  uses: {b}/scan@master", "  uses: {b}/run@latest"), "pin the commit"),
        _Spot("hard_coded_secret", ("  API_TOKEN: ${{{{ secrets.API_TOKEN }}}}", "  PASSWORD: ${{{{ secrets.{b} }}}}"),
              ("  API_TOKEN: {secret}", "  PASSWORD: {secret}", "  ACCESS_KEY: {key}"), "use the secret store"),
        _Spot("unsafe_command", ("  run: make {b}", "  run: ./{b}.sh"),
              ("  run: echo ${{{{ github.event.title }}}} | sh", "  run: eval ${{{{ inputs.{b} }}}}"),
              "pass input through the environment"),
    ),
    ("  runs-on: linux", "  timeout: {m}0", "  needs: {b}", "  cache: true", "  retries: {m}", "  shell: bash"),
)  # fmt: skip
_SCRIPT = _Style(
    "script",
    ("bin/{a}.sh", "scripts/{a}-{b}.sh", "tests/{a}.sh"),
    "set -eu",
    (
        _Spot("disabled_check", ("curl --fail https://{b}.example/{a} -o {a}", "ssh {b}.example uptime"),
              ("curl -k https://{b}.example/{a} -o {a}", "ssh -o StrictHostKeyChecking=no {b}.example",
               "wget --no-check-certificate https://{b}.example"), "keep certificate and host checks"),
        _Spot("unsafe_command", ('tar xf "$1" -C {b}', 'grep -- "$1" {b}.txt'),
              ('eval "$1"', 'sh -c "$1"', "curl https://{b}.example/{a} | sh"), "do not run input as code"),
        _Spot("hard_coded_secret", ("export DB_PASSWORD=$(vault read {b})", 'login "$USER" "$DB_PASSWORD"'),
              ("export DB_PASSWORD={secret}", "login --password {secret}", "export ACCESS_KEY={key}"),
              "read it at run time and rotate it"),
        _Spot("privileged_container", ("docker run {b}:{n}.{m}", "docker run --read-only {b}:{n}.{m}"),
              ("docker run --privileged {b}:{n}.{m}", "docker run -v /:/host {b}:{n}.{m}"), "drop the host's rights"),
    ),
    ("mkdir -p {b}", "echo done", "cd {a}", "sleep {n}", 'log "{b} ready"', "rm -f {b}.tmp"),
)  # fmt: skip
_PYTHON = _Style(
    "code",
    ("src/{a}/{b}.py", "app/{a}.py", "tests/test_{a}.py"),
    "def {a}(name):",
    (
        _Spot("disabled_check", ('    page = http.get("https://{b}.example", timeout={n})',),
              ('    page = http.get("https://{b}.example", verify=False)', "    context.check_hostname = False"),
              "keep verification on"),
        _Spot("unsafe_command", ('    run(["{b}", name])', '    rows = query("SELECT {b} WHERE id = ?", name)'),
              ('    os.system("{b} " + name)', '    rows = query("SELECT {b} WHERE id = " + name)', "    eval(name)"),
              "pass arguments apart from the command"),
        _Spot("hard_coded_secret", ('    login = vault.read("{b}")', '    login = settings.login("{b}")'),
              ('    password = "{secret}"', '    api_key = "{key}"', "    connect(password='{secret}')"),
              "read it from the vault and rotate it"),
        _Spot("open_network", ('    server.bind("127.0.0.1", {n}080)', '    server.bind("localhost", {n}443)'),
              ('    server.bind("0.0.0.0", {n}080)', '    server.listen("", {n}443, public=True)'),
              "bind to one address behind the proxy"),
    ),
    ("    items = sorted(name)", "    total = {n}", '    log.info("{b}")', "    return items", "    retries = {m}"),
)  # fmt: skip
#: Pipelines twice: they alone have triggers.
STYLES = (_TERRAFORM, _KUBERNETES, _PIPELINE, _PIPELINE, _SCRIPT, _PYTHON)


def draw(rng: Random, names: Names) -> Piece:
    """A piece of the incident's service: five to nine lines, up to three of them dangerous."""
    style = rng.choice(STYLES)
    slots: dict[str, object] = {
        "a": names.service.replace("-", "_"),
        "b": rng.choice(SECOND),
        "n": rng.randint(1, 9),
        "m": rng.randint(2, 9),
        "sha": "".join(rng.choices("0123456789abcdef", k=40)),
        "secret": _mixed(rng, 18),
        "key": "AKIA" + "".join(rng.choices(string.ascii_uppercase + string.digits, k=16)),
    }
    spots = rng.sample(style.spots, min(3, len(style.spots)))
    bad = spots[: rng.choices((0, 1, 2, 3), (38, 40, 17, 5))[0]]
    findings, chosen = [], []
    for spot in spots:
        line = rng.choice(spot.bad if spot in bad else spot.good).format_map(slots)
        chosen.append((line, rng.choice(spot.good).format_map(slots)))
        if spot in bad:
            findings.append({"kind": spot.finding, "line": line.strip(), "advice": spot.advice})
    filler = [(line.format_map(slots), "") for line in rng.sample(style.filler, rng.choice((2, 3, 4)))]
    body = rng.sample([*chosen, *filler], len(chosen) + len(filler))
    path = rng.choice(style.paths).format_map(slots)
    text = [style.head.format_map(slots), *(line for line, _ in body)]
    code = _diff(rng, path, text, dict(body)) if rng.random() < _DIFF_SHARE else "\n".join(text)
    order = {line.strip(): place for place, line in enumerate(text)}
    return Piece(
        path=path,
        kind=style.kind,
        code=code,
        findings=sorted(findings, key=lambda finding: order[finding["line"]]),
        risk=_risk(path, [finding["kind"] for finding in findings]),
        secrets=[str(slots[name]) for name in ("secret", "key") if str(slots[name]) in code],
    )


def _risk(path: str, kinds: Sequence[str]) -> str:
    """The worst finding; two of the worst weigh more than one, and less is at stake in tests and examples."""
    if not kinds:
        return RISKS[0]
    weights = [WEIGHTS[kind] for kind in kinds]
    level = max(weights) + (weights.count(2) > 1) - (path.split("/")[0] in _ASIDE)
    return RISKS[level]


def _diff(rng: Random, path: str, text: Sequence[str], before: dict[str, str]) -> str:
    """A unified diff that ends in ``text``: some lines are new, some replace the harmless form they had."""
    lines: list[str] = []
    for line in text:
        old = before.get(line, "")
        changed = rng.random() < 0.5
        if changed and old and old != line:
            lines.append(f"-{old}")
        lines.append(f"{'+' if changed else ' '}{line}")
    removed, added = (sum(line[0] in marks for line in lines) for marks in (" -", " +"))
    return "\n".join([f"--- a/{path}", f"+++ b/{path}", f"@@ -1,{removed} +1,{added} @@", *lines])


def _mixed(rng: Random, size: int) -> str:
    """A password as machines make them: letters and digits, some of each."""
    letters = rng.choices(string.ascii_letters, k=size - 4) + rng.choices(string.digits, k=4)
    return "".join(rng.sample(letters, size))
