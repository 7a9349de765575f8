"""AuditLogger: the catalogue of its events, wrong calls, the environment, and what must never be shown."""

from __future__ import annotations

import copy
import gc
import json
import logging
import os
import pickle
import random
import stat
import threading
import traceback
import warnings
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import auditkit
from auditkit import AuditLogger, get_audit_logger
from auditkit.errors import AuditError, ClosedError, KeyMismatch, UsageError
from auditkit.store.keyring import locate_key_file
from tests.recording import independent
from tests.recording.running import SECRET, check_sound, open_trail, read_ids

ROOT_KEY = independent.root_of_secret(SECRET)


@pytest.fixture
def audit(store: Path) -> Iterator[AuditLogger]:
    """A logger that seals nothing by itself."""
    with AuditLogger(store, secret_key=SECRET, enable_rotation=False) as logger:
        yield logger


def read_events(store: Path) -> list[dict[str, Any]]:
    """Give the application's events, with their details read and without what is empty."""
    events = []
    for lines in independent.read_journal(store).values():
        for line in lines:
            fields = {key: value for key, value in line.fields.items() if value is not None}
            if "details" in fields:
                fields["details"] = json.loads(fields["details"])
            if not fields["type"].startswith("auditkit."):
                events.append(fields)
    return events


WHO = {"v", "store", "writer", "seq", "epoch", "time"}

CATALOGUE: list[tuple[str, tuple[Any, ...], dict[str, Any], dict[str, Any]]] = [
    (
        "log_lead_ingested",
        ("L-1", "web", {"name": "Ana"}, "intake"),
        {},
        {"type": "lead.ingested", "lead_id": "L-1", "workflow": "intake",
         "details": {"source": "web", "data": {"name": "Ana"}}},
    ),
    (
        "log_lead_qualified",
        ("L-1", True, "budget", "intake"),
        {},
        {"type": "lead.qualified", "lead_id": "L-1", "workflow": "intake", "outcome": "qualified",
         "details": {"qualified": True, "reason": "budget"}},
    ),
    (
        "log_lead_qualified",
        ("L-1", 0),
        {"reason": "no budget"},
        {"type": "lead.qualified", "lead_id": "L-1", "outcome": "rejected",
         "details": {"qualified": False, "reason": "no budget"}},
    ),
    (
        "log_lead_routed",
        ("L-1", "sales", "score > 0.8", "intake"),
        {},
        {"type": "lead.routed", "lead_id": "L-1", "workflow": "intake",
         "details": {"destination": "sales", "condition": "score > 0.8"}},
    ),
    (
        "log_crm_create",
        ("L-1", "C-7", "contact", "intake"),
        {},
        {"type": "crm.created", "lead_id": "L-1", "workflow": "intake",
         "details": {"crm_id": "C-7", "crm_type": "contact"}},
    ),
    (
        "log_crm_update",
        ("L-1", "C-7", ["phone"], "intake"),
        {},
        {"type": "crm.updated", "lead_id": "L-1", "workflow": "intake",
         "details": {"crm_id": "C-7", "fields": ["phone"]}},
    ),
    (
        "log_email_sent",
        ("L-1", "ana@example.com", "Hello", 2, "mail"),
        {},
        {"type": "email.sent", "lead_id": "L-1", "workflow": "mail",
         "details": {"recipient": "ana@example.com", "subject": "Hello", "step": 2}},
    ),
    (
        "log_email_scheduled",
        ("L-1", "ana@example.com", 5, "mail"),
        {},
        {"type": "email.scheduled", "lead_id": "L-1", "workflow": "mail",
         "details": {"recipient": "ana@example.com", "length": 5}},
    ),
    (
        "log_email_cancelled",
        ("L-1", "ana@example.com", "replied", "mail"),
        {},
        {"type": "email.cancelled", "lead_id": "L-1", "workflow": "mail", "outcome": "cancelled",
         "details": {"recipient": "ana@example.com", "reason": "replied"}},
    ),
    ("log_workflow_started", ("mail",), {}, {"type": "workflow.started", "workflow": "mail"}),
    (
        "log_workflow_stopped",
        ("mail", "deployment"),
        {},
        {"type": "workflow.stopped", "workflow": "mail", "details": {"reason": "deployment"}},
    ),
    (
        "log_error",
        ("TimeoutError", "no answer", "L-1", "mail", "Traceback …"),
        {"operation": "crm.sync", "actor": "worker", "details": {"try": 3}},
        {"type": "error", "error_type": "TimeoutError", "message": "no answer", "lead_id": "L-1", "workflow": "mail",
         "traceback": "Traceback …", "outcome": "failure", "operation": "crm.sync", "actor": "worker",
         "details": {"try": 3}},
    ),
    (
        "track_performance",
        ("crm.sync", 0.25),
        {},
        {"type": "operation", "operation": "crm.sync", "duration_us": 250_000, "outcome": "success"},
    ),
    (
        "track_performance",
        ("crm.sync", np.float32(0.5)),
        {"outcome": "failure", "lead_id": 7, "details": []},
        {"type": "operation", "operation": "crm.sync", "duration_us": 500_000, "outcome": "failure", "lead_id": "7",
         "details": []},
    ),
]  # fmt: skip


