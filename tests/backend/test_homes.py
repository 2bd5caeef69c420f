"""The folder that the database lies in: made, writable, and on a local disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from core_engine.backend import homes, open_backend
from core_engine.exceptions import StoreUnavailable, UnsafeHome
from core_engine.settings import temporary_settings

_TABLE = """\
/dev/sda1 / ext4 rw 0 0
proc /proc proc rw 0 0
server:/export /shared nfs4 rw 0 0
/dev/sdb1 /shared/local xfs rw 0 0
//box/share /mnt/with\\040blank cifs rw 0 0
user@host: {tmp} fuse.sshfs rw 0 0
"""


@pytest.fixture
def mounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A mount table in which `tmp_path` / "remote" is on another machine."""
    table = tmp_path / "mounts"
    table.write_text(_TABLE.format(tmp=(tmp_path / "remote").resolve()))
    monkeypatch.setattr(homes, "MOUNT_TABLE", table)
    return tmp_path / "remote"


@pytest.mark.behaviour("D30")
@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/home/me/.core_engine", None),
        ("/shared/me", "nfs4"),
        ("/shared", "nfs4"),
        ("/sharedness", None),
        ("/shared/local/me", None),
        ("/mnt/with blank/me", "cifs"),
        ("/proc", None),
    ],
)
def test_the_innermost_mount_decides_what_is_a_network_file_system(
    mounts: Path, path: str, expected: str | None
) -> None:
    assert homes.network_file_system(Path(path)) == expected


@pytest.mark.behaviour("D30")
def test_a_home_on_a_network_file_system_is_refused_with_the_ways_out(mounts: Path) -> None:
    with temporary_settings({"HOME": str(mounts / "home")}), pytest.raises(UnsafeHome) as raised:
        open_backend()
    message = str(raised.value)
    for part in (str(mounts / "home"), "fuse.sshfs", "CORE_ENGINE_HOME", "CORE_ENGINE_ALLOW_NETWORK_HOME=true"):
        assert part in message
    assert not (mounts / "home" / "core_engine.db").exists()


@pytest.mark.behaviour("D30")
def test_a_link_to_a_network_file_system_is_followed(mounts: Path, tmp_path: Path) -> None:
    mounts.mkdir()
    (tmp_path / "link").symlink_to(mounts)
    with pytest.raises(UnsafeHome):
        homes.check_home(tmp_path / "link" / "home")


@pytest.mark.behaviour("D30")
def test_a_home_on_a_network_file_system_is_taken_when_the_setting_says_so(mounts: Path) -> None:
    with temporary_settings({"HOME": str(mounts / "home"), "ALLOW_NETWORK_HOME": "true"}):
        backend = open_backend()
        backend.close()
    assert (mounts / "home" / "core_engine.db").exists()


def test_this_machines_own_mounts_can_be_read(tmp_path: Path) -> None:
    assert homes.network_file_system(tmp_path) is None


def test_a_home_below_a_file_is_refused_with_its_path(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreUnavailable, match=r"file/home cannot be made: Not a directory.*CORE_ENGINE_HOME"):
        homes.check_home(tmp_path / "file" / "home")


def test_a_home_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "home").touch()
    with pytest.raises(StoreUnavailable, match="cannot be made"):
        homes.check_home(tmp_path / "home")


def test_a_home_is_made_with_its_parents(tmp_path: Path) -> None:
    homes.check_home(tmp_path / "a" / "b" / "home")
    assert (tmp_path / "a" / "b" / "home").is_dir()
