"""``store.json``: made once, whoever comes first, and believed only as a whole."""

from __future__ import annotations

import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from auditkit.errors import AuditError, FormatUnknown, KeyMismatch, KeyMissing, StoreDamaged, StoreMissing, UsageError
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