@pytest.mark.parametrize("row", range(len(CATALOGUE)), ids=lambda row: f"{CATALOGUE[row][0]}-{row}")
def test_the_catalogue(audit: AuditLogger, row: int) -> None:
    """Each method records its own event, with these fields and details and no others, and gives its id."""
    method, args, kwargs, expected = CATALOGUE[row]
    event_id = getattr(audit, method)(*args, **kwargs)
    [event] = read_events(audit.path)
    assert event_id == f"{event['writer']}:{event['seq']}"
    assert {key: value for key, value in event.items() if key not in WHO} == expected


def test_an_error_from_a_live_exception(audit: AuditLogger) -> None:
    """Class, message and traceback come from the exception, even if its own text fails; what is given goes before."""

    class Unprintable(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    def fail(error: Exception) -> None:
        raise error

    for error in (KeyError("x"), json.JSONDecodeError("bad", "{", 0), Unprintable(), ValueError("\ud800")):
        try:
            fail(error)
        except Exception as caught:  # noqa: BLE001
            audit.log_error(caught, lead_id="L-1", workflow="mail")
    audit.log_error(KeyError("x"), "my words", traceback="my lines")
    events = read_events(audit.path)
    assert [event["error_type"] for event in events] == [
        "KeyError",
        "json.decoder.JSONDecodeError",
        f"{__name__}.test_an_error_from_a_live_exception.<locals>.Unprintable",
        "ValueError",
        "KeyError",
    ]
    assert [event["message"] for event in events[:2]] == ["'x'", "bad: line 1 column 1 (char 0)"]
    assert "can't be printed" in events[2]["message"]
    assert events[3]["message"] == "\ufffd"
    assert all("fail(error)" in event["traceback"] for event in events[:4])
    assert (events[4]["message"], events[4]["traceback"]) == ("my words", "my lines")


class Nowhere(tzinfo):
    """A zone that doesn't know its offset."""

    def utcoffset(self, _moment: datetime | None) -> timedelta | None:
        return None

    dst = utcoffset

    def tzname(self, _moment: datetime | None) -> None:
        return None


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


WRONG: list[tuple[Callable[[AuditLogger], Any], str]] = [
    (lambda audit: audit.log_event(""), "expected an event type like 'lead.ingested', found ''"),
    (lambda audit: audit.log_event(None), "expected an event type"),  # type: ignore[arg-type]
    (lambda audit: audit.log_event(5), "expected an event type"),  # type: ignore[arg-type]
    (lambda audit: audit.log_event(["x"]), "expected an event type"),  # type: ignore[arg-type]
    (lambda audit: audit.log_event(Unprintable()), "found a Unprintable"),  # type: ignore[arg-type]
    (lambda audit: audit.log_event("x" * 201), "at most 200 characters, found 201"),
    (lambda audit: audit.log_event("auditkit.opened"), r"auditkit\. is reserved"),
    (lambda audit: audit.log_event("x", time=datetime(2026, 1, 1)), "time zone"),  # noqa: DTZ001
    (lambda audit: audit.log_event("x", time=datetime(2026, 1, 1, tzinfo=Nowhere())), "time zone"),
    (lambda audit: audit.log_event("x", time=date(2026, 1, 1)), "found date"),  # type: ignore[arg-type]
    (lambda audit: audit.log_event("x", time="2026-01-01"), "found str"),  # type: ignore[arg-type]
    (lambda audit: audit.log_event("x", time=1795392000), "found int"),  # type: ignore[arg-type]
    (lambda audit: audit.log_event("x", time=pd.NaT), "time zone"),  # type: ignore[arg-type]
    (lambda audit: audit.log_event("x", duration=-0.001), "expected a duration in seconds, 0 or more"),
    (lambda audit: audit.log_event("x", duration=float("nan")), "found nan"),
    (lambda audit: audit.log_event("x", duration=float("inf")), "found inf"),
    (lambda audit: audit.log_event("x", duration=1e12), "duration"),
    (lambda audit: audit.log_event("x", duration="1"), "found '1'"),  # type: ignore[arg-type]
    (lambda audit: audit.log_event("x", duration=Unprintable()), "duration"),  # type: ignore[arg-type]
    (lambda audit: audit.log_error(""), "expected the error's class"),
    (lambda audit: audit.log_error(ValueError), "expected the error's class"),  # type: ignore[arg-type]
    (lambda audit: audit.track(""), "expected an operation's name"),
    (lambda audit: audit.track(5), "found 5"),  # type: ignore[arg-type]
    (lambda audit: audit.track_performance("op", -1), "duration"),
    (lambda audit: audit.track_performance("op", None), "found None"),  # type: ignore[arg-type]
    (lambda audit: audit.track_performance("op", "1"), "found '1'"),  # type: ignore[arg-type]
    (lambda audit: audit.track_performance("", 1), "operation"),
    (lambda audit: audit.log_internal(5), "found 5"),  # type: ignore[arg-type]
    (lambda audit: audit.log_internal("x"), r"begins with auditkit\."),
    (lambda audit: audit.log_internal("auditkit.gap"), r"begins with auditkit\."),
]


@pytest.mark.parametrize("row", range(len(WRONG)))
def test_a_wrong_call_raises_at_the_caller(audit: AuditLogger, row: int) -> None:
    """The error says what was expected and found, its last frame of ours is the call, and nothing is recorded."""
    call, message = WRONG[row]
    with pytest.raises(UsageError, match=message) as caught:
        call(audit)
    assert isinstance(caught.value, ValueError)
    assert __file__ in {frame.filename for frame in traceback.extract_tb(caught.value.__traceback__)}
    audit.log_event("sound")
    assert [event["type"] for event in read_events(audit.path)] == ["sound"]
    assert audit.get_performance_stats("op") is None


SETTINGS: list[tuple[dict[str, Any], str]] = [
    ({"path": 5}, "expected path as text or a pathlib.Path, found 5"),
    ({"path": ""}, "expected path as text or a pathlib.Path, found ''"),
    ({"path": b"audit"}, "expected path as text .*found b'audit'"),
    ({"path": "a\0b"}, "expected path"),
    ({"path": Unprintable()}, "found a Unprintable"),
    ({"max_file_size_mb": 0}, "expected max_file_size_mb above 0, found 0"),
    ({"max_file_size_mb": float("nan")}, "found nan"),
    ({"max_file_size_mb": float("inf")}, "enable_rotation=False"),
    ({"max_file_size_mb": "50"}, "expected max_file_size_mb above 0, found '50'"),
    ({"max_file_size_mb": None}, "found None"),
    ({"max_file_size_mb": True}, "found True"),
    ({"retention_days": 0}, "retention_days of at least 1, found 0"),
    ({"retention_days": "90"}, "expected whole retention_days of at least 1, found '90'"),
    ({"retention_days": 1.5}, "found 1.5"),
    ({"retention_days": None}, "found None"),
    ({"enable_rotation": "no"}, "expected enable_rotation True or False, found 'no'"),
    ({"enable_integrity": 0}, "expected enable_integrity True or False, found 0"),
    ({"on_failure": "ignore"}, "expected on_failure 'drop' or 'raise', found 'ignore'"),
    ({"on_failure": Unprintable()}, "found a Unprintable"),
    ({"key_file": 7}, "expected key_file as text or a pathlib.Path, found 7"),
    ({"key_file": ""}, "expected key_file"),
    ({"secret_key": "short"}, "at least 16 bytes, found 5"),
    ({"secret_key": SECRET, "key_file": "k"}, "found both"),
]


@pytest.mark.parametrize("row", range(len(SETTINGS)))
def test_wrong_settings_raise_before_anything_is_made(store: Path, row: int) -> None:
    """An argument that can't be meant is named with what was expected and found, and leaves no store behind."""
    options, message = SETTINGS[row]
    with pytest.raises(UsageError, match=message):
        AuditLogger(**{"path": store, "secret_key": None if "key_file" in options else SECRET, **options})
    assert not store.exists()


@pytest.mark.parametrize(
    "secret", [12345678901234567890, ["a secret that nobody may see"], "a secret that nobody may see \udc80"]
)
def test_a_secret_of_a_wrong_kind_is_never_shown(store: Path, secret: Any) -> None:
    """Neither the message nor anything the exception carries has the secret."""
    with pytest.raises(UsageError, match="expected a secret key") as caught:
        AuditLogger(store, secret_key=secret)
    told = "".join(traceback.format_exception(caught.value))
    assert "12345678901234567890" not in told
    assert "nobody may see" not in told
    assert caught.value.__context__ is None
    assert not store.exists()


@pytest.mark.parametrize("path", [5, "", b"audit"])
def test_the_one_logger_of_no_path(path: Any) -> None:
    """`get_audit_logger` checks its path as `AuditLogger` does."""
    with pytest.raises(UsageError, match=r"expected path as text or a pathlib\.Path"):
        get_audit_logger(path)


class Name(str):
    __slots__ = ()


NAMES: list[tuple[Any, str]] = [
    (42, "42"),
    (np.int64(42), "42"),
    (True, "true"),
    (4.5, "4.5"),
    (Decimal("1.0"), "1.0"),
    (Name("L-1"), "L-1"),
    (np.str_("L-1"), "L-1"),
    (10**5000, json.dumps({"$int": hex(10**5000)}, separators=(",", ":"))),
    (b"L", '{"$base64":"TA=="}'),
    (Unprintable(), f'{{"$unconvertible":"{__name__}.Unprintable"}}'),
    ("", ""),
]


@pytest.mark.parametrize("row", range(len(NAMES)))
def test_columns_take_whatever_names_a_thing(audit: AuditLogger, row: int) -> None:
    """A lead's number, a name of numpy's or a subclass's, even an object that fails: each becomes text, no error."""
    value, text = NAMES[row]
    fields = dict.fromkeys(
        ("actor", "lead_id", "workflow", "outcome", "operation", "error_type", "message", "traceback"), value
    )
    audit.log_event(
        Name("x"), {"kept": {1}}, duration=np.float64(2), time=pd.Timestamp("2026-11-23", tz="UTC"), **fields
    )
    [event] = read_events(audit.path)
    assert {name: event[name] for name in fields} == dict.fromkeys(fields, text)
    assert (event["type"], event["duration_us"], event["details"]) == ("x", 2_000_000, {"kept": [1]})
    assert event["time"] == 1_795_392_000_000_000
    independent.check_journal(audit.path, ROOT_KEY)


def test_types_made_of_ids_do_not_fill_the_memory(audit: AuditLogger) -> None:
    """However many types there are, those that are remembered are bounded, and all are recorded."""
    for number in range(12_000):
        audit.log_event(f"type-{number}")
    assert len(audit._types) == 10_000
    assert len(read_events(audit.path)) == 12_000


def test_the_logger_reads_its_own_store(audit: AuditLogger) -> None:
    """The three reading calls see every event, sealed or not, of every process."""
    audit.log_lead_ingested("L-1", workflow="intake")
    audit.rotate()
    audit.log_error("TimeoutError", "x", lead_id="L-1", workflow="mail")
    audit.log_lead_ingested("L-2", workflow="intake")
    assert list(audit.query_events(lead_id="L-1")["type"]) == ["lead.ingested", "error"]
    assert list(audit.query_events(type=["error"], workflow="mail")["lead_id"]) == ["L-1"]
    assert list(audit.query_events(limit=1)["type"]) == ["lead.ingested"]
    assert audit.query_events(end_time=datetime.now(UTC) - timedelta(days=1)).empty
    assert list(audit.get_lead_history("L-2")["workflow"]) == ["intake"]
    statistics = audit.get_statistics()
    assert (statistics["total_events"], statistics["errors"], statistics["unique_leads"]) == (3, 1, 2)
    assert audit.get_statistics(workflow="intake")["events_by_type"] == {"lead.ingested": 2}


# -- one logger for a store, and the environment ----------------------------------------------------------------------


def test_a_process_has_one_logger_of_a_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """However the folder is spelled it is the same logger, until it is closed."""
    monkeypatch.setenv("AUDITKIT_KEY", SECRET)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path)
    first = get_audit_logger()
    request.addfinalizer(first.close)
    assert first.path == (tmp_path / "audit").resolve()
    for spelled in ("audit", "./audit", tmp_path / "audit", "link/audit", "audit/../audit"):
        assert get_audit_logger(spelled) is first
    monkeypatch.setenv("AUDITKIT_STORE", str(tmp_path / "link" / "audit"))
    assert get_audit_logger() is first
    other = get_audit_logger(tmp_path / "other")
    request.addfinalizer(other.close)
    assert other is not first
    first.close()
    second = get_audit_logger()
    request.addfinalizer(second.close)
    assert second is not first
    assert second.log_event("x")


