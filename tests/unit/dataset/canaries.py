"""What no dataset may hold: a secret or personal datum of every kind, each as it stands in real texts.

Built at run time, so that no scanner takes this file for a leak.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from random import Random

R = Random(11)
UPPER, LOWER, DIGITS = "ABCDEFGHJKLMNPQRSTUVWXYZ", "abcdefghijkmnopqrstuvwxyz", "23456789"
NAMES = ["Grace Hopper", "José Núñez", "Li"]


def token(length: int, letters: str = UPPER + LOWER + DIGITS) -> str:
    """Random, with a letter of each case where there are some, and a digit."""
    parts = [R.choice(group) for group in (UPPER, LOWER, DIGITS) if group[0] in letters]
    return "".join([*parts, *R.choices(letters, k=length - len(parts))])


def hexadecimal(length: int) -> str:
    return "a1" + "".join(R.choices("0123456789abcdef", k=length - 2))


def encoded(length: int) -> str:
    return base64.b64encode(token(length).encode()).decode()


@dataclass(frozen=True)
class Canary:
    """``parts`` are what must be gone; ``text`` is how they stand in a text."""

    kind: str
    text: str
    parts: tuple[str, ...]


def canary(kind: str, frame: str, *secrets: str) -> Canary:
    return Canary(kind, frame.format(*secrets), secrets)


PEM = [token(64) for _ in range(5)]
_JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6InN2YyJ9."
_LONG = token(120)
CANARIES = [
    # cloud keys and tokens that carry their kind
    canary("aws-key", "used {} today", "AKIA" + token(16, UPPER + DIGITS)),
    canary("aws-key", "{},{}", "ASIA" + token(16, UPPER + DIGITS), token(40)),
    canary("azure-key", "DefaultEndpointsProtocol=https;AccountName=shop;AccountKey={}==;EndpointSuffix=x", token(86)),
    canary("google-key", "maps {}", "AIza" + token(35)),
    canary("google-key", "gcloud said {}", "ya29." + token(60)),
    canary("google-key", "oauth {}", "GOCSPX-" + token(28)),
    canary("cloud-token", "doctl {}", "dop_v1_" + hexadecimal(64)),
    canary("cloud-token", "databricks {}", "dapi" + hexadecimal(32)),
    canary("cloud-token", "terraform {}", token(14) + ".atlasv1." + token(67)),
    canary("github-token", "cloned with {}", "ghp_" + token(36)),
    canary("github-token", "pushed by {}", "github_pat_" + token(50)),
    canary("gitlab-token", "runner {} registered", "glpat-" + token(20)),
    canary("slack-token", "posting with {}", "xoxb-123456789012-" + token(24, LOWER + DIGITS)),
    canary("stripe-key", "charge {}", "sk_live_" + token(24)),
    canary("stripe-key", "verify {}", "whsec_" + token(32)),
    canary("llm-key", "model {}", "sk-proj-" + token(48)),
    canary("llm-key", "hub {}", "hf_" + token(34)),
    canary("vault-token", "login {}", "hvs." + token(24)),
    canary("npm-token", "publish {}", "npm_" + token(36)),
    canary("pypi-token", "twine {}", "pypi-AgEIcHlwaS5vcmc" + token(80)),
    canary("docker-token", "pull {}", "dckr_pat_" + token(27)),
    canary("grafana-token", "dashboards {}", "glsa_" + token(32) + "_" + hexadecimal(8)),
    canary("newrelic-key", "agent {}", "NRAK-" + token(27, UPPER + DIGITS)),
    canary("linear-key", "issues {}", "lin_api_" + token(40)),
    canary("atlassian-token", "jira {}", "ATATT3" + token(180)),
    canary("sentry-token", "release {}", "sntrys_" + token(60)),
    canary("sendgrid-key", "mail {}", f"SG.{token(22)}.{token(43)}"),
    canary("telegram-token", "bot 123456789:{}", "AA" + token(33)),
    canary("discord-token", "bot {}", f"M{token(23)}.{token(6)}.{token(27)}"),
    canary("twilio-key", "sms {}", "SK" + hexadecimal(32)),
    canary("age-key", "sops {}", "AGE-SECRET-KEY-1" + token(58, UPPER + DIGITS)),
    # JWT and private keys, whole and broken
    canary("jwt", "session {}{}", _JWT, token(43)),
    canary("private-key", "-----BEGIN RSA PRIVATE KEY-----\n{}\n{}\n{}\n-----END RSA PRIVATE KEY-----", *PEM[:3]),
    canary("private-key", "-----BEGIN PRIVATE KEY-----\\n{}\\n{}\\n-----END PRIVATE KEY-----\\n", *PEM[:2]),
    canary("private-key", "cut off -----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\n{}\n{}", *PEM[:2]),
    canary("private-key", "cut off\n{}\n{}\n-----END OPENSSH PRIVATE KEY-----", *PEM[:2]),
    # in URLs
    canary("url-password", "postgres://app:{}@db.internal:5432/orders refused", "s3cr!t$Pa@ss"),
    canary("url-password", "redis://:{}@cache/0", "pl/ain9word"),
    canary("url-password", "git clone https://{}@git.internal/shop.git", hexadecimal(40)),
    canary("url-password", "jdbc:oracle:thin:scott/{}@//ora/XE", "t1ger-t1ger"),
    canary("credential", "jdbc:postgresql://db/orders?user=app&password={}&ssl=true", "Qu3ry,par;am"),
    canary("credential", "Server=tcp:sql,1433;User ID=app;Password={};Encrypt=True", "C0nn&string"),
    canary("credential", "Endpoint=sb://bus/;SharedAccessKeyName=root;SharedAccessKey={}=", token(43)),
    canary("slack-token", "post to {}", f"https://hooks.slack.com/services/T{token(8)}/B{token(8)}/{token(24)}"),
    canary("webhook-url", "https://discord.com/api/webhooks/123456789012345678/{}", token(68)),
    canary("webhook-url", "https://shop.webhook.office.com/webhookb2/{}", f"{hexadecimal(32)}/IncomingWebhook/x"),
    canary("credential", "https://acc.blob.net/c?sv=2024&sig={}", token(43) + "%3D"),
    # headers and command lines
    canary("authorization", "curl -H 'Authorization: Bearer {}'", token(40)),
    canary("authorization", '{{"Authorization": "GenieKey {}"}}', hexadecimal(32)),
    canary("basic-auth", "header Basic {}", "ZGVwbG95Omh1bnRlcjIhIQ=="),
    canary("cookie", "Set-Cookie: sid={}; Path=/; HttpOnly", token(32)),
    canary("credential", "X-Api-Key: {}", token(32)),
    canary("credential", "curl -u deploy:{} https://ci", "Tr0ub4dor&3"),
    canary("credential", "sshpass -p {} ssh app@db", "Sn0wfl4ke!"),
    canary("credential", "mysqldump -u root -p{} shop", "D3mp-all!"),
    canary("credential", "deploy --db-password {} --wait", "Fl4gged!x"),
    canary("credential", "ENV SMTP_PASSWORD {}", "M4iler!!x"),
    # assignments
    canary("credential", "PGPASSWORD={} psql", "hunter2-Zq"),
    canary("credential", "DB_PASS={}", "kitten77!"),
    canary("credential", '{{"db_password": "{}"}}', "correct horse 9 battery"),
    canary("credential", '{{\\"password\\":\\"{}\\"}}', "esc4ped-Json"),
    canary("credential", 'password = "{}"', "it's 4 qu0te"),
    canary("credential", "ROUTING_KEY={}", hexadecimal(32)),
    canary("credential", "jwtSecret: {}", token(32)),
    canary("credential", "aws_session_token={}", token(200)),
    canary("credential", "**Password:** `{}`", "m4rkd0wn-pw"),
    canary("credential", "the password is {}.", "spok3n-Word"),
    canary("credential", "password: |\n  {}\nuser: app", "bl0ck-Scalar"),
    canary("credential", "export API_TOKEN=\\\n  {}", "c0ntinued-Pw9"),
    canary("credential", "env:\n- name: DB_PASSWORD\n  value: {}", "fr0m-the-Env"),
    canary("password-hash", "root:{}:19000:0:99999", "$6$" + token(16) + "$" + token(86)),
    canary("kubernetes-secret", "apiVersion: v1\nkind: Secret\nmetadata:\n  name: db\ndata:\n  user: {}\n  pw: {}\n",
           encoded(12), encoded(15)),
    canary("kubernetes-secret", '{{"kind": "Secret", "data": {{"user": "{}", "pw": "{}"}}}}', encoded(12), encoded(15)),
    canary("kubernetes-secret", "+kind: Secret\n+stringData:\n+  login: |\n+    {}\n+type: Opaque", "pl4in-login-Text"),
    # as people's editors, chats and terminals leave them
    canary("credential", "password:\u00a0{}", "n0n-breaking-Sp"),
    canary("credential", "password: \u201c{}\u201d", "curly-Qu0tes"),
    canary("credential", "password：{}", "full-W1dth"),
    canary("credential", "password={}", "pässwörd-9ß"),
    Canary("github-token", "copied ghp_" + "\u200b".join(_LONG[n : n + 9] for n in range(0, 36, 9)), (_LONG[:9],)),
    Canary("jwt", f"wrapped {_JWT}{PEM[3][:30]}\n{PEM[4][:40]} end", (PEM[3][:30], PEM[4][:40])),
    # people and addresses
    canary("email", "reported by {}", "ada.lovelace+ops@corp.example.com"),
    canary("email", "reported by {}", "jörg.müller@bücher.example"),
    canary("email", "GET /users?mail={}", "charles%40corp.example.com"),
    canary("ip-address", "from {}:9100", "10.3.97.119"),
    canary("ip-address", "range {}-{}", "192.168.7.9", "192.168.7.77"),
    canary("ip-address", "from {}, twice", "8.8.4.4"),
    canary("ip-address", "from [{}]:443", "2a00:1450:4001:81b::200e"),
    canary("ip-address", "pod {} gone", "fd12:3456:789a:1::7"),
    canary("ip-address", "node {}.eu.compute.internal", "ip-10-3-97-119"),
    canary("name", "{} acknowledged", "Grace Hopper"),
    canary("name", "paged {} twice", "grace.hopper"),
    canary("name", "asked Grace\n{}", "Hopper"),
    canary("name", "asked {}", "Jose\u0301 Nu\u0301n\u0303ez"),
    canary("name", "asked {}", "JOSÉ NÚÑEZ"),
]  # fmt: skip
