"""Reports: one self-contained HTML file that says what happened and whether the record can be believed.

A report is read from the trail (`auditkit.report.reading`), turned into a model of plain values
(`auditkit.report.sections` makes it, `auditkit.report.model` says what it is) and rendered
(`auditkit.report.rendering`); a template sees only the model.
"""

from __future__ import annotations

from auditkit.errors import require

# Before the modules below, whose own imports would name the smaller extra that isn't enough for a report.
require("pandas", "report")

from auditkit.report.publishing import Report, daily  # noqa: E402 - see above

__all__ = ["Report", "daily"]