def test_threads_that_ask_at_once_get_one_logger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No thread makes a second one."""
    monkeypatch.setenv("AUDITKIT_KEY", SECRET)
    barrier = threading.Barrier(8)
    found = []

    def ask() -> None:
        barrier.wait()
        found.append(get_audit_logger(tmp_path / "audit"))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, found))) == 1
    found[0].close()


def test_the_environment_names_store_and_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """$AUDITKIT_STORE, $AUDITKIT_KEY_FILE and $AUDITKIT_KEY, which goes before it; a trail finds the same."""
    monkeypatch.setenv("AUDITKIT_STORE", str(tmp_path / "one"))
    monkeypatch.setenv("AUDITKIT_KEY_FILE", str(tmp_path / "keys" / "mine.key"))
    with AuditLogger(enable_rotation=False) as audit:
        audit.log_event("x")
    assert audit.path == tmp_path / "one"
    independent.check_journal(audit.path, independent.root_of_file(tmp_path / "keys" / "mine.key"))
    assert auditkit.open().verify().ok
    monkeypatch.setenv("AUDITKIT_KEY", SECRET)
    with pytest.raises(KeyMismatch):
        AuditLogger()
    monkeypatch.setenv("AUDITKIT_STORE", str(tmp_path / "two"))
    with AuditLogger(enable_rotation=False) as audit:
        audit.log_event("x")
    independent.check_journal(audit.path, ROOT_KEY)
    assert auditkit.open().verify().ok


# -- its end ----------------------------------------------------------------------------------------------------------


def test_a_closed_logger_says_so(store: Path) -> None:
    """Closing twice does nothing; recording afterwards raises; what was measured is still there."""
    audit = AuditLogger(store, secret_key=SECRET, enable_rotation=False)
    with audit.track("op"):
        pass
    audit.close()
    audit.close()
    late: list[dict[str, Any]] = [{}, {"actor": 5}, {"message": "\ud800"}]
    for fields in late:
        with pytest.raises(ClosedError, match="make a new one"):
            audit.log_event("x", **fields)
    with pytest.raises(ClosedError), audit.track("op"):
        pass
    with pytest.raises(KeyError) as caught, audit.track("op"):
        raise KeyError("the application's own")
    assert "could not record this failure" in caught.value.__notes__[0]
    assert audit.get_performance_stats("op") is not None
    audit.flush()
    assert len(read_ids(open_trail(store))) == 1
    [lines] = independent.check_journal(store, ROOT_KEY).values()
    assert lines[-1].fields["type"] == "auditkit.closed"


def test_a_logger_that_never_recorded_leaves_no_journal(store: Path) -> None:
    """Opening a store for its reading calls makes no chain."""
    with AuditLogger(store, secret_key=SECRET, enable_rotation=False) as audit:
        assert audit.query_events().empty
    assert list((store / "journal").iterdir()) == []
    check_sound(open_trail(store))


@pytest.mark.parametrize("rotation", [False, True])
def test_a_logger_that_nobody_holds_is_closed(store: Path, rotation: bool) -> None:
    """When the last reference goes, the chain's end is signed and the journal let go, with or without a sealer."""
    audit = AuditLogger(store, 0.001, secret_key=SECRET, enable_rotation=rotation)
    for number in range(20):
        audit.log_event("x", {"n": number}, message="x" * 100)
    gone = weakref.ref(audit)
    del audit
    gc.collect()
    assert gone() is None
    trail = open_trail(store)
    trail.seal()
    assert list(trail.events(type="auditkit.closed")["seq"]) == [21]
    check_sound(trail)


