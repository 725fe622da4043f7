import errno
import os
import stat
from pathlib import Path

import pytest

from cfgbench import files
from cfgbench.errors import UserError
from cfgbench.files import cache_folder, file_digest, identity, try_lock, write_atomically


def test_a_write_that_breaks_off_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    write_atomically(path, b"old")

    def breaks(temporary):
        temporary.write_bytes(b"ne")
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        write_atomically(path, breaks)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["a" * 255, "\U0001f600" * 63])
def test_a_name_may_be_as_long_as_the_file_system_takes(tmp_path, name):
    write_atomically(tmp_path / name, b"new")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_file_is_on_the_disk_before_its_name_and_its_name_before_the_call_ends(tmp_path, monkeypatch):
    done = []

    def fsync(descriptor):
        done.append(("flush", stat.S_ISDIR(os.fstat(descriptor).st_mode), path.exists()))

    path = tmp_path / "a.txt"
    monkeypatch.setattr(os, "fsync", fsync)
    write_atomically(path, b"new")
    assert done == [("flush", False, False), ("flush", True, True)]


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o007, 0o660)])
def test_files_are_for_those_for_whom_the_user_makes_them(tmp_path, mask, mode):
    before = os.umask(mask)
    try:
        write_atomically(tmp_path / "a.txt", b"x")
        assert os.umask(mask) == mask
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == mode


def test_a_lock_that_its_last_holder_removed_meanwhile_is_none(tmp_path, monkeypatch):
    """Another process would make the file anew, and hold it too."""
    path, honest = tmp_path / "locks" / "a", files.try_flock
    path.parent.mkdir()

    def removed(descriptor):
        path.unlink()
        return honest(descriptor)

    monkeypatch.setattr(files, "try_flock", removed)
    with try_lock(path) as held:
        assert not held
    monkeypatch.setattr(files, "try_flock", honest)
    with try_lock(path) as held, try_lock(path) as again:
        assert (held, again) == (True, False)
    assert not path.exists()


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match=r"file/a\.txt: cannot be written"):
        write_atomically(tmp_path / "file" / "a.txt", b"x")


def test_identities_depend_on_content_not_on_the_order_of_keys(tmp_path):
    assert identity({"a": 1, "b": 2.0}) == identity({"b": 2.0, "a": 1})
    assert identity({"a": 1}) != identity({"a": 2})
    (tmp_path / "x").write_bytes(b"abc")
    assert file_digest(tmp_path / "x").startswith("ba7816bf")  # SHA-256 of "abc", FIPS 180-2


def test_without_a_home_the_cache_is_to_be_named(monkeypatch):
    for name in ("CFGBENCH_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    with pytest.raises(UserError, match="name a folder in CFGBENCH_CACHE"):
        cache_folder()
    monkeypatch.setenv("CFGBENCH_CACHE", "here")
    assert cache_folder() == Path("here")


def test_a_folder_that_vanishes_as_it_is_looked_for_has_vanished(tmp_path, monkeypatch):
    def gone(folder, **_):
        raise FileExistsError(errno.EEXIST, "File exists", str(folder))

    monkeypatch.setattr(Path, "mkdir", gone)
    with pytest.raises(UserError, match="its folder has vanished"):
        write_atomically(tmp_path / "absent" / "a.txt", b"new")
    with pytest.raises(UserError, match="its folder has vanished"), try_lock(tmp_path / "absent" / "lock"):
        pass
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"File exists.*choose another folder"):
        write_atomically(tmp_path / "file" / "a.txt", b"new")
