"""The first events of sealed writers: their details say which key a writer signs with, and their MACs prove it."""

from __future__ import annotations

from auditkit.errors import StoreDamaged
from auditkit.store import segments
from auditkit.store.layout import Layout
from auditkit.store.ledger import LedgerState


class Openings:
    """Finds the first events of writers in the segments that hold them, and reads each segment once.

    A process that was sealed several times has its first event in an old segment, which a hundred others may share.

    Args:
        layout: The store's paths.
        state: The ledger's state.
    """

    def __init__(self, layout: Layout, state: LedgerState) -> None:
        self._layout = layout
        self._paths = {
            run.writer: entry.path for entry in state.segments.values() for run in entry.runs if run.first == 0
        }
        self._store = state.store
        self._read: dict[str, dict[str, bytes]] = {}

    def find(self, writer: str) -> bytes | None:
        """Give the line of a writer's first event, None if it isn't sealed or can't be read.

        What stands in a segment isn't checked here: who uses it believes it once a MAC holds under the key it names.
        """
        name = self._paths.get(writer)
        if name is None:
            return None
        if name not in self._read:
            path = segments.locate_segment(self._layout, name)
            try:
                self._read[name] = {} if path is None else segments.read_openings(path, self._store)
            except (StoreDamaged, OSError):
                self._read[name] = {}  # the damage is reported where that segment itself is checked
        return self._read[name].get(writer)
