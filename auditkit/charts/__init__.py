"""Charts: an analysis' frame in, a plotly figure out. One file for each analysis, with the same name.

A chart draws summaries and never raw events, so its size doesn't grow with the trail: no figure carries more
than `auditkit.charts.theme.MAX_POINTS` points. Texts of events are hostile: every label goes through
`auditkit.charts.text.make_label`, as plotly reads a part of HTML in them.
"""
