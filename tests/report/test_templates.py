"""The templates: found, and strict."""

from __future__ import annotations

from pathlib import Path

import jinja2
import pytest

from auditkit.errors import AuditError
from auditkit.report import templates
from auditkit.report.rendering import embed_json, render_card
from auditkit.report.templates import find_templates


def test_a_checkout_has_its_templates_at_the_top() -> None:
    """They have one source, and it's where a reader would look."""
    folder = find_templates()
    names = {path.name for path in folder.iterdir()}
    assert {"daily.html.j2", "parts.html.j2", "card.html.j2", "report.css", "report.js"} <= names


def test_an_install_carries_them_inside_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The packaged folder is found first."""
    package = tmp_path / "site-packages" / "auditkit" / "report"
    (package / "templates").mkdir(parents=True)
    (package / "templates" / "daily.html.j2").write_text("", encoding="utf-8")
    monkeypatch.setattr(templates, "__file__", str(package / "templates.py"))
    assert find_templates() == (package / "templates").resolve()


def test_without_templates_the_error_says_where_they_were_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what to do."""
    monkeypatch.setattr(templates, "__file__", str(tmp_path / "auditkit" / "report" / "templates.py"))
    with pytest.raises(AuditError, match="install auditkit-trail again"):
        find_templates()


def test_a_value_that_isnt_given_is_an_error_and_not_a_gap() -> None:
    """A template that names something the model lacks fails in a test, not on a reader's page."""
    with pytest.raises(jinja2.UndefinedError):
        render_card({"day": "Monday"})


def test_every_template_escapes() -> None:
    """Also one whose name ends in .html.j2."""
    values = dict.fromkeys(("day", "href", "path", "tone", "sign", "headline", "events"), '"><script>')
    assert "<script>" not in render_card(values)


def test_json_in_a_script_element_can_neither_end_it_nor_open_a_comment() -> None:
    """And it is the same JSON."""
    assert embed_json('{"a": "</script><!--<script>&\u2028"}') == (
        '{"a": "\\u003c/script\\u003e\\u003c!--\\u003cscript\\u003e\\u0026\\u2028"}'
    )
