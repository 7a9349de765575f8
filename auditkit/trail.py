"""AuditTrail: the reading face of auditkit. Reading never needs a running writer."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, tzinfo
from functools import reduce
from html import escape
from numbers import Integral
from operator import add
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from auditkit import times
from auditkit.errors import KeyProblem, StoreError, StoreMissing, UsageError, require
from auditkit.keys import GivenKey, Keys
from auditkit.scan import (
    COLUMNS,
    Query,
    Snapshot,
    count_events,
    count_groups,
    make_query,
    make_value,
    scan_events,
    stream_events,
    take_snapshot,
)
from auditkit.store.description import choose_path, read_description
from auditkit.store.keyring import find_keys
from auditkit.store.layout import Layout
from auditkit.store.ledger import LedgerState, load_state
from auditkit.store.outputs import choose_output

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from auditkit.anchoring.publication import Publication
    from auditkit.anchoring.timestamps import Timestamp
    from auditkit.integrity import Verification
    from auditkit.proof import ConsistencyProof
    from auditkit.receipts import Receipt
    from auditkit.sealing import SealResult
    from auditkit.view import View

Moment = datetime | date | str
"""A time: an aware datetime, a date, or text such as ``24h``, ``7d``, ``2026-11-23``."""

Choice = str | Sequence[str]
"""One value or several."""

_TYPES_SHOWN: Final = 20
"""Types that a notebook shows of a trail; there may be as many as events."""


def open(  # noqa: A001 - auditkit.open, as gzip.open and tarfile.open
    path: str | os.PathLike[str] | None = None,
    secret_key: str | bytes | None = None,
    key_file: str | os.PathLike[str] | None = None,
) -> AuditTrail:
    """Open the audit trail of a store for reading.

    Args:
        path: The store's folder; default ``$AUDITKIT_STORE``, else ``./audit``.
        secret_key: The application's own secret, if the store was made with one; only `AuditTrail.verify` needs it.
        key_file: Where the key file lies, if not in the platform's place.

    Returns:
        The trail.

    Raises:
        UsageError: If the path isn't one, the secret is too short, or a secret and a key file are given together.
        StoreMissing: If there is no store.
        StoreDamaged: If ``store.json`` can't be believed.
        FormatUnknown: If a newer auditkit wrote the store.

    Example:
        >>> import auditkit, tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> with auditkit.AuditLogger(folder.name, secret_key="an example's secret") as audit:
        ...     _ = audit.log_event("invoice.paid", {"amount": 120}, actor="ana")
        >>> trail = auditkit.open(folder.name, secret_key="an example's secret")
        >>> trail.events(columns=["type", "actor"]).to_dict("records")
        [{'type': 'invoice.paid', 'actor': 'ana'}]
        >>> trail.verify().ok
        True
        >>> folder.cleanup()
    """
    # Absolute: with the working directory the store would change to another, or to none.
    layout = Layout(choose_path(path).absolute())
    return AuditTrail(layout, secret_key=secret_key, key_file=key_file)


class AuditTrail:
    """The events of one store, sealed or still in a journal.

    Made by `auditkit.open`. Every call sees the store as it is at that moment.
    """

    def __init__(
        self,
        layout: Layout,
        *,
        secret_key: str | bytes | None = None,
        key_file: str | os.PathLike[str] | None = None,
        keys: Keys | None = None,
    ) -> None:
        self._layout = layout
        self._description = read_description(layout)
        if secret_key is not None and key_file is not None:
            raise UsageError("expected secret_key= or key_file=, found both: give one")
        # Wrapped at once: what shows or copies a trail's attributes doesn't get at the secret.
        self._secret = None if secret_key is None else GivenKey(secret_key)
        self._key_file = key_file
        self._keys = keys
        self._state: LedgerState | None = None
        self.path = layout.root
        self.store_id = self._description.store

    # -- events -------------------------------------------------------------------------------------------------------

    def events(
        self,
        type: Choice | None = None,
        actor: Choice | None = None,
        lead_id: Choice | None = None,
        workflow: Choice | None = None,
        outcome: Choice | None = None,
        operation: Choice | None = None,
        since: Moment | None = None,
        until: Moment | None = None,
        columns: Sequence[str] | None = None,
        limit: int | None = None,
        *,
        newest: bool = False,
        include_internal: bool = False,
        tz: tzinfo | str = "UTC",
    ) -> pd.DataFrame:
        """Give the events that match as a DataFrame, ordered by time.

        Args:
            type: One type or several; naming one of ``auditkit.…`` finds the toolkit's own events. Here and in the
                other filters, what isn't text becomes text as it did when it was recorded.
            actor: One actor or several.
            lead_id: One lead or several.
            workflow: One workflow or several.
            outcome: One outcome or several, for instance ``"failure"``.
            operation: One operation or several.
            since: Earliest time, included: an aware datetime, a date, or ``"24h"``, ``"7d"``, ``"2026-11-23"``.
            until: First time that is too late; a date means the end of that day.
            columns: Which columns; default all: ``id, time (UTC), type, actor, lead_id, workflow, outcome, operation,
                duration_us (microseconds), error_type, message, traceback, details (JSON text), writer, seq``.
            limit: At most so many events, the earliest ones; `auditkit query --limit` keeps the latest.
            newest: Whether a limit keeps the latest ones instead.
            include_internal: Whether the toolkit's own events (``auditkit.opened`` …) are given too.
            tz: Zone in which days without a zone are meant.

        Returns:
            One row an event. ``attrs["range"]`` says what ``since`` and ``until`` were taken for, in UTC.

        Raises:
            UsageError: If a filter, a time or a column can't be meant.
            StoreDamaged: If a segment or the ledger can't be read: an incomplete answer is never given as a whole one.
        """
        chosen = _check_columns(columns)
        _check_limit(limit)
        query = self._make_query(
            since, until, tz, include_internal, type=type, actor=actor, lead_id=lead_id, workflow=workflow,
            outcome=outcome, operation=operation,
        )  # fmt: skip
        snapshot = self._take_snapshot(query)
        frame = _to_frame(scan_events(snapshot, query, chosen, limit=limit, newest=newest))
        span = (None if us is None else times.from_us(us) for us in (query.since_us, query.until_us))
        frame.attrs["range"] = str(times.TimeRange(*span))
        return frame

    def stream(
        self,
        type: Choice | None = None,
        actor: Choice | None = None,
        lead_id: Choice | None = None,
        workflow: Choice | None = None,
        outcome: Choice | None = None,
        operation: Choice | None = None,
        since: Moment | None = None,
        until: Moment | None = None,
        columns: Sequence[str] | None = None,
        *,
        batch_rows: int = 65_536,
        include_internal: bool = False,
        ordered: bool = True,
        tz: tzinfo | str = "UTC",
    ) -> Iterator[pd.DataFrame]:
        """Give the events that match in pieces, ordered by time, with at most one UTC date in memory.

        Args:
            type: And the other filters, ``since``, ``until``, ``columns``: as in `events`.
            actor: See `events`.
            lead_id: See `events`.
            workflow: See `events`.
            outcome: See `events`.
            operation: See `events`.
            since: See `events`.
            until: See `events`.
            columns: See `events`.
            batch_rows: How many rows a piece has at most.
            include_internal: See `events`.
            ordered: False is faster, for sums that don't care.
            tz: See `events`.

        Returns:
            DataFrames with the columns that were asked for; none if nothing matches. They are those of the moment of
            the call.

        Raises:
            UsageError: If a filter, a time, a column or the number of rows can't be meant.
            StoreDamaged: As in `events`, at the call; while the pieces are taken only if the damage is done then.
        """
        chosen = _check_columns(columns)
        if not _is_count(batch_rows) or batch_rows < 1:
            raise UsageError(f"expected batch_rows of 1 or more, found {batch_rows!r:.100}")
        query = self._make_query(
            since, until, tz, include_internal, type=type, actor=actor, lead_id=lead_id, workflow=workflow,
            outcome=outcome, operation=operation,
        )  # fmt: skip
        snapshot = self._take_snapshot(query)
        return map(_to_frame, stream_events(snapshot, query, chosen, rows=batch_rows, ordered=ordered))

    def count(
        self,
        type: Choice | None = None,
        actor: Choice | None = None,
        lead_id: Choice | None = None,
        workflow: Choice | None = None,
        outcome: Choice | None = None,
        operation: Choice | None = None,
        since: Moment | None = None,
        until: Moment | None = None,
        *,
        include_internal: bool = False,
        tz: tzinfo | str = "UTC",
    ) -> int:
        """Count the events that match; the filters are those of `events`."""
        query = self._make_query(
            since, until, tz, include_internal, type=type, actor=actor, lead_id=lead_id, workflow=workflow,
            outcome=outcome, operation=operation,
        )  # fmt: skip
        return count_events(self._take_snapshot(query), query)

    def lead(self, lead_id: str) -> pd.DataFrame:
        """Give everything that happened to a lead, ordered by time, in the columns of `events`.

        Args:
            lead_id: The lead; what isn't text becomes text as it did when it was recorded.

        Raises:
            UsageError: If it is missing: no lead isn't every lead.
        """
        return self.events(lead_id=make_value("lead_id", lead_id))

    def days(self) -> list[date]:
        """List the UTC dates that have events, those of the toolkit included."""
        return self._take_snapshot(None).list_days()

    # -- results ------------------------------------------------------------------------------------------------------

    def statistics(
        self, workflow: Choice | None = None, since: Moment | None = None, until: Moment | None = None
    ) -> View:
        """Count events by type.

        Args:
            workflow: One workflow or several; default all.
            since: Earliest time; see `events`.
            until: First time that is too late; see `events`.

        Returns:
            A view whose ``frame`` has a row a type: the number of events and failures, leads and actors, the first and
            the last time.
        """
        from auditkit.charts.activity import draw_types
        from auditkit.view import View

        span = times.parse_range(since, until)
        query = make_query(span.since_us, span.until_us, workflow=workflow)
        counted = count_groups(self._take_snapshot(query), query, ["type"], ["lead_id", "actor"])
        frame = _to_frame(counted).rename(columns={"lead_id": "leads", "actor": "actors"})
        arguments = {"workflow": workflow, "since": since, "until": until}
        return View(
            frame,
            "Events by type",
            draw_types,
            python=self._say_python("statistics", **arguments),
            cli=self._say_cli("stats", **arguments),
            note=_say_range(span),
        )

    def errors(self, since: Moment | None = None, until: Moment | None = None, limit: int | None = None) -> View:
        """Break failures down by error type, operation and workflow, the most frequent first.

        Args:
            since: Earliest time; see `events`.
            until: First time that is too late; see `events`.
            limit: At most so many groups.

        Returns:
            A view whose ``frame`` has a row a group: how many, leads and actors concerned, first and last time, and a
            sample message and traceback.
        """
        from auditkit.analysis import failures
        from auditkit.charts.failures import draw_failures
        from auditkit.view import View

        _check_limit(limit)
        span = times.parse_range(since, until)
        columns = ("error_type", "operation", "workflow", *failures.COLUMNS)
        summary = self._summarise(failures.summarise, columns, span, outcome="failure")
        frame = summary.to_frame()
        arguments = {"since": since, "until": until, "limit": limit}
        return View(
            frame if limit is None else frame.head(limit),
            "Failures by error type, operation and workflow",
            draw_failures,
            python=self._say_python("errors", **arguments),
            cli=self._say_cli("errors", **arguments),
            note=_say_range(span),
        )

    def performance(
        self, operation: Choice | None = None, since: Moment | None = None, until: Moment | None = None
    ) -> View:
        """Give the latency percentiles of each operation, in seconds, exact, with linear interpolation.

        Args:
            operation: One operation or several; default all.
            since: Earliest time; see `events`.
            until: First time that is too late; see `events`.

        Returns:
            A view whose ``frame`` has a row an operation: how many measurements and failures; minimum, mean, p50, p90,
            p95, p99 and maximum in seconds.
        """
        from auditkit.analysis import latency
        from auditkit.charts.latency import draw_percentiles
        from auditkit.view import View

        span = times.parse_range(since, until)
        summary = self._summarise(
            latency.summarise, ("time", "operation", "duration_us", "outcome"), span, operation=operation
        )
        arguments = {"operation": operation, "since": since, "until": until}
        return View(
            summary.to_frame(),
            "Latency by operation",
            draw_percentiles,
            python=self._say_python("performance", **arguments),
            cli=self._say_cli("performance", **arguments),
            note=_say_range(span),
        )

    def count_statistics(self, workflow: Choice | None = None) -> dict[str, Any]:
        """Count the events of the store, or of one workflow; see `AuditLogger.get_statistics`."""
        query = make_query(workflow=workflow)
        snapshot = self._take_snapshot(query)
        ((total, errors, leads, actors, first, last),) = _list_rows(
            count_groups(snapshot, query, [], ["lead_id", "actor"])
        )
        by_type, by_workflow = (
            {name: n for name, n, *_ in _list_rows(count_groups(snapshot, query, [column])) if name is not None}
            for column in ("type", "workflow")
        )
        return {
            "total_events": total,
            "events_by_type": by_type,
            "events_by_workflow": by_workflow,
            "unique_leads": leads,
            "unique_actors": actors,
            "errors": errors,
            "error_rate": errors / total if total else 0.0,
            "first_event": None if first is None else first.astimezone(UTC),
            "last_event": None if last is None else last.astimezone(UTC),
        }

    # -- integrity ----------------------------------------------------------------------------------------------------

    def verify(
        self,
        deep: bool = True,
        since: Moment | None = None,
        until: Moment | None = None,
        progress: Callable[[int, int], None] | None = None,
        *,
        public_key: str | None = None,
        against: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = (),
        pin: bool = True,
        repin: bool = False,
    ) -> Verification:
        """Prove that nothing was changed, dropped, swapped or added, and list everything that was.

        The store is also compared with the newest checkpoint that this user saw of it at an earlier verification, so
        that a store which was cut or replaced by an older copy is found; then the newest one is remembered, in the
        user's state folder.

        Args:
            deep: Whether every event is checked; otherwise only the files' hashes and the ledger.
            since: Only segments and journals from this time on are checked for their content; see `events`.
            until: First time that is too late.
            progress: Called with the events done and the events to do.
            public_key: The store's verifier key, from a source outside the store: what is sealed is then proved without
                any secret. The secret key isn't looked for.
            against: Checkpoints that were kept outside the store: signed notes as text, or the paths of files that hold
                some (appended notes, a report, a mail, a receipt).
            pin: Whether it is compared with what this user saw before, and remembered.
            repin: Whether it is remembered without comparing: once, after you restored the store from a backup.

        Returns:
            What was checked and found. A missing key doesn't raise: what can't be proved without it is reported.

        Raises:
            UsageError: If a time can't be meant, the public key isn't this store's, or something to compare with holds
                no checkpoint of this store.
        """
        from auditkit.integrity import verify_store

        span = times.parse_range(since, until)
        problem = None
        keys: Keys | None = None
        try:
            keys = None if public_key is not None else self.find_keys()
        except KeyProblem as error:
            problem = str(error)
        return verify_store(
            self._layout,
            self._description,
            keys,
            deep=deep,
            since_us=span.since_us,
            until_us=span.until_us,
            key_problem=problem,
            public_key=public_key,
            against=[against] if isinstance(against, str | os.PathLike) else list(against),
            pin=pin,
            repin=repin,
            progress=progress,
        )

    def checkpoint(self) -> str:
        """Give the newest checkpoint: a signed note of the tree's size and root, with what witnesses added to it.

        Kept where nobody who is to be mistrusted can write, it shows later that the store was cut, rewritten or rolled
        back (``verify(against=…)``). Anybody with the public key can check it.

        Returns:
            The note (c2sp.org/signed-note, c2sp.org/tlog-checkpoint), text to be kept byte for byte.

        Raises:
            UsageError: If nothing was sealed yet.
            StoreDamaged: If the ledger can't be read.
        """
        from auditkit.anchoring.publication import read_checkpoint

        return read_checkpoint(self._layout, self._read_ledger())

    def receipt(self, event_id: str) -> Receipt:
        """Make the receipt of one event: a small proof that it is in the record, checked offline by anybody.

        Whoever has the store's public key checks it with `auditkit.verify_receipt`, without the store and without
        seeing any other event. Making it takes time for one segment, not for the store.

        Args:
            event_id: The event's id, ``writer:seq``, as `events` gives it.

        Returns:
            The receipt, with ``save(path)``.

        Raises:
            UsageError: If there is no such event, or it isn't sealed yet.
            StoreDamaged: If the ledger or the segment can't be believed.
        """
        from auditkit.receipts import make_receipt

        return make_receipt(self._layout, self.store_id, event_id, checkpoint=self.checkpoint())

    def prove(self, old: str, new: str | None = None) -> ConsistencyProof:
        """Prove that the record only grew since an older checkpoint.

        Args:
            old: The signed note that somebody kept.
            new: The later one; default the newest.

        Returns:
            The proof, for `auditkit.proof.verify_consistency_proof`.

        Raises:
            UsageError: If a note can't be read, is another store's, or the tree never was what it says.
            StoreDamaged: If the ledger can't be read, or the store went back and on otherwise since.
        """
        from auditkit.receipts import make_consistency_proof

        return make_consistency_proof(self._layout, self.store_id, old, new=new or self.checkpoint())

    def anchor(
        self,
        file: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = (),
        webhook: str | Sequence[str] = (),
        witness: str | Sequence[str] = (),
        timestamp: str | Sequence[str] = (),
    ) -> Publication:
        """Publish the newest checkpoint where whoever may change the store can't reach it.

        Args:
            file: Files elsewhere that it is appended to.
            webhook: URLs that it is posted to as JSON.
            witness: C2SP witnesses that cosign it, each as ``<verifier key>=<URL>`` (c2sp.org/tlog-witness). One that
                knows another history of the store says so: the store was rolled back or rewritten.
            timestamp: URLs of time stamp authorities (RFC 3161); needs the extra ``timestamp``.

        Returns:
            What came of each place; ``ok`` if all of them have it.

        Raises:
            UsageError: If nothing was sealed yet, or a place can't be meant.
            StoreDamaged: If the ledger can't be read.
        """
        from auditkit.anchoring.publication import publish_checkpoint
        from auditkit.anchoring.witness import parse_witness

        files = [file] if isinstance(file, str | os.PathLike) else list(file)
        webhooks, witnesses, timestamps = (
            [each] if isinstance(each, str) else list(each) for each in (webhook, witness, timestamp)
        )
        return publish_checkpoint(
            self._layout,
            self.store_id,
            files=[choose_output(path, "the checkpoint", self.path) for path in files],
            webhooks=webhooks,
            witnesses=[parse_witness(text) for text in witnesses],
            timestamps=timestamps,
        )

    def verify_timestamps(self, roots: bytes) -> list[tuple[int, Timestamp]]:
        """Verify the time stamps of checkpoints that `anchor` got; each dates all that its commit covers.

        Args:
            roots: Certificates of the time stamp authorities that are trusted, in PEM.

        Returns:
            For each stamp, the number of the commit and what it says: the time, the authority and its serial number.

        Raises:
            UsageError: If there are no certificates in ``roots``.
            StoreDamaged: If a stamp doesn't hold, or the ledger can't be read.
        """
        from auditkit.anchoring.publication import verify_timestamps

        return verify_timestamps(self._layout, self.store_id, roots)

    def rotate_keys(
        self, root_file: str | os.PathLike[str] | None = None, *, root: bool = True, sign: bool = True
    ) -> str:
        """Replace the store's keys by new random ones; what was recorded and signed before stays valid.

        A signed commit says so, in which the old public key vouches for the new one.

        Args:
            root_file: For a forward-secure store: its offline key file, to which the new root is added.
            root: Whether the root is replaced, from which the keys of writers and commits follow.
            sign: Whether the key that signs checkpoints is replaced.

        Returns:
            The public key from here on.

        Raises:
            UsageError: If the store has a given secret instead of a key file.
            KeyProblem: If a key file can't be read or written.
            StoreDamaged: If the ledger can't be continued.
        """
        from auditkit.rotation import rotate_keys
        from auditkit.store.keyring import keep_offline

        keep = None if root_file is None else keep_offline(Path(root_file), self.store_id)
        result = rotate_keys(self._layout, self.find_keys(), keep, root=root, sign=sign)
        self._description = read_description(self._layout)
        return result.public_key

    def seal(self) -> SealResult:
        """Seal what the journals hold into Parquet, in this process.

        Raises:
            KeyProblem: If the store's key isn't at hand.
            ExtraMissing: If the ``seal`` extra isn't installed.
            StoreDamaged: If the ledger can't be continued.
        """
        from auditkit.sealing import seal_store

        return seal_store(self._layout, self.find_keys())

    # -- the trail itself ---------------------------------------------------------------------------------------------

    def __repr__(self) -> str:
        try:
            span = _say_days(self.days())
        except StoreError as error:
            # A debugger prints a trail wherever it meets one.
            span = f"unreadable: {type(error).__name__}"
        return f"AuditTrail({str(self.path)!r}, store_id={self.store_id!r}, {span})"

    def __reduce__(self) -> str:
        raise TypeError(
            "a trail is neither copied nor pickled, as it may hold the store's secret: "
            "call auditkit.open(path) where it is needed, with the secret if it is to verify there"
        )

    def _repr_html_(self) -> str:
        from auditkit.charts.text import clean_text

        head = f"<b>AuditTrail</b> <code>{escape(clean_text(self.path, 1000))}</code>"
        try:
            frame, days = self.statistics().frame, self.days()
        except StoreError as error:
            return f"<div>{head}<br>{escape(clean_text(error, 1000))}</div>"
        shown = frame.head(_TYPES_SHOWN)
        rows = "".join(
            f"<tr><td>{escape(clean_text(kind, 80))}</td><td>{n:,}</td></tr>"
            for kind, n in zip(shown["type"], shown["n"], strict=True)
        )
        more = f"<br>the {len(shown)} most frequent of {len(frame):,} types" if len(frame) > len(shown) else ""
        return (
            f"<div>{head}<br>{int(frame['n'].sum()):,} events, {_say_days(days)}{more}"
            f"<table><thead><tr><th>type</th><th>events</th></tr></thead><tbody>{rows}</tbody></table>"
            "Try <code>.events(since='24h')</code>, <code>.errors()</code>, <code>.verify()</code></div>"
        )

    def find_keys(self) -> Keys:
        """Find the store's secret keys, which show nothing of themselves.

        Raises:
            KeyProblem: If they aren't at hand, or are another store's.
        """
        if self._keys is None:
            self._keys = find_keys(
                self.store_id, self._description.key_id, self._secret, self._key_file, root=self.path
            )
        return self._keys

    def _read_ledger(self) -> LedgerState:
        self._state = load_state(self._layout, self.store_id, self._state)
        return self._state

    def _take_snapshot(self, query: Query | None) -> Snapshot:
        if not self._layout.description.exists():
            raise StoreMissing(
                f"expected the store {self.store_id} at {self.path}, where it was when it was opened, found none: "
                "open it where it is now"
            )
        snapshot = take_snapshot(self._layout, self.store_id, query, self._state)
        self._state = snapshot.state
        return snapshot

    def _make_query(
        self,
        since: Moment | None,
        until: Moment | None,
        tz: tzinfo | str,
        internal: bool,
        **filters: Choice | None,
    ) -> Query:
        span = times.parse_range(since, until, tz=tz)
        return make_query(span.since_us, span.until_us, internal=internal, **filters)

    def _summarise(
        self,
        summarise: Callable[[pd.DataFrame], Any],
        columns: Sequence[str],
        span: times.TimeRange,
        **filters: Choice | None,
    ) -> Any:
        """Summarise the events that match, piece by piece: memory holds one piece and the summary."""
        query = make_query(span.since_us, span.until_us, internal=False, **filters)
        snapshot = self._take_snapshot(query)
        nothing = replace(snapshot, state=replace(snapshot.state, segments={}), journals={})
        empty = scan_events(nothing, query, columns)
        pieces = stream_events(snapshot, query, columns, ordered=False)
        return reduce(add, (summarise(_to_frame(piece)) for piece in pieces), summarise(_to_frame(empty)))

    def _say_python(self, method: str, **arguments: object) -> str:
        given = ", ".join(f"{name}={_say(value)!r}" for name, value in arguments.items() if value is not None)
        return f"auditkit.open({str(self.path)!r}).{method}({given})"

    def _say_cli(self, command: str, **arguments: object) -> str:
        import shlex

        words = ["auditkit", command, "--store", str(self.path)]
        for name, value in arguments.items():
            said = _say(value)
            for each in said if isinstance(said, list) else [] if said is None else [said]:
                words += [f"--{name.replace('_', '-')}", str(each)]
        return shlex.join(words)


def _say(argument: object) -> str | int | list[str] | None:
    """Write an argument so as to be copied: a time as text that `auditkit.times` reads, several values as a list."""
    if isinstance(argument, datetime):
        return times.from_us(times.to_us(argument)).isoformat()
    if isinstance(argument, date):
        return argument.isoformat()
    if argument is None or isinstance(argument, Integral):
        return None if argument is None else int(argument)
    return str(argument) if isinstance(argument, str) else [str(value) for value in cast("Sequence[str]", argument)]


def _is_count(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _check_limit(limit: int | None) -> None:
    if limit is not None and (not _is_count(limit) or limit < 0):
        raise UsageError(f"expected a limit of 0 or more, found {limit!r:.100}")


def _check_columns(columns: Sequence[str] | None) -> tuple[str, ...]:
    if columns is None:
        return COLUMNS
    chosen = (columns,) if isinstance(columns, str) else tuple(columns)
    unknown = [column for column in chosen if column not in COLUMNS]
    if unknown or not chosen:
        raise UsageError(
            f"expected columns out of {', '.join(COLUMNS)}, found {', '.join(map(repr, unknown)) or 'none'}"
        )
    if len(set(chosen)) < len(chosen):
        raise UsageError(f"expected each column once, found {', '.join(chosen)}")
    return chosen


def _to_frame(table: pa.Table) -> pd.DataFrame:
    """Turn a table into a DataFrame: text as ``str``, durations as nullable ``Int64``, times in microseconds, UTC."""
    arrow = require("pyarrow", "analysis")
    pandas = require("pandas", "analysis")
    kinds = {field.name: field.type for field in table.schema}
    moments = {name for name, kind in kinds.items() if arrow.types.is_timestamp(kind)}
    moment = arrow.timestamp("us", tz="UTC")
    schema = arrow.schema([arrow.field(f.name, moment) if f.name in moments else f for f in table.schema])
    frame = table.cast(schema).to_pandas(
        types_mapper=lambda kind: pandas.Int64Dtype() if kind == arrow.int64() else None,
        coerce_temporal_nanoseconds=False,
    )
    dtypes = {name: "int64" if kind == arrow.int64() else "str" for name, kind in kinds.items() if name not in moments}
    dtypes.pop("duration_us", None)
    typed: pd.DataFrame = frame.astype(dtypes)
    return typed


def _list_rows(table: pa.Table) -> Iterator[tuple[Any, ...]]:
    return zip(*(column.to_pylist() for column in table.columns), strict=True)


def _say_days(days: Sequence[date]) -> str:
    return f"{days[0]} to {days[-1]} (UTC)" if days else "no events yet"


def _say_range(span: times.TimeRange) -> str:
    return "" if span == times.TimeRange() else str(span)
