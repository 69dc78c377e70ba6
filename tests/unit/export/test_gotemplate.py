"""Go templates as Go's text/template renders them: each row was seen with Go 1.19, and tests/services asks it again."""

from __future__ import annotations

import pytest

from opstune.errors import ExportError
from opstune.export.gotemplate import render

DATA = {"Messages": [{"Role": "user", "Content": " a\n"}, {"Role": "assistant", "Content": "{}"}]}

RENDERED = [
    ("{{ range .Messages }}{{ .Role }}:{{ .Content }};{{ end }}", "user: a\n;assistant:{};"),
    ("x \n {{- range .Messages -}} \n {{ .Role }} {{ end -}} \n y", "xuser assistant y"),
    (
        '{{ range .Messages }}{{ if eq .Role "user" "system" }}U{{ else if ne .Content "{}" }}A{{ else }}E{{ end }}'
        "{{ end }}",
        "UE",
    ),
    (
        "{{ $seen := false }}{{ range .Messages }}{{ if not $seen }}1{{ end }}{{ $seen = true }}{{ end }}{{ $seen }}",
        "1true",
    ),
    ("{{ $x := `q` }}{{ range .Messages }}{{ $x := .Role }}{{ end }}{{ $x }}", "q"),
    ('{{ range .Messages }}{{ if and (eq .Role "user") (not false) }}both{{ end }}{{ end }}', "both"),
    ('{{ if or false .Messages }}some{{ end }}{{ "a\\n\\"b\\"" }}', 'somea\n"b"'),
    ("{{ range .Messages }}{{ else }}none{{ end }}", ""),
]


@pytest.mark.parametrize(("template", "expected"), RENDERED)
def test_what_is_known_is_rendered_as_go_renders_it(template: str, expected: str) -> None:
    assert render(template, DATA) == expected


def test_a_message_is_never_read_as_a_template() -> None:
    data = {"Messages": [{"Role": "user", "Content": "{{ .Role }}{{ end }}"}]}
    assert render("{{ range .Messages }}{{ .Content }}{{ end }}", data) == "{{ .Role }}{{ end }}"


UNKNOWN = [
    ("{{ range .Messages }}", "range .Messages without its end"),
    ("{{ end }}", "end without its beginning"),
    ("{{ .Response }}", "the field Response"),
    ("{{ $x }}", r"the variable \$x"),
    ("{{ len .Messages }}", "len"),
    ("{{ .Messages | len }}", r"\|"),
    ("{{ range $i, $m := .Messages }}{{ end }}", r"the variable \$i"),
    ("a {{ .Messages", "an action that does not end"),
    ("{{ eq }}", "eq"),
    ("{{- /* a comment */ -}}", "/"),
]


@pytest.mark.parametrize(("template", "words"), UNKNOWN)
def test_what_is_not_known_is_refused_and_named(template: str, words: str) -> None:
    with pytest.raises(ExportError, match=f"holds what cannot be checked: .*(?:{words})"):
        render(template, DATA)
