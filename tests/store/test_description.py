"""``store.json``: made once, whoever comes first, and believed only as a whole."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from auditkit import AuditLogger
from auditkit.errors import (
    AuditError,
    FormatUnknown,
    KeyMismatch,
    KeyMissing,
    KeyProblem,
    StoreDamaged,
    StoreError,
    StoreMissing,
    UsageError,
)
from auditkit.store.description import (
    StoreDescription,
    choose_path,
    open_or_create,
    read_description,
    set_public_key,
)
from auditkit.store.keyring import KeyFile, locate_key_file
from auditkit.store.layout import Layout, is_store_name

SECRET = "a secret that only these tests know"


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """A store that isn't there yet."""
    return Layout(tmp_path / "deep" / "audit")


@pytest.mark.parametrize(
    "place,found",
    [
        ("file", "expected a folder at {path} in which a store can be made, found a file: name another"),
        ("file/audit", 'found "Not a directory" at {path}: name another'),
        ("link", 'found "No such file or directory" at {path}/seal.lock: name another'),
    ],
)
def test_a_path_where_no_folder_can_be_is_named(tmp_path: Path, place: str, found: str) -> None:
    """A file, something below one, a link that leads nowhere: the error says what is there and what to do."""
    (tmp_path / "file").write_text("not a store")
    (tmp_path / "link").symlink_to("nowhere")
    path = tmp_path / place
    with pytest.raises(StoreError) as caught:
        AuditLogger(path, secret_key=SECRET)
    assert found.format(path=path) in str(caught.value)
    assert (tmp_path / "file").read_text() == "not a store"


def test_a_file_system_that_holds_no_folders_is_told() -> None:
    """The kernel's own file systems refuse every folder, which isn't left to a bare system error."""
    with pytest.raises(StoreError, match=r"expected a folder at /proc/nope .*found .*No such file"):
        AuditLogger("/proc/nope", secret_key=SECRET)


def test_a_new_store_has_its_key_outside(layout: Layout) -> None:
    """The store names its key and doesn't hold it; both are their owner's alone."""
    description, keys = open_or_create(layout)
    assert is_store_name(description.store)
    assert description.key_id == keys.key_id
    assert description.public_key is None
    path = locate_key_file(description.store)
    assert path.is_file()
    assert not path.is_relative_to(layout.root)
    secrets = [json.loads(path.read_text())[name].encode() for name in ("root", "sign")]
    files = [file for file in layout.root.rglob("*") if file.is_file()]
    assert layout.description in files
    assert not any(secret in file.read_bytes() for secret in secrets for file in files)
    for found in (layout.root, *layout.root.rglob("*")):
        assert stat.S_IMODE(found.stat().st_mode) == (0o700 if found.is_dir() else 0o600)


def test_opening_again_finds_the_same(layout: Layout) -> None:
    """A second opening makes nothing new."""
    first, keys = open_or_create(layout)
    second, again = open_or_create(layout)
    assert (second, again.key_id) == (first, keys.key_id)
    assert read_description(layout) == first
    assert len([path for path in locate_key_file("x").parent.iterdir() if path.suffix == ".key"]) == 1


@pytest.mark.parametrize("given", ["own", "file", "secret"])
def test_threads_that_make_a_store_at_once_share_it(layout: Layout, tmp_path: Path, given: str) -> None:
    """However many start at once, there is one store and one key, and the key knows its store."""
    key_file = tmp_path / "key" if given == "file" else None
    secret = SECRET if given == "secret" else None
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda _: open_or_create(layout, secret, key_file), range(16)))
    assert len({description.store for description, _ in found}) == 1
    assert len({keys.key_id for _, keys in found}) == 1
    if given != "secret":
        assert found[0][1].count_drawn(found[0][0].store) == 0
    if given == "own":
        keys = [path for path in locate_key_file("x").parent.iterdir() if path.suffix == ".key"]
        assert keys == [locate_key_file(found[0][0].store)]


def test_one_key_file_may_serve_several_stores(tmp_path: Path) -> None:
    """Stores with the same key have different ids."""
    found = [open_or_create(Layout(tmp_path / name), key_file=tmp_path / "key") for name in ("a", "b")]
    assert found[0][0].store != found[1][0].store
    assert found[0][0].key_id == found[1][0].key_id


def test_a_store_without_its_key_is_not_opened(layout: Layout) -> None:
    """No new key is made for an old store, and the message says where the key was looked for."""
    description, _ = open_or_create(layout)
    path = locate_key_file(description.store)
    path.unlink()
    with pytest.raises(KeyMissing, match="exists, but not its key") as caught:
        open_or_create(layout)
    assert str(path) in str(caught.value)
    assert not path.exists()


