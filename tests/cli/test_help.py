"""The help: examples first, exit codes, light, and in step with the documentation."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

import auditkit
from auditkit.cli.declarations import EXIT_CODES, AuditCommand
from auditkit.cli.program import COMMANDS, program
from tests.cli.running import find_wide_lines, run_cli, run_on_terminal, strip_styles

DOCS = Path(__file__).parents[2] / "docs" / "cli.md"

HEAVY = {"pandas", "numpy", "pyarrow", "duckdb", "plotly", "jinja2", "rich", "cryptography", "ipywidgets"}


def load_commands() -> dict[str, click.Command]:
    """Every command by its full name, those of groups too."""
    found: dict[str, click.Command] = {}
    context = click.Context(program)
    for name in COMMANDS:
        command = program.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            found |= {f"{name} {sub}": member for sub, member in command.commands.items()}
        else:
            found[name] = command
    return found


@pytest.mark.parametrize("arguments", [[], ["report"], ["keys"], *(name.split() for name in load_commands())])
def test_help_begins_with_examples_and_fits_the_terminal(arguments: list[str]) -> None:
    """Whoever asks for help wants to see how it's called before how it's specified."""
    finished = run_cli(*arguments, "--help")
    assert (finished.code, finished.err) == (0, "")
    assert finished.out.startswith("Examples:\n")
    assert finished.out.index("Usage: auditkit") > finished.out.index("  auditkit")
    assert "Exit codes:" in finished.out
    assert "\x1b" not in finished.out
    assert find_wide_lines(finished.out) == []
    assert "..." not in finished.out.partition("Commands:")[2]


def test_help_on_a_terminal_has_bold_headings_unless_no_color_is_set() -> None:
    """Headings stand out where they can, and NO_COLOR is honoured."""
    assert "\x1b[1mExamples:" in run_on_terminal("--help").out
    plain = run_on_terminal("--help", env={"NO_COLOR": "1"}).out
    assert "\x1b" not in plain
    assert plain == strip_styles(run_on_terminal("--help").out)


@pytest.mark.parametrize("arguments", [["--help"], ["query", "--help"], ["demo", "--help"], ["--version"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    """Help and version cost an interpreter and click."""
    script = (
        "import json, sys\n"
        "from auditkit.cli.program import run\n"
        f"run({arguments!r})\n"
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})), file=sys.stderr)\n"
    )
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert set(json.loads(finished.stderr)) & HEAVY == set()


def test_examples_parse() -> None:
    """No example names an option or command that isn't there; some lead on to another command."""
    commands = load_commands()
    for name, command in commands.items():
        assert isinstance(command, AuditCommand)
        assert any(f"auditkit {name}" in line for line, _ in command.examples), name
        for line, _ in command.examples:
            call = re.search(r"auditkit (.*)", line)
            assert call is not None, line
            words = re.split(r" (?:\||>|&&) |\)", call[1])[0].split()
            called = commands.get(" ".join(words[:2])) or commands[words[0]]
            options = {word.partition("=")[0] for word in words if word.startswith("--")}
            known = {option for parameter in called.params for option in parameter.opts}
            assert options <= known, f"{name}: {options - known}"


def test_the_group_lists_every_command_module() -> None:
    """A command that exists is in the help, though the group imports none."""
    folder = Path(str(importlib.import_module("auditkit.cli.commands").__file__)).parent
    modules = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    assert modules == {"ingest" if name == "import" else name.replace("-", "_") for name in COMMANDS}


def test_version_is_the_packages() -> None:
    """``--version`` says which auditkit this is."""
    assert run_cli("--version").out == f"auditkit {auditkit.__version__}\n"


@pytest.mark.parametrize("name", load_commands())
def test_documentation_has_every_command_and_option(name: str) -> None:
    """Each command has a section, and each of its options is in that section or the shared one."""
    text = DOCS.read_text()
    sections = dict(re.findall(r"(?ms)^## ([^\n]+)\n(.*?)(?=^## |\Z)", text))
    assert name in sections
    shared = sections["What all commands share"]
    options = {option for p in load_commands()[name].params for option in p.opts if option.startswith("--")}
    missing = {option for option in options if option not in sections[name] and f"`{option}" not in shared}
    assert missing == set()
    rows = re.findall(r"(?m)^\| (`--(?:\\\||[^|])*)\|", sections[name])
    assert set(re.findall(r"--[a-z][a-z-]+", " ".join(rows))) <= options


def test_documentation_has_every_exit_code() -> None:
    """The codes of the documentation are those of the program."""
    documented = [int(code) for code in re.findall(r"(?m)^\| (\d+) \|", DOCS.read_text())]
    assert documented == [int(code) for code, _ in EXIT_CODES]
