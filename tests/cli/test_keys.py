"""``auditkit keys`` as a real process: no secret is shown, but the root of a forward-secure store, once."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

import auditkit
from auditkit.cli.inputs import read_public_key
from auditkit.errors import KeyProblem, UsageError
from auditkit.store.keyring import FORWARD_SECURE, ORDINARY, KeyFile
from tests.cli.running import COMMAND, find_unprintable, find_wide_lines, run_cli, run_on_terminal, strip_styles
from tests.keyed import MODES, Keyed, make_keyed
from tests.sealing.sealers import find_strace


def list_secrets(*paths: Path) -> set[str]:
    """List what must not be shown: every key in these files."""
    found = (word for path in paths if path.exists() for word in path.read_text().split('"'))
    return {word for word in found if len(word) == 64}


def options(site: Keyed) -> list[str]:
    return ["--store", str(site.path), "--key-file", str(site.key_file)]


def init(folder: Path, *arguments: str | Path, **env: str) -> tuple[int, str, str]:
    shown = run_cli("keys", "init", "--store", folder / "audit", *arguments, cwd=folder, env=env)
    assert "Traceback" not in shown.err
    return shown.code, shown.out, shown.err


@pytest.fixture(params=MODES)
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Keyed:
    """A sealed store of either kind."""
    site = make_keyed(tmp_path / "site", request.param)
    site.record()
    site.seal()
    return site


def test_an_ordinary_store_is_made_with_its_key(tmp_path: Path, isolated_user: Path) -> None:
    """In the user's key folder; nothing goes to standard output, and a second time there is a store already."""
    code, out, err = init(tmp_path)
    [key] = (isolated_user / ".local" / "share" / "auditkit" / "keys").glob("*.key")
    assert (code, out) == (0, "")
    assert str(key) in err.replace("\n", "")
    assert "ordinary" in err
    assert not any(secret in err for secret in list_secrets(key))
    with auditkit.AuditLogger(tmp_path / "audit", enable_rotation=False) as audit:
        audit.log_event("x")
    code, _, err = init(tmp_path)
    assert code == 4
    assert "expected no store" in err


def test_a_root_is_shown_once(tmp_path: Path) -> None:
    """On standard output, so that it can be written to a stick; the machine's file hasn't got it, and it verifies."""
    key = tmp_path / "k" / "store.key"
    code, out, err = init(tmp_path, "--forward-secure", "--key-file", key)
    assert code == 0, err
    root = json.loads(out)["roots"][0][1]
    assert root not in err
    assert root not in key.read_text()
    (tmp_path / "root.key").write_text(out)
    (tmp_path / "root.key").chmod(0o600)
    with auditkit.AuditLogger(tmp_path / "audit", key_file=key, enable_rotation=False) as audit:
        audit.log_event("x")
    for args in (["--key-file", str(key)], ["--key-file", str(tmp_path / "root.key")]):
        shown = run_cli("integrity", "--no-pin", "--store", tmp_path / "audit", *args)
        assert shown.code == 0, shown.out
        assert root not in shown.out + shown.err
    assert "lies offline" not in shown.out


def test_a_root_file_is_written_and_not_shown(tmp_path: Path) -> None:
    """Where a file is, or in the store, or in the key file's place, no root is put, and no store made."""
    key, root = tmp_path / "store.key", tmp_path / "root.key"
    (tmp_path / "there").write_text("mine")
    refused = {
        tmp_path / "there": 3,
        tmp_path / "audit" / "root.key": 3,
        tmp_path / "no" / "root.key": 3,
        key: 3,
    }
    for place, expected in refused.items():
        code, out, err = init(tmp_path, "--forward-secure", "--root-file", place, "--key-file", key)
        assert (code, out) == (expected, ""), err
        assert not (tmp_path / "audit" / "store.json").exists()
        key.unlink(missing_ok=True)
    code, out, err = init(tmp_path, "--forward-secure", "--root-file", root, "--key-file", key)
    assert (code, out) == (0, ""), err
    assert not any(secret in err for secret in list_secrets(key, root))
    assert KeyFile(root).key_id == KeyFile(key).key_id
    assert run_cli("keys", "init", "--root-file", root, "--store", tmp_path / "new").code == 2


def test_a_root_that_standard_output_does_not_take_makes_no_store(tmp_path: Path) -> None:
    """A full disk behind ``>``: the key would be one whose root nobody has."""
    key = tmp_path / "store.key"
    command = [*COMMAND, "keys", "init", "--forward-secure", "--store", str(tmp_path / "audit"), "--key-file", str(key)]
    with Path("/dev/full").open("wb") as full:
        finished = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert finished.returncode == 3
    assert "standard output" in finished.stderr
    assert "--root-file" in finished.stderr
    assert "Traceback" not in finished.stderr
    assert not key.exists()
    assert not (tmp_path / "audit" / "store.json").exists()


