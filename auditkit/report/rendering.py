"""From the model to one HTML file that needs nothing else and can load nothing else.

The file's Content-Security-Policy allows no request at all, and of scripts only the two whose SHA-256 it
names: ours, and plotly.js. The latter is stored compressed and unpacked by ours; as a script that is made
from text has to have one of these hashes, nothing that the file's data says can run. Styles may be inline,
because plotly.js sets them.
"""

from __future__ import annotations

import base64
import functools
import gzip
import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from auditkit.charts.theme import CONFIG, DARK, LIGHT
from auditkit.errors import require
from auditkit.report.templates import find_templates

if TYPE_CHECKING:
    from jinja2 import Environment

    from auditkit.report.model import Page

_POLICY: Final = (
    "default-src 'none'; script-src {scripts}; style-src 'unsafe-inline'; img-src data: blob:; "
    "base-uri 'none'; form-action 'none'"
)


@dataclass(frozen=True)
class Assets:
    """What a page brings along: trusted text that is never escaped.

    Attributes:
        policy: The Content-Security-Policy.
        script: Our script.
        plotly: plotly.js, gzip and Base64; empty if the page has no chart.
        themes: Both themes and the configuration of the charts, as JSON for a script element.
    """

    policy: str
    script: str
    plotly: str
    themes: str


def render_page(page: Page, template: str = "daily.html.j2") -> str:
    """Render a report.

    Args:
        page: Its model.
        template: Name of the template.

    Returns:
        The HTML file's text.

    Raises:
        ExtraMissing: If jinja2 or plotly isn't installed.
        AuditError: If the templates aren't there.
    """
    charts = any(section.charts for section in page.sections)
    rendered: str = _open_templates().get_template(template).render(page=page, assets=_pack_assets(charts=charts))
    return rendered


def render_card(values: dict[str, str]) -> str:
    """Render the short form of a report that a notebook shows.

    Args:
        values: The texts of the card.

    Returns:
        A fragment of HTML.
    """
    rendered: str = _open_templates().get_template("card.html.j2").render(values)
    return rendered


def embed_json(text: str) -> str:
    """Return JSON that can stand in a script element, whatever it holds.

    Args:
        text: JSON.

    Returns:
        The same JSON, without the characters that could end the element or open a comment.

    Example:
        >>> embed_json('{"name": "</script><!--"}')
        '{"name": "\\\\u003c/script\\\\u003e\\\\u003c!--"}'
    """
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


@functools.cache
def _open_templates() -> Environment:
    jinja2 = require("jinja2", "report")
    # Autoescape for every name: the default looks at the suffix, and would take .html.j2 for plain text.
    environment: Environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(find_templates()),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["embed_json"] = _mark_json
    return environment


def _mark_json(text: str) -> Any:
    # What HTML could read in it is gone, so it isn't escaped a second time.
    return require("markupsafe", "report").Markup(embed_json(text))


def _pack_assets(*, charts: bool) -> Assets:
    script = (find_templates() / "report.js").read_text(encoding="utf-8")
    library = _pack_plotly() if charts else ("", "")
    hashes = [_hash_script(script), *([library[1]] if charts else [])]
    themes = json.dumps({"light": LIGHT, "dark": DARK, "config": CONFIG})
    policy = _POLICY.format(scripts=" ".join(f"'{value}'" for value in hashes))
    return Assets(policy, script, library[0], themes)


@functools.cache
def _pack_plotly() -> tuple[str, str]:
    """Return plotly.js compressed, and its hash as the policy names it."""
    source: str = require("plotly.offline", "report").get_plotlyjs()
    packed = gzip.compress(source.encode(), compresslevel=9, mtime=0)
    return base64.b64encode(packed).decode("ascii"), _hash_script(source)


def _hash_script(source: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode('ascii')}"