def test_a_store_with_another_key_is_not_opened(layout: Layout, tmp_path: Path) -> None:
    """A wrong secret or file changes nothing."""
    open_or_create(layout, SECRET)
    before = layout.description.read_bytes()
    other = KeyFile.create(tmp_path / "other.key", "x")
    with pytest.raises(KeyMismatch, match=other.key_id):
        open_or_create(layout, key_file=tmp_path / "other.key")
    with pytest.raises(KeyMismatch):
        open_or_create(layout, "another secret of sufficient length")
    assert layout.description.read_bytes() == before


def test_a_folder_with_events_and_no_description_is_not_made_a_store(layout: Layout) -> None:
    """A lost store.json must not be replaced by a new store's."""
    layout.journal.mkdir(parents=True)
    (layout.journal / "x.jsonl").write_text("x")
    with pytest.raises(StoreDamaged, match=r"restore store\.json from a backup"):
        open_or_create(layout)
    assert not layout.description.exists()


def test_a_wrong_call_makes_nothing(layout: Layout) -> None:
    """A secret that is too short, or two keys, leave no folder behind."""
    for secret, file in (("short", None), (SECRET, "k.key")):
        with pytest.raises(UsageError):
            open_or_create(layout, secret, file)
    assert not layout.root.exists()


def test_a_missing_store_says_what_to_do(layout: Layout) -> None:
    """Neither a missing folder nor a file in its place is a store."""
    with pytest.raises(StoreMissing, match=r"found no store\.json"):
        read_description(layout)
    layout.root.parent.mkdir(parents=True)
    layout.root.write_text("a file")
    with pytest.raises(StoreMissing):
        read_description(layout)


@pytest.mark.parametrize(
    "change, error",
    [
        ({"format": 2}, FormatUnknown),
        ({"format": "1"}, StoreDamaged),
        ({"format": True}, StoreDamaged),
        ({"auditkit": "key"}, StoreDamaged),
        ({"store": "../../x"}, StoreDamaged),
        ({"store": None}, StoreDamaged),
        ({"store": "A" * 16}, StoreDamaged),
        ({"key_id": 7}, StoreDamaged),
        ({"public_key": 7}, StoreDamaged),
    ],
)
def test_a_description_is_believed_as_a_whole_or_not(
    layout: Layout, change: dict[str, object], error: type[AuditError]
) -> None:
    """Whatever is wrong in it, the error is ours, names the file, and says what to do."""
    open_or_create(layout, SECRET)
    fields = json.loads(layout.description.read_text())
    layout.description.write_text(json.dumps(fields | change))
    with pytest.raises(error, match=r"expected") as caught:
        read_description(layout)
    assert str(layout.description) in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"null", b"\xff", b'{"auditkit":"store"', b"7", b"[" * 100_000])
def test_other_content_is_refused(layout: Layout, content: bytes) -> None:
    """A file that isn't JSON, or JSON of another kind, is damage."""
    layout.root.mkdir(parents=True)
    layout.description.write_bytes(content)
    with pytest.raises(StoreDamaged, match="expected a store's description"):
        read_description(layout)


def test_the_public_key_is_added_once(layout: Layout) -> None:
    """Completing the description keeps the rest of it."""
    description, _ = open_or_create(layout, SECRET)
    completed = set_public_key(layout, description, "auditkit/x+00000000+AAAA")
    assert read_description(layout) == completed
    assert completed == StoreDescription(
        description.store, description.key_id, description.created_us, "auditkit/x+00000000+AAAA"
    )
    assert stat.S_IMODE(layout.description.stat().st_mode) == 0o600