def test_a_secret_or_another_key_in_the_environment_makes_no_forward_secure_store(tmp_path: Path) -> None:
    """It would have been taken for the store's, and no root put away: the message names the variable."""
    secret = "a secret that only this test knows"
    root = tmp_path / "root.key"
    other = make_keyed(tmp_path / "other")
    for env in ({"AUDITKIT_KEY": secret}, {"AUDITKIT_KEY_FILE": str(other.key_file)}):
        code, out, err = init(tmp_path, "--forward-secure", "--root-file", root, **env)
        assert code in (2, 3)
        assert out == ""
        assert "AUDITKIT_KEY" in err or str(other.key_file) in err.replace("\n", "")
        assert secret not in err
        assert not root.exists()
        assert not (tmp_path / "audit" / "store.json").exists()
        assert init(tmp_path, **env)[0] == code
    code, _, err = init(tmp_path, "--forward-secure", "--root-file", root, AUDITKIT_KEY_FILE=str(tmp_path / "new.key"))
    assert code == 0, err
    assert (KeyFile(tmp_path / "new.key").mode, KeyFile(root).mode) == (FORWARD_SECURE, "offline")


def test_what_is_shown_of_keys_is_no_secret(site: Keyed) -> None:
    """As a table in 80 columns and as JSON, before a rotation and after it; of the offline file too."""
    for rotated in (False, True):
        if rotated:
            site.rotate()
        shown = run_cli("keys", "show", "--format", "json", *options(site))
        facts = json.loads(shown.out)
        state = json.loads(site.key_file.read_bytes())
        assert (facts["store"], facts["key"], facts["kind"]) == (site.store_id, site.key.key_id, site.key.mode)
        assert (facts["drawn"], facts["file"]) == (state["n"], str(site.key_file))
        assert facts["public_key"] == json.loads((site.path / "store.json").read_bytes())["public_key"]
        assert (facts["renewed_at"] is not None) == rotated
        table = run_on_terminal("keys", "show", *options(site))
        assert table.code == 0, table.err
        assert find_unprintable(strip_styles(table.out)) == []
        for secret in list_secrets(site.key_file, site.offline):
            assert secret not in shown.out + shown.err + table.out + table.err
    if site.offline.exists():
        offline = run_cli("keys", "show", "--format", "json", "--store", site.path, "--key-file", site.offline)
        facts = json.loads(offline.out)
        assert (facts["kind"], facts["drawn"], facts["public_key"]) == ("offline", None, None)
        public = run_cli("keys", "export-public", "--store", site.path, "--key-file", site.offline)
        assert public.code == 3
        assert "offline root" in public.err


def test_a_given_secret_is_shown_as_such(tmp_path: Path) -> None:
    """Neither it nor what follows from it; it isn't rotated, and its public key can be given out."""
    secret = "a secret that only this test knows"
    with auditkit.AuditLogger(tmp_path / "audit", secret_key=secret, enable_rotation=False) as audit:
        audit.log_event("x")
    arguments = ["--store", str(tmp_path / "audit")]
    for name, expected in (("show", 0), ("export-public", 0), ("rotate", 2)):
        shown = run_cli("keys", name, *arguments, env={"AUDITKIT_KEY": secret})
        assert shown.code == expected, shown.err
        assert secret not in shown.out + shown.err
        assert secret.encode().hex() not in shown.out + shown.err


@pytest.mark.parametrize("only", [None, "root", "signing"])
def test_a_rotation_prints_the_public_key_from_here_on(site: Keyed, only: str | None) -> None:
    """The old one is worth as much as before: both verify; no key is shown in the process's words."""
    secure = site.offline.exists()
    before = run_cli("keys", "export-public", *options(site)).out.strip()
    secrets = list_secrets(site.key_file, site.offline)
    takes_root = secure and only != "signing"
    arguments = [*(["--only", only] if only else []), *(["--root-file", str(site.offline)] if takes_root else [])]
    shown = run_cli("keys", "rotate", *arguments, *options(site))
    assert shown.code == 0, shown.err
    public = shown.out.strip()
    assert (public == before) == (only == "root")
    assert run_cli("keys", "export-public", *options(site)).out.strip() == public
    for secret in secrets | list_secrets(site.key_file, site.offline):
        assert secret not in shown.out + shown.err
    site.record()
    site.seal()
    for key in (before, public):
        verified = run_cli("integrity", "--no-pin", "--public-key", key, "--store", site.path)
        assert verified.code == 0, verified.out
    assert run_cli("integrity", "--no-pin", "--store", site.path, "--key-file", site.roots.path).code == 0


