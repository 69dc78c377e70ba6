"""What kind of file a path names: infrastructure as code, configuration, a script, or code. Pure."""

from __future__ import annotations

import re
from typing import Literal

FileKind = Literal["infrastructure", "configuration", "script", "code"]

_YAML = r"\.ya?ml"
_INFRASTRUCTURE = re.compile(
    r"(?ix)"
    r"\.(tf|tfvars|hcl|nomad|bicep|dockerfile|pp|template)$ | \.(tf|tfvars)\.json$"
    r"| (^|/)(dockerfile|containerfile)([.-][\w.-]+)?$"
    rf"| (^|/)(docker-)?compose([.-][\w.-]+)?{_YAML}$"
    rf"| (^|/)(chart|kustomization|helmfile|skaffold|serverless|cloudbuild|buildspec|pulumi(\.[\w-]+)?){_YAML}$"
    rf"| (^|/)(charts?|helm)/(.+/)?(values[\w.-]*{_YAML}|templates/.+)$"
    r"| ^\.github/(workflows|actions)/.+ | (^|/)action\.ya?ml$"
    rf"| (^|/)(\.gitlab-ci|\.travis|\.drone|azure-pipelines|bitbucket-pipelines|cloudbuild|appveyor|\.appveyor){_YAML}$"
    r"| (^|/)(jenkinsfile|vagrantfile)([.-]\w+)?$ | ^\.(circleci|gitlab|buildkite|tekton)/.+\.ya?ml$"
    rf"| (^|/)(k8s|kubernetes|manifests|kustomize|overlays|argocd|argo|flux|clusters)/(.+/)?[\w.-]+{_YAML}$"
    rf"| (^|/)(playbooks?|ansible)/(.+/)?[\w.-]+{_YAML}$ | (^|/)(site|playbook[\w-]*){_YAML}$"
    rf"| (^|/)roles/[\w.-]+/(tasks|handlers|defaults|vars|meta)/.+{_YAML}$"
    r"| (^|/)(group_vars|host_vars|inventor(y|ies))(/.+|\.(ini|ya?ml))?$ | (^|/)ansible\.cfg$"
)
_CONFIGURATION = re.compile(
    r"(?ix)"
    r"\.(ya?ml|toml|ini|cfg|conf|config|cnf|properties|env|json|json5|jsonc|xml|plist|rules|service|timer|socket)$"
    r"| (^|/)\.env([.-][\w.-]+)?$ | (^|/)\.[\w-]+rc$ | (^|/)\.(gitignore|dockerignore|editorconfig|gitattributes)$"
    r"| (^|/)(caddyfile|codeowners|procfile|go\.mod|pipfile|gemfile|crontab)$ | (^|/)requirements[\w.-]*\.txt$"
    r"| (^|/)(nginx|haproxy|prometheus|alertmanager)/(.+/)?[\w.-]+\.(tmpl|j2|tpl)$"
)
_SCRIPT = re.compile(
    r"(?ix)"
    r"\.(sh|bash|zsh|fish|ksh|ps1|psm1|bat|cmd|awk|mk)$"
    rf"| (^|/)((gnu)?makefile|justfile|rakefile|earthfile|taskfile{_YAML})$"
    r"| ^(?!(.+/)?(src|lib|app|tests?)/)(.+/)?(scripts?|bin|tools?|hack|ops|runbooks?|automations?|cron(\.d)?)/(.+/)?"
    r"[\w.-]+\.(py|rb|pl|js|mjs|ts|lua|groovy)$"
    r"| ^[\w.-]+\.py$"
)
#: What a file's own first words say, where its place says too little: manifests, CloudFormation, playbooks.
_MANIFEST = re.compile(
    r"(?m)^apiVersion:\s*\S+[\s\S]*^kind:\s*\w+|^kind:\s*\w+[\s\S]*^apiVersion:|^AWSTemplateFormatVersion:"
    r"|^-\s+(?:name:[^\n]*\n\s+)?hosts:\s*\S"
)
_SHEBANG = re.compile(r"\A#!\s*\S+")
_GENERATED = re.compile(
    r"(?ix)"
    r"(^|/)(package-lock\.json|npm-shrinkwrap\.json|yarn\.lock|pnpm-lock\.yaml|go\.sum|cargo\.lock|poetry\.lock|uv\.lock"
    r"|pipfile\.lock|composer\.lock|gemfile\.lock|\.terraform\.lock\.hcl|flake\.lock|chart\.lock)$"
    r"| (^|/)(vendor|node_modules|dist|third_party|__snapshots__)/"
    r"| \.(min\.(js|css)|map|pb\.go|snap|svg|lock|sum)$ | _pb2(_grpc)?\.py$"
)


def kind_of(path: str, text: str = "") -> FileKind:
    """The kind of a file, by its place and name, else by what ``text``, some of its lines, says."""
    if _SCRIPT.search(path):
        return "script"
    if _INFRASTRUCTURE.search(path):
        return "infrastructure"
    if _CONFIGURATION.search(path):
        return "infrastructure" if _MANIFEST.search(text) else "configuration"
    return "script" if _SHEBANG.match(text) else "code"


def is_generated(path: str) -> bool:
    """Whether a tool wrote the file, so that nobody reviews it: locks, vendored and built files."""
    return bool(_GENERATED.search(path))
