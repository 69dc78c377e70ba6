from __future__ import annotations

import pytest

from opstune.collect.merges.file_kinds import is_generated, kind_of

INFRASTRUCTURE = """
main.tf
modules/vpc/variables.tf
prod.tfvars
prod.tfvars.json
live/prod/terragrunt.hcl
Dockerfile
docker/Dockerfile.prod
images/api.dockerfile
docker-compose.yml
deploy/docker-compose.override.yaml
compose.yaml
charts/api/Chart.yaml
charts/api/values-prod.yaml
charts/api/templates/deployment.yaml
charts/api/templates/_helpers.tpl
helm/api/templates/ingress.yaml
overlays/prod/kustomization.yaml
k8s/deployment.yaml
deploy/kubernetes/rbac.yml
clusters/prod/flux-system/gotk-sync.yaml
argocd/apps/api.yaml
.github/workflows/release.yml
.github/actions/setup/action.yml
action.yml
.gitlab-ci.yml
.circleci/config.yml
azure-pipelines.yml
Jenkinsfile
Jenkinsfile.release
playbooks/site.yml
site.yml
roles/nginx/tasks/main.yml
group_vars/all.yml
host_vars/db-1.yml
inventory/hosts.ini
inventory.ini
ansible.cfg
Vagrantfile
infra/main.bicep
job.nomad
serverless.yml
Pulumi.prod.yaml
stack.template
"""
CONFIGURATION = """
config/app.yaml
prometheus/rules.yml
alerts.rules
settings.toml
setup.cfg
etc/nginx/nginx.conf
my.cnf
.env
.env.production
deploy/.env.example
config.json
tsconfig.json
logback.xml
app.properties
.eslintrc
.editorconfig
CODEOWNERS
Caddyfile
requirements-dev.txt
go.mod
systemd/api.service
prometheus/alertmanager.tmpl
"""
SCRIPTS = """
deploy.sh
scripts/rotate_logs.py
tools/cleanup.rb
bin/migrate.js
Makefile
build/rules.mk
justfile
Taskfile.yml
ops/windows/restart.ps1
run.bat
runbooks/drain.py
conftest.py
infra/scripts/plan.ts
"""
CODE = """
src/app/main.py
lib/scripts/runner.py
src/ops/matmul.py
app/jobs/mailer.rb
src/hooks/useThing.ts
pkg/server/server.go
web/index.html
README.md
db/migrations/0001.sql
kubernetes/client.go
tests/tools/test_x.py
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        (path, kind)
        for paths, kind in (
            (INFRASTRUCTURE, "infrastructure"),
            (CONFIGURATION, "configuration"),
            (SCRIPTS, "script"),
            (CODE, "code"),
        )
        for path in paths.split()
    ],
)
def test_the_kind_of_a_file_is_told_by_its_path(path: str, kind: str) -> None:
    assert kind_of(path) == kind


@pytest.mark.parametrize(
    ("path", "text", "kind"),
    [
        ("prod/api.yaml", "apiVersion: apps/v1\nkind: Deployment\nspec: {}", "infrastructure"),
        ("prod/api.yaml", "kind: Role\nmetadata: {}\napiVersion: rbac.authorization.k8s.io/v1", "infrastructure"),
        ("stack.yaml", "AWSTemplateFormatVersion: '2010-09-09'", "infrastructure"),
        ("setup.yml", "- name: set up\n  hosts: all", "infrastructure"),
        ("app.yaml", "kind: of\nthing: 1", "configuration"),
        ("deploy", "#!/usr/bin/env python3\nprint(1)", "script"),
        ("deploy", "no shebang", "code"),
    ],
)
def test_where_the_path_says_too_little_the_text_tells(path: str, text: str, kind: str) -> None:
    assert kind_of(path, text) == kind


@pytest.mark.parametrize(
    ("path", "generated"),
    [
        ("web/package-lock.json", True),
        ("go.sum", True),
        (".terraform.lock.hcl", True),
        ("vendor/lib/a.go", True),
        ("api/v1/api_pb2.py", True),
        ("static/app.min.js", True),
        ("web/package.json", False),
        ("distribution/app.py", False),
        ("locks/lock.go", False),
    ],
)
def test_files_that_tools_write_are_known(path: str, generated: bool) -> None:
    assert is_generated(path) is generated