def test_a_rotation_that_cannot_be_meant_changes_nothing(site: Keyed, tmp_path: Path) -> None:
    """An offline file where none belongs, none where one does, or another store's."""
    before = site.key_file.read_bytes(), len(site.commits())
    other = make_keyed(tmp_path / "other", FORWARD_SECURE)
    wrong: list[list[str]] = [["--root-file", str(other.offline)]]
    if site.key.mode == FORWARD_SECURE:
        wrong += [[], ["--root-file", str(site.key_file)], ["--root-file", str(tmp_path / "none")]]
    for arguments in wrong:
        shown = run_cli("keys", "rotate", *arguments, *options(site))
        assert shown.code in (2, 3), shown.out
        assert "Traceback" not in shown.err
        assert (site.key_file.read_bytes(), len(site.commits())) == before
    if site.key.mode == ORDINARY:
        return
    assert "--root-file" in run_cli("keys", "rotate", *options(site)).err
    recorded = run_cli("keys", "rotate", "--root-file", site.offline, "--store", site.path, "--key-file", site.offline)
    assert recorded.code == 3


def test_the_offline_file_records_nothing(tmp_path: Path) -> None:
    """Named as the key of a logger it is refused with words, before anything is written."""
    site = make_keyed(tmp_path / "site", FORWARD_SECURE)
    before = site.offline.read_bytes()
    with pytest.raises(KeyProblem, match="keep it away from that machine"):
        auditkit.AuditLogger(site.path, key_file=site.offline)
    sealed = run_cli("seal", "--store", site.path, "--key-file", site.offline)
    assert sealed.code == 3
    assert site.offline.read_bytes() == before
    assert sorted(path.name for path in site.folder.iterdir()) == ["audit", "audit.key", "audit.key.lock", "root.key"]
    assert not site.journals()


def test_the_public_key_is_exported_and_taken(site: Keyed, tmp_path: Path) -> None:
    """A line, or a file with one; not into the store and not over a key, and the store's own proves nothing."""
    line = run_cli("keys", "export-public", *options(site)).out
    target = tmp_path / "audit.pub"
    assert run_cli("keys", "export-public", "--output", target, *options(site)).code == 0
    assert target.read_text() == line
    for given in (line.strip(), str(target)):
        verified = run_cli("integrity", "--no-pin", "--public-key", given, "--store", site.path)
        assert verified.code == 0, verified.out + verified.err
    inside = run_cli("integrity", "--no-pin", "--public-key", site.path / "store.json", "--store", site.path)
    assert (inside.code, "proves nothing" in inside.err) == (2, True)
    key = site.key_file.read_bytes()
    for output in (site.path / "audit.pub", site.key_file):
        assert run_cli("keys", "export-public", "--output", output, *options(site)).code == 2
    assert site.key_file.read_bytes() == key


@pytest.mark.parametrize(
    "data",
    [b"", b"\xff\xfe", b"[" * 60_000, b"x" * (65 << 10), b'{"public_key":7}', b"auditkit/other+1+2", b"\x1b[31m\n"],
)
def test_a_file_without_a_public_key_is_refused(tmp_path: Path, data: bytes) -> None:
    """Whatever lies there, the error says what was expected."""
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(UsageError, match="public key"):
        read_public_key(str(tmp_path / "x"), "sitesitesitesite")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="a pipe"):
        read_public_key(str(tmp_path / "pipe"))


def test_no_secret_is_in_what_children_are_started_with(tmp_path: Path) -> None:
    """Neither in their arguments nor in their environment: strace sees every execve of a logger and its sealer."""
    site = make_keyed(tmp_path / "site", FORWARD_SECURE)
    secrets = list_secrets(site.key_file, site.offline)
    program = (
        "import sys, auditkit\n"
        "with auditkit.AuditLogger(sys.argv[1], key_file=sys.argv[2]) as audit:\n"
        "    audit.log_event('x')\n    audit.rotate()\n    audit.log_event('y')\n"
    )
    log = tmp_path / "log"
    command = [find_strace(), "-f", "-qq", "-v", "-s", "100000", "-e", "trace=execve", "-o", str(log), COMMAND[0]]
    subprocess.run([*command, "-c", program, site.path, site.key_file], check=True, cwd=Path(__file__).parents[2])
    started = log.read_text()
    assert "auditkit.sealing" in started
    assert not any(secret in started for secret in secrets | list_secrets(site.key_file))
    assert site.commits()
    assert site.prove().ok


@pytest.mark.parametrize("name", [(), ("init",), ("show",), ("rotate",), ("export-public",)])
def test_help_fits_a_terminal(name: tuple[str, ...]) -> None:
    """Examples first, within 80 columns."""
    shown = run_on_terminal("keys", *name, "--help")
    assert shown.code == 0
    assert find_wide_lines(strip_styles(shown.out)) == []
    assert "Examples" in shown.out
