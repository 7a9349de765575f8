"""Ready-made mappings, on rows like those of their sources, and on the real files where they are at hand."""

from __future__ import annotations

import csv
import gzip
import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import auditkit
from auditkit.importing import import_file, import_files
from auditkit.logger import AuditLogger
from tests.importing.conftest import Memory


def write_cloudtrail(path: Path, *changes: dict[str, Any]) -> Path:
    """Write a log file as CloudTrail does: one object, packed, an array of records."""
    usual = {
        "eventVersion": "1.08",
        "userIdentity": {"type": "IAMUser", "arn": "arn:aws:iam::1:user/ana", "userName": "ana"},
        "eventTime": "2026-11-23T10:00:00Z",
        "eventSource": "s3.amazonaws.com",
        "eventName": "GetObject",
        "responseElements": None,
    }
    path.write_bytes(gzip.compress(json.dumps({"Records": [usual | change for change in changes]}).encode()))
    return path


def test_cloudtrail_tells_who_called_what_and_how_it_ended(tmp_path: Path, memory: Memory) -> None:
    """Users, services, and identities of hardly a word; calls, errors, and sign-ins that failed."""
    failed = {"errorCode": "AccessDenied", "errorMessage": "no"}
    sign_in = {"eventName": "ConsoleLogin", "eventSource": "signin.amazonaws.com"}
    file = write_cloudtrail(
        tmp_path / "1_CloudTrail_eu-central-1.json.gz",
        {},
        failed | {"userIdentity": {"type": "AWSService", "invokedBy": "ec2.amazonaws.com"}},
        {"errorCode": "Throttled", "userIdentity": {"accountId": "1"}},
        sign_in | {"responseElements": {"ConsoleLogin": "Success"}},
        sign_in | {"responseElements": {"ConsoleLogin": "Failure"}, "errorMessage": "Failed authentication"},
        {"eventSource": None},
    )
    result = import_file(file, memory, "cloudtrail")
    assert (result.imported, result.reasons) == (5, {"no type": 1})
    assert result.options["records"] == "Records"
    found = [
        [event.get(key) for key in ("type", "actor", "outcome", "error_type", "message")] for event in memory.events
    ]
    user = "arn:aws:iam::1:user/ana"
    assert found == [
        ["aws.s3.GetObject", user, "success", None, None],
        ["aws.s3.GetObject", "ec2.amazonaws.com", "failure", "AccessDenied", "no"],
        ["aws.s3.GetObject", "1", "failure", "Throttled", None],
        ["aws.signin.ConsoleLogin", user, "success", None, None],
        ["aws.signin.ConsoleLogin", user, "failure", None, "Failed authentication"],
    ]
    assert memory.events[0]["details"] == {
        "eventVersion": "1.08",
        "userIdentity": {"type": "IAMUser", "userName": "ana"},
        "eventSource": "s3.amazonaws.com",
        "eventName": "GetObject",
        "responseElements": None,
    }


def test_the_funnel_has_its_days_in_sao_paulo(tmp_path: Path, memory: Memory) -> None:
    """A date begins there at 02:00 or 03:00 UTC; who wants UTC says so."""
    leads = tmp_path / "leads.csv"
    leads.write_text("mql_id,first_contact_date,landing_page_id,origin\nL-1,2018-02-01,P-1,social\nL-2,2018-05-31,P,\n")
    deals = tmp_path / "deals.csv"
    deals.write_text("mql_id,seller_id,sdr_id,sr_id,won_date,has_gtin\nL-1,S-1,D-1,R-1,2018-02-26 19:58:54,\n")
    import_file(leads, memory, "olist-mql")
    import_file(deals, memory, "olist-deals")
    assert memory.events == [
        {
            "type": "lead.ingested",
            "lead_id": "L-1",
            "workflow": "olist funnel",
            "time": datetime(2018, 2, 1, 2, tzinfo=UTC),
            "details": {"landing_page_id": "P-1", "origin": "social"},
        },
        {
            "type": "lead.ingested",
            "lead_id": "L-2",
            "workflow": "olist funnel",
            "time": datetime(2018, 5, 31, 3, tzinfo=UTC),
            "details": {"landing_page_id": "P", "origin": None},
        },
        {
            "type": "lead.won",
            "lead_id": "L-1",
            "actor": "R-1",
            "workflow": "olist funnel",
            "outcome": "won",
            "time": datetime(2018, 2, 26, 22, 58, 54, tzinfo=UTC),
            "details": {"seller_id": "S-1", "sdr_id": "D-1", "has_gtin": None},
        },
    ]


