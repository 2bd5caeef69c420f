#!/usr/bin/env python3
"""Check that a wheel holds every file of the packages that the repository holds, and nothing else."""

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("core_engine", "runners")
# Asked for by name, so that a file which is missing in the repository is missed as well.
REQUIRED = (
    "core_engine/py.typed",
    "runners/py.typed",
    "core_engine/logging/logging.yml",
    "core_engine/vocabulary.toml",
)
REQUIRED_FOLDERS = ("core_engine/backend/migrations/",)


def main() -> int:
    """Print what differs and return the exit code."""
    wheel = Path(sys.argv[1])
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if not name.endswith("/")}
    in_packages = {name for name in packed if ".dist-info/" not in name}
    listing = subprocess.run(["git", "ls-files", "-z", *PACKAGES], cwd=ROOT, capture_output=True, text=True, check=True)
    kept = set(listing.stdout.rstrip("\0").split("\0"))
    problems = [f"{name} is missing" for name in sorted({*kept, *REQUIRED} - packed)]
    problems += [f"{name} is not in the repository" for name in sorted(in_packages - kept)]
    problems += [
        f"{folder} holds nothing" for folder in REQUIRED_FOLDERS if not any(name.startswith(folder) for name in packed)
    ]
    for problem in problems:
        print(f"{wheel.name}: {problem}", file=sys.stderr)
    print(f"{wheel.name}: {len(in_packages)} files, {wheel.stat().st_size // 1024} kB")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
