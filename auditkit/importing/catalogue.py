"""Ready-made mappings, each for one kind of file.

Where a source states no time zone, its mapping states one and says why; ``mapping.with_zone`` states another.
"""

from __future__ import annotations

from typing import Any, Final

from auditkit.errors import UsageError
from auditkit.importing.mapping import Mapping, Record


def _name_aws_call(record: Record) -> str | None:
    """``s3.amazonaws.com`` and ``GetObject`` make ``aws.s3.GetObject``."""
    service, call = record.get("eventSource"), record.get("eventName")
    if not isinstance(service, str) or not isinstance(call, str):
        return None
    return f"aws.{service.partition('.')[0]}.{call}"


def _find_user(record: Record) -> Any:
    """OpenStack writes a dash where there is no user."""
    user = record.get("user_id")
    return None if user == "-" else user


def _name_server_error(record: Record) -> str | None:
    status = record.get("status")
    return f"HTTP {status}" if isinstance(status, int) and status >= 500 else None


def _name_exception(record: Record) -> str | None:
    """``AttributeError: 'NoneType' …`` is an AttributeError; without a traceback, the log's level must do."""
    line = record.get("exc_line")
    if isinstance(line, str) and line:
        return line.partition(":")[0].strip()
    level = record.get("level")
    return level if isinstance(level, str) else None


def _find_traceback(record: Record) -> Any:
    return record.get("text") if record.get("has_traceback") is True else None


CLOUDTRAIL: Final = Mapping(
    name="cloudtrail",
    description="AWS CloudTrail log files (JSON, gzip): calls of the AWS API, their makers, their errors",
    time="eventTime",
    type=_name_aws_call,
    # An ARN tells people of several accounts apart; services have none.
    actor=(
        "userIdentity.arn",
        "userIdentity.userName",
        "userIdentity.invokedBy",
        "userIdentity.principalId",
        "userIdentity.accountId",
        "userIdentity.type",
    ),
    workflow="=cloudtrail",
    # A failed sign-in has no errorCode.
    outcome=("errorCode", "responseElements.ConsoleLogin", "=success"),
    outcome_values={"Success": "success", "*": "failure"},
    error_type="errorCode",
    message="errorMessage",
)

OLIST_MQL: Final = Mapping(
    name="olist-mql",
    description="Olist's marketing-qualified leads (CSV): each first contact is a lead.ingested",
    time="first_contact_date",
    # Days without a time or zone, of a marketplace in São Paulo: the day begins when it begins there.
    time_format="date",
    tz="America/Sao_Paulo",
    type="=lead.ingested",
    lead_id="mql_id",
    workflow="=olist funnel",
)

OLIST_DEALS: Final = Mapping(
    name="olist-deals",
    description="Olist's closed deals (CSV): each deal is a lead.won",
    time="won_date",
    # Local times without a zone, of the same marketplace.
    time_format="%Y-%m-%d %H:%M:%S",
    tz="America/Sao_Paulo",
    type="=lead.won",
    lead_id="mql_id",
    actor="sr_id",
    workflow="=olist funnel",
    outcome="=won",
)

BPIC2012: Final = Mapping(
    name="bpic2012",
    description="BPI Challenge 2012 (Parquet, XES names): loan applications, their offers and work items",
    time="time:timestamp",
    type="loan.{concept:name}",
    lead_id="case:concept:name",
    actor="org:resource",
    workflow="=loan application",
)

OPENSTACK_ACCESS: Final = Mapping(
    name="openstack-access",
    description="OpenStack API requests (Parquet): operations with durations; 5xx is a failure",
    time="timestamp",
    # The logs state no zone; the hosts of the testbed ran on UTC.
    tz="UTC",
    type="=operation",
    actor=_find_user,
    workflow="=openstack",
    operation="{service_log} {method}",
    duration="duration_s",
    outcome="status",
    outcome_values={"5*": "failure", "*": "success"},
    error_type=_name_server_error,
)

OPENSTACK_ERRORS: Final = Mapping(
    name="openstack-errors",
    description="OpenStack error records with tracebacks (JSON Lines, Zstandard): each is an error",
    time="timestamp",
    tz="UTC",
    type="=error",
    workflow="=openstack",
    outcome="=failure",
    operation="logger",
    error_type=_name_exception,
    message="message",
    traceback=_find_traceback,
)

_READY: Final = {
    mapping.name: mapping
    for mapping in (CLOUDTRAIL, OLIST_MQL, OLIST_DEALS, BPIC2012, OPENSTACK_ACCESS, OPENSTACK_ERRORS)
}


def find_mapping(name: str) -> Mapping:
    """Find a ready-made mapping by its name.

    Raises:
        UsageError: If there is none; the message lists them.

    Example:
        >>> find_mapping("cloudtrail").time
        'eventTime'
    """
    try:
        return _READY[name]
    except KeyError:
        known = ", ".join(_READY)
        raise UsageError(f"no ready-made mapping {name!r}: there are {known}, or give a .toml file") from None


def mapping_names() -> dict[str, str]:
    """Give the names of the ready-made mappings, each with one line about it."""
    return {name: mapping.description for name, mapping in _READY.items()}