def test_the_path_is_the_argument_or_the_variable_or_audit(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty variable counts as none."""
    assert choose_path(None) == Path("audit")
    monkeypatch.setenv("AUDITKIT_STORE", "")
    assert choose_path(None) == Path("audit")
    monkeypatch.setenv("AUDITKIT_STORE", os.path.join("some", "where"))  # noqa: PTH118
    assert choose_path(None) == Path("some/where")
    assert choose_path("given") == Path("given")


@pytest.mark.parametrize("place", ["audit/store.key", "audit/deep/store.key"])
def test_a_store_is_not_made_with_its_key_inside(tmp_path: Path, place: str) -> None:
    """The refusal comes before anything is made, for a new store and for an old one."""
    layout = Layout(tmp_path / "audit")
    with pytest.raises(KeyProblem, match="expected a key file outside the store"):
        open_or_create(layout, key_file=tmp_path / place)
    assert not layout.root.exists()
    open_or_create(layout, key_file=tmp_path / "store.key")
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / "store.key").rename(tmp_path / place)
    with pytest.raises(KeyProblem, match="expected a key file outside the store"):
        open_or_create(layout, key_file=tmp_path / place)


def test_a_users_own_folder_as_the_store_is_refused(isolated_user: Path) -> None:
    """The platform's place for keys can lie in the store too, if somebody records into the folder above it."""
    with pytest.raises(KeyProblem, match="name its new place with key_file="):
        open_or_create(Layout(isolated_user / ".local"))
    assert not (isolated_user / ".local").exists()


UNPRIVILEGED = """
import ctypes, sys

class Header(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]

# Root without CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH is bound by permissions as everybody is.
header, data = Header(0x20080522, 0), (ctypes.c_uint32 * 6)()
libc = ctypes.CDLL(None)
assert libc.capget(ctypes.byref(header), data) == 0
data[0] &= ~0b110
assert libc.capset(ctypes.byref(header), data) == 0
"""

OPEN = """
import auditkit
from auditkit.errors import KeyProblem
store, key = sys.argv[1:]
try:
    auditkit.AuditLogger(store, key_file=key)
except KeyProblem as error:
    print(type(error).__name__, error)
try:
    auditkit.open(store, key_file=key).seal()
except KeyProblem as error:
    print(type(error).__name__, error)
verification = auditkit.open(store, key_file=key).verify()
print(verification.verdict, verification.journal_events, verification.key_id is not None)
"""


@pytest.fixture
def recorded(layout: Layout, tmp_path: Path) -> Path:
    """The key file of a store with one recorded event, in a folder of its own."""
    key = tmp_path / "keys" / "store.key"
    with AuditLogger(layout.root, key_file=key, enable_rotation=False) as audit:
        audit.log_event("test")
    return key


def run(command: list[str | Path]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("what", ["folder", "lock"])
def test_a_key_that_can_t_be_written_is_for_reading_only(layout: Layout, recorded: Path, what: str) -> None:
    """A logger doesn't start and then drop every event: it says at once what to do. Verifying needs no writing."""
    if what == "folder":
        recorded.parent.chmod(0o500)
    else:
        recorded.with_name("store.key.lock").chmod(0o400)
    try:
        finished = run([sys.executable, "-c", UNPRIVILEGED + OPEN, layout.root, recorded])
    finally:
        recorded.parent.chmod(0o700)
    assert finished.returncode == 0, finished.stderr
    refused, unsealed, read = finished.stdout.splitlines()
    assert unsealed == refused
    assert refused.startswith(f"KeyProblem expected a key file that can be written at {recorded}")
    assert "Permission denied" in refused
    assert "make the file's folder writable" in refused
    assert read == "ok 3 True"


@pytest.mark.parametrize("options", ["--bind", "--bind -o ro"])
def test_a_key_file_that_is_mounted_alone_is_for_reading_only(layout: Layout, recorded: Path, options: str) -> None:
    """A container's single mounted file can be written, but not replaced: only trying tells."""
    mount = f'mount {options} "$1" "$1"'
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    if run([*command, mount, "sh", recorded]).returncode:
        pytest.skip("this machine lets nobody mount")
    program = f'{mount} && exec "$2" -c "$3" "$4" "$1"'
    finished = run([*command, program, "sh", recorded, sys.executable, "import sys" + OPEN, layout.root])
    assert finished.returncode == 0, finished.stderr
    refused, unsealed, read = finished.stdout.splitlines()
    assert unsealed == refused
    assert refused.startswith(f"KeyProblem expected a key file that can be written at {recorded}")
    assert "not the file alone" in refused
    assert read == "ok 3 True"


def test_a_key_can_t_be_made_where_nothing_can_be_written(layout: Layout, tmp_path: Path) -> None:
    """A container without a home says so at the start, and no store is made."""
    (tmp_path / "home").mkdir(mode=0o500)
    program = UNPRIVILEGED + OPEN.partition("try:\n    auditkit.open")[0]
    finished = run([sys.executable, "-c", program, layout.root, tmp_path / "home" / "keys" / "store.key"])
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.startswith("KeyProblem expected a key file that can be written at ")
    assert not layout.description.exists()


FULL = """
import errno, resource, signal, sys
from pathlib import Path
from auditkit.store.keyring import KeyFile
keys = KeyFile(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
keys.check_drawing()
try:
    keys.draw()
except OSError as error:
    print(errno.errorcode[error.errno])
"""


def test_a_machine_that_is_out_of_room_doesn_t_keep_a_logger_from_starting(recorded: Path) -> None:
    """What may be otherwise at the first event is left to it."""
    finished = run([sys.executable, "-c", FULL, recorded])
    assert (finished.returncode, finished.stdout) == (0, "EMFILE\n"), finished.stderr
