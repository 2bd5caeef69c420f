#!/usr/bin/env bash
# Install a wheel into a fresh virtual environment and use it from another folder, with an empty home.
# Usage: smoke_wheel.sh WHEEL
set -euo pipefail
scripts=$(cd "$(dirname "$0")" && pwd)
wheel=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python=$(sh "$scripts/find_python.sh")
"$python" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check "$wheel"

mkdir "$work/elsewhere"
cp "$scripts/smoke.py" "$work/elsewhere/"
cd "$work/elsewhere"
unset PYTHONPATH VIRTUAL_ENV
export CORE_ENGINE_HOME="$work/home"
"$work/venv/bin/core-engine" version
"$work/venv/bin/python" smoke.py "$work/venv"
"$work/venv/bin/core-engine" runs
