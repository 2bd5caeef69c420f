#!/bin/sh
# Print the path of a Python that can make the virtual environment: $PYTHON if it is set, else the first that fits.
# Each candidate is tried, since a version manager's shim may stand for a version that is not installed.
fits() {
    "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11 python}; do
    if fits "$candidate"; then
        command -v "$candidate"
        exit 0
    fi
done

{
    if [ -n "${PYTHON:-}" ]; then
        echo "PYTHON=$PYTHON is no Python 3.11 or newer with the modules venv and ensurepip."
    else
        echo "Found no Python 3.11 or newer with the modules venv and ensurepip on the PATH."
    fi
    echo "python3 is: $(python3 --version 2>&1 | head -n 1)"
    echo "Install one (on Debian and Ubuntu also its package python3-venv), or name one: make PYTHON=/path/to/python3.12"
} >&2
exit 1