def test_a_logger_does_not_travel(audit: AuditLogger) -> None:
    """Neither pickles nor copies: another process makes its own."""
    for act in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="make one in each process"):
            act(audit)


# -- secrets and modes ------------------------------------------------------------------------------------------------


def test_the_secret_is_nowhere(store: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Not in a repr, an error, a warning, a log record, a traceback with its variables, or any byte of the store."""
    secret = "s3cret-" + format(random.getrandbits(128), "x")
    shown = []
    with warnings.catch_warnings(record=True) as caught, caplog.at_level(logging.DEBUG):
        warnings.simplefilter("always")
        audit = AuditLogger(store, secret_key=secret, max_file_size_mb=0.001)
        for number in range(20):
            audit.log_event("x", {"logger": audit, "n": number}, message="x" * 100)
        audit.rotate()
        shown += [repr(audit), str(audit), f"{audit}", repr(audit._recorder), repr(audit._keys)]
        for wrong in (
            lambda: AuditLogger(store, secret_key=secret[:-1]),
            lambda: AuditLogger(store, secret_key=secret, key_file="k"),
            lambda: AuditLogger(store, key_file=store / "nothing"),
            lambda: audit.log_event(""),
            lambda: auditkit.open(store, secret_key=secret + "x").seal(),
        ):
            with pytest.raises(AuditError) as error:
                wrong()
            shown += [str(error.value), repr(error.value), "".join(traceback.format_exception(error.value))]
        trail = auditkit.open(store, secret_key=secret)
        shown += [repr(trail), repr(trail.verify()), str(trail.verify().to_frame())]
        audit.close()
    shown += [str(warning.message) for warning in caught] + [caplog.text]
    root = independent.root_of_secret(secret)
    for form in (secret, secret.encode().hex(), root.hex(), repr(root)[2:-1]):
        assert not any(form in text for text in shown)
    for path in store.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            for raw in (secret.encode(), secret.encode().hex().encode(), root, root.hex().encode()):
                assert raw not in content, path


def test_the_key_files_content_is_nowhere_in_the_store(store: Path) -> None:
    """Neither the root nor any other key of the file stands in the store, before and after sealing."""
    audit = AuditLogger(store, enable_rotation=False)
    audit.log_event("x", {"logger": audit})
    audit.rotate()
    audit.close()
    keys = json.loads(locate_key_file(audit.store_id).read_text())
    for path in store.rglob("*"):
        if path.is_file():
            for name in ("root", "sign", "current"):
                content = path.read_bytes()
                assert keys[name].encode() not in content
                assert bytes.fromhex(keys[name]) not in content


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_everything_is_its_owners_alone(store: Path, isolated_user: Path, mask: int) -> None:
    """Whatever the umask: files of mode 0600, folders of mode 0700, in the store and where its key lies."""
    before = os.umask(mask)
    try:
        with AuditLogger(store, max_file_size_mb=0.001) as audit:
            for number in range(10):
                audit.log_event("x", {"n": number}, message="x" * 200, time=datetime(2001, 5, 5, tzinfo=UTC))
            audit.rotate()
            audit.log_event("x")
    finally:
        os.umask(before)
    found = [store, *store.rglob("*"), *(isolated_user / ".local" / "share" / "auditkit").rglob("*")]
    assert {path.suffix for path in found} >= {".jsonl", ".parquet", ".commit", ".json", ".key", ".lock"}
    for path in found:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_unsigned_events_are_told_apart(store: Path) -> None:
    """With ``enable_integrity=False`` lines have no MAC, and verification doesn't call them proved."""
    with AuditLogger(store, secret_key=SECRET, enable_rotation=False, enable_integrity=False) as audit:
        event_id = audit.log_event("x")
    [lines] = independent.read_journal(store).values()
    assert [line.mac for line in lines] == [None] * 3
    trail = open_trail(store)
    for seal in (False, True):
        if seal:
            trail.seal()
        assert read_ids(trail) == [event_id]
        verification = trail.verify()
        assert (verification.verdict, verification.exit_code) == ("incomplete", 3)
        assert {finding.kind for finding in verification.findings} == {"unverifiable"}


def test_what_only_equals_a_type_is_none(audit: AuditLogger, store: Path) -> None:
    """A value's own code may say that it equals a known type; what is recorded is text, or the call is refused."""

    @dataclass(frozen=True)
    class Impostor:
        name: str

        def __eq__(self, other: object) -> bool:
            return other == self.name

        def __hash__(self) -> int:
            return hash(self.name)

    class Boastful(str):
        def startswith(self, *_: Any) -> bool:
            return False

        def __len__(self) -> int:
            return 1

    audit.log_event("x")
    with pytest.raises(UsageError, match="expected an event type"):
        audit.log_event(Impostor("x"))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="reserved"):
        audit.log_event(Boastful("auditkit.closed"))
    with pytest.raises(UsageError, match="at most 200 characters"):
        audit.log_event(Boastful("x" * 201))
    audit.log_event(Boastful("x"))
    trail = open_trail(store)
    check_sound(trail)
    assert list(trail.events()["type"]) == ["x", "x"]
