"""The demo: a believable week of a sales automation, really recorded by several processes.

===========  ==============================================================================================
scenario     what happens when, made from a seed; pure
services     the CRM, the mail server and the scoring that the automation talks to; their failures are real
worker       one process: plays its part of the scenario and records it
folder       the demo's folder, marked, so that a new demo replaces only what an older one made
recorder     all of it together: record, seal, verify, count, render
===========  ==============================================================================================
"""

from __future__ import annotations
