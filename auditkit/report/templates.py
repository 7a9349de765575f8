"""Where the templates are, in an install and in a checkout."""

from __future__ import annotations

from pathlib import Path

from auditkit.errors import AuditError


def find_templates() -> Path:
    """Return the folder of the report templates.

    An installed package carries them as ``auditkit/report/templates``. A checkout keeps them in
    ``reports/templates`` at its top, which is their only source.

    Returns:
        The folder.

    Raises:
        AuditError: If neither is there.

    Example:
        >>> (find_templates() / "daily.html.j2").is_file()
        True
    """
    here = Path(__file__).resolve().parent
    installed, checkout = here / "templates", here.parents[1] / "reports" / "templates"
    for folder in (installed, checkout):
        if (folder / "daily.html.j2").is_file():
            return folder
    raise AuditError(
        f"expected the report templates in {installed} (an install) or {checkout} (a checkout), found "
        "neither: install auditkit-trail again"
    )
