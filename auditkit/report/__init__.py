"""Reports: one self-contained HTML file that says what happened and whether the record can be believed.

A report is read from the trail (`auditkit.report.reading`), turned into a model of plain values
(`auditkit.report.sections` makes it, `auditkit.report.model` says what it is) and rendered
(`auditkit.report.rendering`); a template sees only the model.
"""

from __future__ import annotations

from auditkit.report.publishing import Report, daily

__all__ = ["Report", "daily"]
