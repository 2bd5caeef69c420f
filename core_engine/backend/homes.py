"""The folder that everything is kept in: made when missing, refused where SQLite is unsafe (D30)."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from core_engine.exceptions import StoreUnavailable, UnsafeHome

# File systems between machines, by the names that the system's mount table uses.
_NETWORK_TYPES = frozenset(
    {
        "9p",
        "afpfs",
        "afs",
        "beegfs",
        "ceph",
        "cifs",
        "coda",
        "davfs",
        "fuse.ceph",
        "fuse.glusterfs",
        "fuse.gcsfuse",
        "fuse.juicefs",
        "fuse.rclone",
        "fuse.s3fs",
        "fuse.sshfs",
        "glusterfs",
        "gpfs",
        "lustre",
        "ncpfs",
        "nfs",
        "nfs4",
        "orangefs",
        "panfs",
        "smb2",
        "smb3",
        "smbfs",
        "webdav",
    }
)

MOUNT_TABLE = Path("/proc/self/mounts")


def check_home(home: Path, *, allow_network: bool = False) -> None:
    """Sees to it that `home` is a folder in which a database may lie.

    Parameters:
        home: It is made, with its parents, when it is missing.
        allow_network: Whether a network file system is taken.

    Raises:
        UnsafeHome: It lies on a network file system, and `allow_network` is False.
        StoreUnavailable: It cannot be made, or not be written.
    """
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o755)
        writable = os.access(home, os.W_OK | os.X_OK)
    except OSError as error:
        raise StoreUnavailable(
            f"The home {home} cannot be made: {error.strerror or error}. "
            "Set CORE_ENGINE_HOME to a folder that you may write."
        ) from error
    if not writable:
        raise StoreUnavailable(
            f"The home {home} cannot be written. Change its permissions, "
            "or set CORE_ENGINE_HOME to a folder that you may write."
        )
    file_system = None if allow_network else network_file_system(home)
    if file_system is not None:
        raise UnsafeHome(
            f"The home {home} lies on a network file system ({file_system}), on which SQLite can lose data when "
            "several machines use it. Set CORE_ENGINE_HOME to a folder on a local disk, or, if only this machine "
            "ever uses it, CORE_ENGINE_ALLOW_NETWORK_HOME=true."
        )


def network_file_system(path: Path) -> str | None:
    """Returns the type of the network file system that `path` lies on, None when it lies on a local one.

    Where the system has no mount table to read the answer is None.
    """
    try:
        table = MOUNT_TABLE.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return _type_on_macos(path)
    type = _type_of(path.resolve(), table)
    return type if type in _NETWORK_TYPES else None


def _type_of(path: Path, table: str) -> str | None:
    """Returns the type of the file system that holds `path`, from a table of mounts in the format of /proc/mounts."""
    best: tuple[int, str] | None = None
    for line in table.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        # Blanks in a mount point stand as octal escapes. A later mount on the same point hides an earlier one.
        point = Path(fields[1].encode("utf-8", "surrogateescape").decode("unicode_escape"))
        if path.is_relative_to(point) and (best is None or len(point.parts) >= best[0]):
            best = (len(point.parts), fields[2])
    return None if best is None else best[1]


def _type_on_macos(path: Path) -> str | None:
    """The same by the command ``mount``, whose lines are "//host/share on /point (smbfs, ...)"."""
    if sys.platform != "darwin":
        return None
    import subprocess

    listed = subprocess.run(["/sbin/mount"], capture_output=True, text=True, check=False, timeout=10).stdout
    table = []
    for line in listed.splitlines():
        source, _, rest = line.partition(" on ")
        point, _, options = rest.rpartition(" (")
        table.append(f"{source.replace(' ', '_')} {point.replace(' ', chr(92) + '040')} {options.split(',')[0]}")
    type = _type_of(path.resolve(), "\n".join(table))
    return type if type in _NETWORK_TYPES else None
