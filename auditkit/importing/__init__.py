"""Importing: events from files that other programs wrote.

>>> from auditkit.importing import Mapping, import_file
>>> mapping = Mapping(time="created_at", tz="Europe/Berlin", type="order.{kind}", actor="user.email")

`import_file` and `import_files` record the rows of JSON Lines, JSON, CSV and Parquet files. A `Mapping` says
which field becomes which column; `find_mapping` has ready-made ones, and `load_mapping` reads a TOML file.
The rest of a row goes into the event's details; a row that can't be an event goes to the rejects.
"""

from __future__ import annotations

from auditkit.importing.catalogue import find_mapping, mapping_names
from auditkit.importing.history import Sink
from auditkit.importing.imports import ImportResult, check_files, import_file, import_files
from auditkit.importing.mapping import Mapping, load_mapping
from auditkit.importing.reading import Reading
from auditkit.importing.rejects import Reject

__all__ = [
    "ImportResult",
    "Mapping",
    "Reading",
    "Reject",
    "Sink",
    "check_files",
    "find_mapping",
    "import_file",
    "import_files",
    "load_mapping",
    "mapping_names",
]
