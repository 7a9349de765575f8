"""Analysis: events frames in, small mergeable summaries, tidy frames out. Knows no store.

Every module has one ``summarise(frame, ...)``, whose result adds up: the summary of two frames is the sum of
their summaries, whatever the split and the order. So the same code serves a frame in a notebook and a trail
that is streamed piece by piece in bounded memory.

========  ==================================================================================
activity  how many events and failures, by any columns and any time bucket in any time zone
latency   how long operations took: exact percentiles with their n
failures  what failed, how often, since when, whom it touched, with a sample
========  ==================================================================================
"""

from __future__ import annotations

from auditkit.errors import require

# Here, since every module of the package works on frames, and Python runs this before any of them.
require("pandas", "analysis")
