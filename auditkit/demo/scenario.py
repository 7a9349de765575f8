"""What happens in the demo's week, made from a seed. Pure: the same seed, time and size give the same week.

A sales automation receives leads from a website, advertisements, partners, a trade fair and a win-back
campaign. A lead is ingested, enriched and scored, qualified or rejected, routed to a team, created in the CRM
and mailed in a sequence, until it answers or the sequence ends. The week has a story that the reports should
show:

- the day's rhythm, with a dip at lunch and quiet nights and weekends;
- ``crm.sync``, every few minutes, gets slower from day to day until it runs into its deadline;
- on a working day, two to four days ago, the CRM was down for 42 minutes; the workflow ``win-back`` was
  stopped, and creations were retried;
- yesterday morning the CRM limited requests;
- forms hold what forms hold: addresses that aren't, missing fields, spam with formulas, markup and escape
  sequences.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from random import Random
from typing import Any, Final

from auditkit.demo.services import SYNC_DEADLINE

DAYS: Final = 7
"""Days of the scenario, today included."""

WORKERS: Final = 4
"""Processes that record it: three for leads, one for the schedule."""

SCHEDULER: Final = WORKERS - 1
"""The worker that synchronises, deploys and watches."""

_HOURS: Final = (
    0.04, 0.03, 0.03, 0.03, 0.04, 0.06, 0.14, 0.38, 0.85, 1.25, 1.35, 1.15,
    0.36, 0.62, 1.15, 1.20, 1.05, 0.70, 0.42, 0.30, 0.28, 0.22, 0.12, 0.06,
)  # fmt: skip
"""Leads an hour against the average of a working day, by UTC hour."""

_WEEKDAYS: Final = (1.0, 1.12, 1.06, 1.0, 0.86, 0.26, 0.22)
"""Leads a day against the average of a working day, from Monday."""


@dataclass(frozen=True)
class _Workflow:
    name: str
    source: str
    share: float
    qualifies: float
    steps: int


_WORKFLOWS: Final = (
    _Workflow("inbound-web", "webform", 0.44, 0.66, 3),
    _Workflow("paid-social", "linkedin-ads", 0.21, 0.48, 3),
    _Workflow("partner-referral", "partner-portal", 0.15, 0.84, 2),
    _Workflow("trade-fair", "badge-scan", 0.10, 0.58, 2),
    _Workflow("win-back", "crm-segment", 0.10, 0.72, 3),
)

_FIRST = (
    "Ana", "Bram", "Chidi", "Dana", "Elif", "Farid", "Greta", "Hugo", "Ines", "Jonas", "Kaoru", "Lena",
    "Mateo", "Nadia", "Olga", "Priya", "Quentin", "Rosa", "Søren", "Tomás", "Uma", "Václav", "Wen",
    "Ximena", "Yusuf", "Zoë",
)  # fmt: skip
_LAST = (
    "Almeida", "Bakker", "Castillo", "Dubois", "Eriksen", "Fischer", "García", "Haddad", "Ivanova",
    "Jansen", "Kowalski", "Lindqvist", "Moreau", "Nakamura", "Okafor", "Petrov", "Quirke", "Rossi",
    "Şahin", "Tanaka", "Urbán", "Vogel", "Weiss", "Xu", "Yılmaz", "Zieliński",
)  # fmt: skip
_COMPANIES = (
    "Northwind Freight", "Aurora Dental", "Brickyard Labs", "Cobalt Foods", "Delta Tooling",
    "Evergreen Optics", "Fernhill Textiles", "Granite Software", "Harbour Logistics", "Ironbark Energy",
    "Juniper Clinics", "Kestrel Avionics", "Lantern Books", "Meridian Pumps", "Nimbus Hosting",
    "Orchard Robotics", "Pinnacle Glass", "Quarry Analytics", "Redwood Furniture", "Solstice Travel",
)  # fmt: skip
_COUNTRIES = ("DE", "AT", "CH", "SE", "NO", "DK", "ES", "PT", "FR", "NL", "PL", "CZ", "GB", "IE")
_SIZES = ("1-10", "11-50", "51-200", "201-1000", "1000+")
_SALES = ("m.ferreira", "s.lindqvist", "j.okafor", "k.weber")
_SUBJECTS = (
    "Your request, and what happens next",
    "Three questions about {company}",
    "Is this still on your desk?",
)
_TEAMS = (
    (("DE", "AT", "CH"), "team-dach", "country in (DE, AT, CH)"),
    (("SE", "NO", "DK"), "team-nordics", "country in (SE, NO, DK)"),
    (("ES", "PT", "FR"), "team-iberia", "country in (ES, PT, FR)"),
)
_REJECTIONS = (
    "budget below 5,000",
    "company of fewer than 10",
    "outside the regions served",
    "duplicate of {other}",
    "no answer to the follow-up question",
)
_SPAM = (
    ('=HYPERLINK("http://prize.example/claim","Invoice overdue")', "=cmd|' /C calc'!A0"),
    ("<script>alert('hello')</script>", "<img src=x onerror=alert(1)>"),
    ("\x1b]0;owned\x07\x1b[31mAna", "\u202egpj.eciovni\u202c"),
)

Story = Iterator["Step"]


@dataclass(frozen=True)
class Step:
    """One thing that happens.

    Attributes:
        time: When.
        worker: Which process does it.
        type: Event type.
        actor: Who or what does it.
        lead_id: The lead it concerns.
        workflow: The workflow it belongs to.
        details: Details of the event.
        outcome: Outcome, if the step's call doesn't decide it.
        operation: Operation that is measured.
        duration: How long it takes, in seconds.
        call: The service that is called for it: ``"crm.create"``, ``"crm.sync"``, ``"mail.send"``,
            ``"lead.score"``.
        arguments: What it is called with.
        message: Message of a log record.
    """

    time: datetime
    worker: int
    type: str
    actor: str
    lead_id: str | None = None
    workflow: str | None = None
    details: Mapping[str, Any] | None = None
    outcome: str | None = None
    operation: str | None = None
    duration: float | None = None
    call: str | None = None
    arguments: Mapping[str, Any] | None = None
    message: str | None = None


def compose_week(seed: int, now: datetime, events: int) -> list[Step]:
    """Make the week up to now.

    Args:
        seed: Seed of everything that is left to chance.
        now: The moment the week ends, with a time zone.
        events: About how many events to make; at least a few dozen come out.

    Returns:
        The steps, ordered by time, none later than ``now``.

    Example:
        >>> week = compose_week(1, datetime(2026, 11, 24, 16, tzinfo=UTC), 500)
        >>> len(week) >= 500, week == sorted(week, key=lambda step: step.time)
        (True, True)
        >>> week == compose_week(1, datetime(2026, 11, 24, 16, tzinfo=UTC), 500)
        True
    """
    return sorted(_Week(seed, now, events).compose(), key=lambda step: step.time)


class _Week:
    def __init__(self, seed: int, now: datetime, events: int) -> None:
        self._random = Random(seed)
        self._now = now.astimezone(UTC)
        self._events = events
        today = self._now.replace(hour=0, minute=0, second=0, microsecond=0)
        self._start = today - timedelta(days=DAYS - 1)
        outage = today - timedelta(days=2)
        while outage.weekday() >= 5:
            outage -= timedelta(days=1)
        self._outage = (outage + timedelta(hours=14, minutes=7), outage + timedelta(hours=14, minutes=49))
        limit = today - timedelta(days=1)
        self._limit = (limit + timedelta(hours=10), limit + timedelta(hours=10, minutes=20))

    def compose(self) -> list[Step]:
        scheduled = [*self._list_schedule(), *self._list_syncs(), *self._list_notices()]
        steps = [step for step in scheduled if step.time <= self._now]
        hours = [self._start + timedelta(hours=n) for n in range(math.ceil((self._now - self._start) / _HOUR))]
        weights = list(accumulate(_HOURS[hour.hour] * _WEEKDAYS[hour.weekday()] for hour in hours))
        number = 0
        while len(steps) < self._events or number < len(_SPAM) + 3:
            hour = self._random.choices(hours, cum_weights=weights)[0]
            arrival = hour + timedelta(seconds=self._random.uniform(0, 3600))
            story = self._tell_spam(number, arrival) if number < len(_SPAM) else self._tell_lead(number, arrival)
            steps += [step for step in story if step.time <= self._now]
            number += 1
        return steps

    # -- leads ---------------------------------------------------------------------------------------------

    def _tell_lead(self, number: int, arrival: datetime) -> Story:
        chance = self._random
        workflow = chance.choices(_WORKFLOWS, [w.share for w in _WORKFLOWS])[0]
        lead, data = f"L-{10_000 + number}", self._make_data()
        common: dict[str, Any] = {"worker": number % SCHEDULER, "lead_id": lead, "workflow": workflow.name}
        time = arrival
        details = {"source": workflow.source, "data": data}
        yield Step(time, type="lead.ingested", actor=workflow.source, details=details, **common)
        time += self._pause(1, 8)
        yield Step(
            time,
            type="operation",
            actor="enricher",
            operation="lead.enrich",
            duration=self._last(0.24, 0.6),
            **common,
        )
        time += self._pause(1, 4)
        broken = "employees" not in data or not data["budget"].isdigit()
        if broken:
            # The scoring fails, a person looks at the lead some hours later.
            yield Step(time, type="error", actor="scorer", call="lead.score", arguments={"data": data}, **common)
            time = self._wait_for_office(time + self._pause(1800, 14_400))
        qualified = chance.random() < workflow.qualifies
        reason = "score " + str(chance.randint(55, 98))
        if not qualified:
            reason = chance.choice(_REJECTIONS).format(other=f"L-{10_000 + chance.randrange(number + 1)}")
        yield Step(
            time,
            type="lead.qualified",
            actor=chance.choice(_SALES) if broken else "scorer",
            details={"qualified": qualified, "reason": reason},
            outcome="qualified" if qualified else "rejected",
            **common,
        )
        if qualified:
            yield from self._tell_sale(time, workflow, data, common)

    def _tell_sale(self, time: datetime, workflow: _Workflow, data: dict[str, Any], common: dict[str, Any]) -> Story:
        chance = self._random
        team, condition = _choose_team(data["country"])
        time += self._pause(1, 20)
        routed = {"destination": team, "condition": condition}
        yield Step(time, type="lead.routed", actor="router", details=routed, **common)
        made = None
        for wait in (2, 300, 1800, 7200):
            time += self._pause(wait, wait * 1.3)
            trouble = self._find_trouble(time)
            yield Step(
                time,
                type="operation",
                actor="crm-bot",
                operation="crm.create",
                duration=self._last(0.42, 0.5) * (8 if trouble == "outage" else 1),
                call="crm.create",
                arguments={"lead_id": common["lead_id"], "data": data, "trouble": trouble},
                **common,
            )
            if "@" not in data["email"]:
                break
            if trouble is None:
                made = f"C-{chance.randrange(1_000_000):06d}"
                break
        if made is None:
            arguments = {"lead_id": common["lead_id"], "data": data, "trouble": self._find_trouble(time)}
            yield Step(time, type="error", actor="crm-bot", call="crm.create", arguments=arguments, **common)
            return
        time += self._pause(0.2, 1)
        created = {"crm_id": made, "crm_type": "contact"}
        yield Step(time, type="crm.created", actor="crm-bot", details=created, **common)
        yield from self._tell_mails(time, workflow, data, made, common)

    def _tell_mails(
        self, time: datetime, workflow: _Workflow, data: dict[str, Any], crm_id: str, common: dict[str, Any]
    ) -> Story:
        chance, recipient = self._random, data["email"]
        time += self._pause(1, 30)
        scheduled = {"recipient": recipient, "length": workflow.steps}
        yield Step(time, type="email.scheduled", actor="mailer", details=scheduled, **common)
        unknown = chance.random() < 0.025
        for step in range(1, workflow.steps + 1):
            time += self._pause(240, 1500) if step == 1 else timedelta(days=step - 1) * chance.uniform(0.9, 1.2)
            subject = _SUBJECTS[(step - 1) % len(_SUBJECTS)].format(company=data["company"])
            arguments = {"recipient": recipient, "subject": subject, "unknown": unknown, "busy": False}
            if not unknown and chance.random() < 0.008:
                yield self._send(time, {**arguments, "busy": True}, common)
                time += timedelta(minutes=1)
            yield self._send(time, arguments, common)
            if unknown:
                yield self._cancel(time + self._pause(1, 5), recipient, "bounced", common)
                return
            sent = {"recipient": recipient, "subject": subject, "step": step}
            yield Step(time + self._pause(0.2, 1), type="email.sent", actor="mailer", details=sent, **common)
            if chance.random() < 0.2:
                time = self._wait_for_office(time + self._pause(1200, 40_000))
                answered = chance.random() < 0.85
                reason = "replied" if answered else "unsubscribed"
                if step < workflow.steps:
                    yield self._cancel(time, recipient, reason, common)
                if answered:
                    person = chance.choice(_SALES)
                    fields = {"stage": "contacted", "owner": person, "score": chance.randint(60, 99)}
                    update = {"crm_id": crm_id, "fields": fields}
                    later = self._wait_for_office(time + self._pause(300, 9000))
                    yield Step(later, type="crm.updated", actor=person, details=update, **common)
                return

    def _send(self, time: datetime, arguments: dict[str, Any], common: dict[str, Any]) -> Step:
        return Step(
            time,
            type="operation",
            actor="mailer",
            operation="mail.send",
            duration=self._last(0.17, 0.7),
            call="mail.send",
            arguments=arguments,
            **common,
        )

    def _cancel(self, time: datetime, recipient: str, reason: str, common: dict[str, Any]) -> Step:
        details = {"recipient": recipient, "reason": reason}
        return Step(time, type="email.cancelled", actor="mailer", details=details, outcome="cancelled", **common)

    def _tell_spam(self, number: int, arrival: datetime) -> Story:
        name, company = _SPAM[number]
        lead = f"L-{10_000 + number}"
        common: dict[str, Any] = {"worker": number % SCHEDULER, "lead_id": lead, "workflow": "inbound-web"}
        data = {"name": name, "company": company, "email": "prize@spam.example", "budget": "1"}
        details = {"source": "webform", "data": data}
        yield Step(arrival, type="lead.ingested", actor="webform", details=details, **common)
        rejected = {"qualified": False, "reason": "spam"}
        time = arrival + self._pause(2, 9)
        yield Step(time, type="lead.qualified", actor="scorer", details=rejected, outcome="rejected", **common)

    def _make_data(self) -> dict[str, Any]:
        chance = self._random
        first, last, company = chance.choice(_FIRST), chance.choice(_LAST), chance.choice(_COMPANIES)
        address = f"{_fold(first)}.{_fold(last)}@{_fold(company).replace(' ', '-')}.example"
        data: dict[str, Any] = {"name": f"{first} {last}", "company": company, "email": address}
        data["country"] = chance.choices(_COUNTRIES, [5, 2, 2, 3, 2, 2, 3, 1, 3, 2, 2, 1, 3, 1])[0]
        data["employees"] = chance.choices(_SIZES, [2, 4, 5, 3, 1])[0]
        data["budget"] = str(chance.choice((2, 5, 8, 12, 20, 35, 60)) * 1000)
        accident = chance.random()
        if accident < 0.008:
            del data["employees"]
        elif accident < 0.015:
            data["budget"] = "ca. " + data["budget"]
        elif accident < 0.025:
            data["email"] = address.replace("@", " at ")
        return data

    # -- what happens on schedule --------------------------------------------------------------------------

    def _list_schedule(self) -> Story:
        """Workflows start with each working day's deployment, and stop before it."""
        for day in range(DAYS):
            date = self._start + timedelta(days=day)
            if date.weekday() >= 5:
                continue
            release = f"deploy {date:%Y.%m.%d}"
            for place, workflow in enumerate(_WORKFLOWS):
                time = date + timedelta(hours=5, minutes=58, seconds=7 * place)
                yield self._note_workflow(time, workflow.name, "workflow.stopped", {"reason": release}, "deployer")
                started = {"release": f"{date:%Y.%m.%d}"}
                yield self._note_workflow(
                    time + timedelta(seconds=50), workflow.name, "workflow.started", started, "deployer"
                )
        down, up = self._outage
        pause = {"reason": "CRM unavailable"}
        minutes = timedelta(minutes=6)
        yield self._note_workflow(down + minutes, "win-back", "workflow.stopped", pause, "j.okafor")
        yield self._note_workflow(up + minutes, "win-back", "workflow.started", {"by": "j.okafor"}, "j.okafor")

    def _note_workflow(self, time: datetime, workflow: str, type: str, details: Mapping[str, Any], actor: str) -> Step:
        return Step(time, SCHEDULER, type, actor, workflow=workflow, details=details)

    def _list_syncs(self) -> Story:
        """The CRM's synchronisation gets slower: its median is about 1 s a week ago, more than 10 s today."""
        week = timedelta(days=DAYS)
        period = max(timedelta(minutes=2), week / max(1, int(self._events * 0.085)))
        time = self._start + period / 2
        while time <= self._now:
            growth = 1.1 * math.exp(2.6 * ((time - self._start) / week) ** 2)
            busy = 1 + 0.35 * min(1.0, _HOURS[time.hour] * _WEEKDAYS[time.weekday()])
            trouble = self._find_trouble(time)
            seconds = 0.4 if trouble == "outage" else self._last(growth * busy, 0.42)
            yield Step(
                time,
                SCHEDULER,
                "operation",
                "crm-bot",
                operation="crm.sync",
                duration=min(seconds, SYNC_DEADLINE + self._random.uniform(0.01, 0.2)),
                call="crm.sync",
                arguments={"seconds": seconds, "trouble": trouble},
                details={"cursor": int(time.timestamp())},
            )
            time += period * self._random.uniform(0.9, 1.1)

    def _list_notices(self) -> Story:
        """Log records of the application: a warning in each night, and what a person noted."""
        for day in range(DAYS):
            night = self._start + timedelta(days=day, hours=2, minutes=self._random.randint(0, 59))
            free = 41 - 4 * day
            yield self._note(night, "WARNING", "backup", f"backup done; {free} % of the volume is free")
            if self._start.weekday() + day in (0, 7):
                yield self._note(night + timedelta(hours=1), "INFO", "backup", "weekly backup verified by a restore")
        for watch in range(DAYS * 6):
            time = self._start + timedelta(hours=4 * watch, minutes=self._random.randint(1, 9))
            queued = self._random.randint(0, 40)
            yield self._note(time, "INFO", "queue", f"{WORKERS} workers alive, {queued} jobs queued")
        for slow in range(3):
            time = self._now - timedelta(hours=1 + 7 * slow, minutes=11 * slow)
            yield self._note(time, "WARNING", "crm", "crm.sync is close to its deadline of 30 s")

    def _note(self, time: datetime, level: str, logger: str, message: str) -> Step:
        details = {"level": level, "logger": f"fjordline.{logger}"}
        return Step(time, SCHEDULER, "log", "scheduler", details=details, message=message)

    # -- chance --------------------------------------------------------------------------------------------

    def _find_trouble(self, time: datetime) -> str | None:
        if self._outage[0] <= time < self._outage[1]:
            return "outage" if self._random.random() < 0.9 else None
        if self._limit[0] <= time < self._limit[1]:
            return "rate limit" if self._random.random() < 0.6 else None
        return "truncated" if self._random.random() < 0.002 else None

    def _pause(self, low: float, high: float) -> timedelta:
        return timedelta(seconds=self._random.uniform(low, high))

    def _last(self, median: float, spread: float) -> float:
        """Draw a duration in seconds; durations are about log-normal."""
        return median * math.exp(self._random.gauss(0, spread))

    def _wait_for_office(self, time: datetime) -> datetime:
        """Move a time at which nobody works to the next morning."""
        while not (8 <= time.hour < 18 and time.weekday() < 5):
            if time.hour >= 18 or time.hour >= 8:
                time += timedelta(days=1)
            time = time.replace(hour=8, minute=self._random.randint(2, 50))
        return time


_HOUR: Final = timedelta(hours=1)


def _choose_team(country: str) -> tuple[str, str]:
    for countries, team, condition in _TEAMS:
        if country in countries:
            return team, condition
    return "team-international", "otherwise"


def _fold(text: str) -> str:
    """Make a mailbox name: ASCII, lower case."""
    import unicodedata

    plain = unicodedata.normalize("NFKD", text.replace("ø", "o").replace("ı", "i").replace("ł", "l"))
    return "".join(c for c in plain if c.isascii()).lower()