def test_the_whole_cloudtrail_is_imported(real_data: Path, memory: Memory) -> None:
    """2,900 events in 55 files, 300 of them errors, none lost, each as it was."""
    files = sorted((real_data / "cloudtrail").glob("*.json.gz"))
    results = import_files(files, memory, "cloudtrail")
    assert (len(results), sum(result.imported for result in results)) == (55, 2900)
    assert all(result.complete and not result.rejected for result in results)
    assert Counter(event["outcome"] for event in memory.events) == {"success": 2600, "failure": 300}
    assert all(event["actor"] for event in memory.events)
    records = {
        record["eventID"]: record
        for file in files
        for record in json.loads(gzip.decompress(file.read_bytes()))["Records"]
    }
    for event in memory.events:
        record = records.pop(event["details"]["eventID"])
        assert event["time"] == datetime.fromisoformat(record["eventTime"])
        assert event["type"] == f"aws.{record['eventSource'].split('.')[0]}.{record['eventName']}"
        assert (event.get("error_type"), event.get("message")) == (
            record.pop("errorCode", None),
            record.pop("errorMessage", None),
        )
        del record["eventTime"]
        identity = record["userIdentity"]
        used = next(key for key in ("arn", "userName", "invokedBy") if key in identity)
        assert event["actor"] == identity.pop(used)
        assert event["details"] == record
    assert records == {}


def test_the_whole_funnel_reaches_the_trail(real_data: Path, tmp_path: Path) -> None:
    """8,000 leads and 842 deals, sealed and verified; the deal that came before its first contact stays."""
    folder = real_data / "olist_funnel"
    leads = folder / "olist_marketing_qualified_leads_dataset.csv"
    deals = folder / "olist_closed_deals_dataset.csv"
    with AuditLogger(tmp_path / "audit", secret_key="a secret for this test", enable_rotation=False) as logger:
        assert import_file(leads, logger, "olist-mql").imported == 8000
        assert import_file(deals, logger, "olist-deals").imported == 842
        logger.rotate()
    trail = auditkit.open(tmp_path / "audit", secret_key="a secret for this test")
    assert trail.count(type="lead.ingested") == 8000
    won = trail.events(type="lead.won")
    assert len(won) == 842
    with leads.open() as text:
        contacts = {row["mql_id"]: row["first_contact_date"] for row in csv.DictReader(text)}
    days = won["time"].dt.tz_convert("America/Sao_Paulo").dt.strftime("%Y-%m-%d")
    early = [day < contacts[lead] for day, lead in zip(days, won["lead_id"], strict=True)]
    assert sum(early) == 1
    first = trail.lead(won["lead_id"][early.index(True)])
    assert list(first["type"]) == ["lead.won", "lead.ingested"]
    assert trail.verify().ok


@pytest.mark.slow
def test_the_whole_loan_log_is_imported(real_data: Path, memory: Memory) -> None:
    """262,200 events of 13,087 cases across a change of the clocks, in another order than that of time."""
    result = import_file(real_data / "bpic2012" / "bpic2012.parquet", memory, "bpic2012")
    assert (result.imported, result.rejected, len(result.types)) == (262_200, 0, 24)
    assert sum("actor" not in event for event in memory.events) == 18_010
    other_day = sum(
        event["time"].strftime("%Y-%m-%d") != event["details"]["time:timestamp"][:10] for event in memory.events
    )
    assert other_day == 731
    spans: dict[str, list[datetime]] = {}
    for event in memory.events:
        spans.setdefault(event["lead_id"], []).append(event["time"])
    assert len(spans) == 13_087
    seconds = pd.Series([(max(times) - min(times)) / timedelta(seconds=1) for times in spans.values()])
    assert round(seconds.median(), 3) == 69_857.434
    assert round(seconds.quantile(0.95), 3) == 2_707_950.482


@pytest.mark.slow
def test_the_whole_api_log_is_imported(real_data: Path, memory: Memory) -> None:
    """275,311 requests with their durations to the microsecond; 492 failed."""
    file = real_data / "openstack_nova" / "access_parsed.parquet"
    result = import_file(file, memory, "openstack-access")
    assert (result.imported, result.rejected) == (275_311, 0)
    assert Counter(event["outcome"] for event in memory.events)["failure"] == 492
    assert Counter(event.get("error_type") for event in memory.events)["HTTP 500"] == 492
    seconds = pd.Series([event["duration"] for event in memory.events])
    assert list(seconds.quantile([0.5, 0.95, 0.99]).round(6)) == [0.282419, 2.932423, 5.406656]
    # Seven digits were logged; where the last isn't 0, the details keep all of them.
    kept = Counter(event["details"].get("duration_s") for event in memory.events)
    logged = Counter(pd.read_parquet(file)["duration_s"])
    assert kept == Counter(
        {None: sum(count for text, count in logged.items() if text.endswith("0"))}
        | {text: count for text, count in logged.items() if not text.endswith("0")}
    )


def test_the_error_records_keep_their_tracebacks(real_data: Path, memory: Memory) -> None:
    """1,471 errors, 930 with a traceback, from a file packed with Zstandard."""
    result = import_file(real_data / "openstack_nova" / "error_records.jsonl.zst", memory, "openstack-errors")
    assert (result.imported, result.rejected, result.options["compression"]) == (1471, 0, "zstd")
    assert sum("traceback" in event for event in memory.events) == 930
    assert all(event["error_type"] and event["outcome"] == "failure" for event in memory.events)
