"""What a report says, as plain values: the only thing that a template sees.

Every text in here is fit to show (cleaned and cut) and not yet HTML: the templates escape. What came from
events can be in any text but those of `Page.title`, `Section.title`, `Section.key` and `Chart.key`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Tone = Literal["plain", "good", "bad", "warn"]
"""How a value is coloured; there is always a sign or a word that says the same."""


@dataclass(frozen=True)
class Chart:
    """A figure.

    Attributes:
        key: Name of its place in the page: letters and hyphens.
        caption: What it shows, for people who don't see it.
        figure: The plotly figure as JSON.
        height: Pixels.
    """

    key: str
    caption: str
    figure: str
    height: int


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        label: Its head.
        kind: ``text``, ``code`` (a name or an id, in a fixed-width face), ``number`` (to the right) or
            ``long``.
    """

    label: str
    kind: Literal["text", "code", "number", "long"] = "text"


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: What stands there.
        tone: Its colour.
    """

    text: str
    tone: Tone = "plain"


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        caption: What it shows.
        columns: Its columns.
        rows: Its cells, row by row.
        note: What isn't in it, such as "showing 200 of 48,211".
        display: ``open``; ``scrolling``, in a window of its own on a screen; or ``folded`` behind its caption.
    """

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""
    display: Literal["open", "scrolling", "folded"] = "open"


@dataclass(frozen=True)
class Fold:
    """A text that is folded away behind its title.

    Attributes:
        title: What it is.
        text: The text, with its line ends.
    """

    title: str
    text: str


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        key: Its anchor: letters and hyphens.
        title: Its heading.
        intro: A sentence under the heading.
        charts: Its charts.
        table: Its table.
        folds: Texts folded away.
        wide: Whether charts and table stand below each other rather than side by side.
    """

    key: str
    title: str
    intro: str = ""
    charts: tuple[Chart, ...] = ()
    table: Table | None = None
    folds: tuple[Fold, ...] = ()
    wide: bool = False


@dataclass(frozen=True)
class Figure:
    """A key figure.

    Attributes:
        label: What it is.
        value: The figure with its unit.
        change: Its change against the day before.
        tone: Whether the change is a good or a bad one.
    """

    label: str
    value: str
    change: str = ""
    tone: Tone = "plain"


@dataclass(frozen=True)
class Fact:
    """A piece of provenance.

    Attributes:
        label: What it is.
        value: Its text.
    """

    label: str
    value: str


@dataclass(frozen=True)
class Verdict:
    """Whether the record can be believed.

    Attributes:
        tone: ``good``, ``bad`` or ``warn``.
        sign: One character that says the same as the colour.
        headline: The verdict in a few words.
        sentence: What was checked, and what it means.
        facts: Where the figures come from.
        findings: What was found wrong, if anything.
        notes: What could not be proved, a sentence each.
        checkpoint: The signed note of the newest commit, or empty.
    """

    tone: Tone
    sign: str
    headline: str
    sentence: str
    facts: tuple[Fact, ...]
    findings: Table | None = None
    notes: tuple[str, ...] = ()
    checkpoint: str = ""


@dataclass(frozen=True)
class Page:
    """A whole report.

    Attributes:
        title: For the window and the top of the page.
        kicker: What kind of report it is.
        subtitle: The range and the time zone.
        verdict: Whether the record can be believed.
        figures: The key figures.
        compared: What the changes are measured against.
        sections: The parts, empty ones left out.
        method: How this was computed, a sentence each.
        python: The Python line that makes the report again.
        cli: The line for the shell that makes it again.
        footer: The program and the moment that made it.
    """

    title: str
    kicker: str
    subtitle: str
    verdict: Verdict
    figures: tuple[Figure, ...]
    compared: str
    sections: tuple[Section, ...]
    method: tuple[str, ...]
    python: str
    cli: str
    footer: str
