"""Our reading of Go templates beside Go's own, for every family and every awkward chat."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from opstune.export.gotemplate import render
from opstune.export.modelfile import families

PROGRAM = """package main

import (
	"encoding/json"
	"os"
	"strings"
	"text/template"
)

type Message struct{ Role, Content string }
type Case struct {
	Template string
	Messages []*Message
}

func main() {
	var cases []Case
	if err := json.NewDecoder(os.Stdin).Decode(&cases); err != nil {
		panic(err)
	}
	told := []string{}
	for _, one := range cases {
		var out strings.Builder
		parsed := template.Must(template.New("").Parse(one.Template))
		if err := parsed.Execute(&out, map[string]any{"Messages": one.Messages}); err != nil {
			panic(err)
		}
		told = append(told, out.String())
	}
	json.NewEncoder(os.Stdout).Encode(told)
}
"""
CHATS = [
    [("system", "s"), ("user", " one\n two ")],
    [("system", "s"), ("user", "a"), ("assistant", "{}"), ("user", "b")],
    [("user", "{{ .Role }}"), ("assistant", "")],
    [],
]
TEMPLATES = [
    *(family.template for family in families("<|endoftext|>")),
    "x \n {{- range .Messages -}} \n {{ .Role }} {{ end -}} \n y",
    "{{ $x := `q` }}{{ range .Messages }}{{ $x := .Role }}{{ end }}{{ $x }}",
    '{{ range .Messages }}{{ if and (eq .Role "user" "system") (not false) }}U{{ else if ne .Content "{}" }}A'
    '{{ else }}E{{ end }}{{ else }}{{ "none\\n" }}{{ end }}',
]


@pytest.fixture(scope="module")
def go(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("go")
    if not compiler:
        pytest.skip("Go is not installed; tests/unit/export/test_gotemplate.py holds what it said")
    folder = tmp_path_factory.mktemp("go")
    (folder / "main.go").write_text(PROGRAM)
    environment = {**os.environ, "GO111MODULE": "off", "GOCACHE": str(folder / "cache"), "GOFLAGS": ""}
    command = [compiler, "build", "-o", str(folder / "render"), str(folder / "main.go")]
    subprocess.run(command, env=environment, check=True, timeout=300)
    return folder / "render"


def test_every_template_is_rendered_as_go_renders_it(go: Path) -> None:
    cases = [
        {"Template": template, "Messages": [{"Role": role, "Content": content} for role, content in chat]}
        for template in TEMPLATES
        for chat in CHATS
    ]
    told = subprocess.run([go], input=json.dumps(cases), capture_output=True, text=True, check=True, timeout=60)
    assert [render(str(case["Template"]), case) for case in cases] == json.loads(told.stdout)
