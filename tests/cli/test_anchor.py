"""``auditkit anchor`` and ``auditkit integrity --against`` as real processes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.anchoring.servers import SECRET_PATH, Reply, closed_port, serve
from tests.anchoring.witnesses import running_witness
from tests.cli.running import find_unprintable, find_wide_lines, run_cli, run_on_terminal, strip_styles
from tests.keyed import Keyed, make_keyed


@pytest.fixture
def site(tmp_path: Path) -> Keyed:
    """A sealed store."""
    site = make_keyed(tmp_path / "site")
    site.record()
    site.seal()
    return site


def options(site: Keyed) -> list[str]:
    return ["--store", str(site.path), "--key-file", str(site.key_file)]


def find_public(site: Keyed) -> str:
    return run_cli("keys", "export-public", *options(site)).out.strip()


def test_without_a_place_the_checkpoint_is_printed(site: Keyed, tmp_path: Path) -> None:
    """Byte for byte, so that it can be kept; what was kept is compared later."""
    shown = run_cli("anchor", *options(site))
    assert (shown.code, shown.out) == (0, site.open().checkpoint())
    kept = tmp_path / "kept"
    kept.write_text(shown.out)
    assert run_cli("integrity", "--no-pin", "--against", kept, *options(site)).code == 0
    assert run_cli("anchor", "--store", tmp_path / "none").code != 0
    unsealed = make_keyed(tmp_path / "unsealed")
    refused = run_cli("anchor", *options(unsealed))
    assert (refused.code, refused.out) == (2, "")
    assert "auditkit seal" in refused.err


def test_each_place_gets_it_and_says_so(site: Keyed, tmp_path: Path) -> None:
    """A witness, a file and a webhook, each a line on the terminal; as JSON with the cosigned note."""
    with running_witness([find_public(site)]) as witness, serve(lambda _request: Reply(200)) as hook:
        places = ["--witness", f"{witness.vkey}={witness.url}", "--file", str(tmp_path / "c.txt")]
        places += ["--webhook", hook.url + SECRET_PATH]
        shown = run_on_terminal("anchor", *places, *options(site))
        assert shown.code == 0, shown.out + shown.err
        plain = strip_styles(shown.out)
        assert find_unprintable(plain) == []
        assert [line.split()[1] for line in plain.splitlines()[1:]] == ["published"] * 3
        again = run_cli("anchor", "--format", "json", *places, *options(site))
        document = json.loads(again.out)
    assert (document["ok"], document["commit"]) == (True, 1)
    assert document["checkpoint"] == site.open().checkpoint()
    assert [result["kind"] for result in document["results"]] == ["witness", "file", "webhook"]
    assert "T0PSECRET" not in shown.out + shown.err + again.out + again.err
    assert len(hook.requests) == 2


def test_a_place_that_fails_is_an_input_output_error(site: Keyed, tmp_path: Path) -> None:
    """The others have it; the exit code tells a script."""
    with closed_port() as dead, serve(lambda _request: Reply(404)) as hook:
        shown = run_cli(
            "anchor", "--webhook", hook.url + SECRET_PATH, "--webhook", f"{dead}/x", "--file", tmp_path / "c.txt",
            *options(site),
        )  # fmt: skip
    assert shown.code == 4
    assert shown.out.count("FAILED") == 2
    assert shown.out.count("published") == 1
    assert "404" in shown.err
    assert "T0PSECRET" not in shown.out + shown.err
    assert (tmp_path / "c.txt").exists()


def test_a_witness_that_knows_more_is_evidence(site: Keyed, tmp_path: Path) -> None:
    """Exit code 1, the word CONFLICT, and what it means."""
    older = site.copy(tmp_path / "older")
    site.record()
    site.seal()
    with running_witness([find_public(site)]) as witness:
        place = f"{witness.vkey}={witness.url}"
        assert run_cli("anchor", "--witness", place, *options(site)).code == 0
        shown = run_cli("anchor", "--witness", place, *options(older))
        assert shown.code == 1
        assert "CONFLICT" in shown.out
        assert "rolled back" in shown.err.replace("\n", " ")
        document = json.loads(run_cli("anchor", "--witness", place, "--format", "json", *options(older)).out)
    assert (document["ok"], document["results"][0]["conflict"]) == (False, True)


def test_a_place_that_cannot_be_meant_is_a_usage_error(site: Keyed) -> None:
    """Nothing is published."""
    for arguments in (
        ["--witness", "https://w.example"], ["--webhook", "http://example.org"], ["--file", str(site.path / "c.txt")],
        ["--file", str(site.key_file)], ["--timestamp", "x"],
    ):  # fmt: skip
        shown = run_cli("anchor", *arguments, *options(site))
        assert shown.code == 2, shown.err
        assert "Traceback" not in shown.err


def test_a_rolled_back_store_is_found_by_default(site: Keyed, tmp_path: Path) -> None:
    """It was seen at one verification: an older copy exits with 1; --no-pin and --repin are for who knows why."""
    backup = tmp_path / "backup"
    shutil.copytree(site.path, backup)
    site.record()
    site.seal()
    assert run_cli("integrity", *options(site)).code == 0
    shutil.rmtree(site.path)
    shutil.copytree(backup, site.path)
    shown = run_on_terminal("integrity", *options(site))
    assert shown.code == 1
    assert "rolled_back" in shown.out or "rolled back" in shown.out
    assert find_unprintable(strip_styles(shown.out)) == []
    assert run_cli("integrity", "--no-pin", *options(site)).code == 0
    assert run_cli("integrity", "--no-pin", "--repin", *options(site)).code == 2
    assert run_cli("integrity", *options(site)).code == 1
    assert run_cli("integrity", "--repin", *options(site)).code == 0
    assert run_cli("integrity", *options(site)).code == 0


def test_several_kept_checkpoints_are_compared(site: Keyed, tmp_path: Path) -> None:
    """Each by its file; one that holds none is a usage error, and so is one that isn't there."""
    for number in range(2):
        assert run_cli("anchor", "--file", tmp_path / f"c{number}", *options(site)).code == 0
        site.record()
        site.seal()
    against = ["--against", str(tmp_path / "c0"), "--against", str(tmp_path / "c1")]
    verdict = json.loads(run_cli("integrity", "--no-pin", "--format", "json", *against, *options(site)).out)
    assert [anchor["status"] for anchor in verdict["anchors"]] == ["ok", "ok"]
    (tmp_path / "empty").touch()
    for name in ("empty", "none"):
        assert run_cli("integrity", "--no-pin", "--against", tmp_path / name, *options(site)).code in (2, 4)


def test_help_fits_a_terminal() -> None:
    """Examples first, within 80 columns."""
    shown = run_on_terminal("anchor", "--help")
    assert shown.code == 0
    assert find_wide_lines(strip_styles(shown.out)) == []
