#!/bin/sh
# Makes the virtual environment equal to requirements.lock; does nothing where it already is.
set -eu

venv=$1
python=${PYTHON:-python3}
stamp=$venv/.stamp

say() { printf '%s\n' "$*" >&2; }
stop() { say "setup: $1"; shift; for line in "$@"; do say "  $line"; done; exit 1; }

# The stamp is the sum of everything that decides what is installed, and where.
wanted=$({ cat requirements.lock pyproject.toml tools/setup.sh; pwd; } | cksum)
if [ -x "$venv/bin/falaj" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then exit 0; fi

command -v "$python" >/dev/null 2>&1 ||
  stop "there is no $python here." "Debian and Ubuntu:  apt-get install -y python3 python3-venv" "elsewhere:          make setup PYTHON=/path/to/python3.11"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
  stop "$("$python" --version) is too old; falaj needs Python 3.11 or newer." "make setup PYTHON=/path/to/python3.11"

# An environment knows its own place: one that was moved or copied is made anew.
if ! grep -qsF "$(pwd)/$venv" "$venv/pyvenv.cfg" || ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
  rm -rf "$venv"
  say "setup: making $venv"
  # Debian ships venv without ensurepip; everything else falaj installs goes inside, never into the system (PEP 668).
  "$python" -m venv "$(pwd)/$venv" >/dev/null 2>&1 || {
    rm -rf "$venv"
    stop "$python cannot make a virtual environment: its venv or ensurepip module is missing." \
      "Debian and Ubuntu:  apt-get install -y python3-venv" "then again:         make setup"
  }
fi

# uv itself comes from the lock too, checked against its hashes.
awk '/^[^ #]/ { on = /^uv==/ } on && !/^ *#/' requirements.lock > "$venv/uv.lock"
pinned=$(sed -n 's/^uv==\([^ ]*\).*/\1/p' "$venv/uv.lock")
if [ "$("$venv/bin/uv" --version 2>/dev/null | cut -d' ' -f2)" != "$pinned" ]; then
  say "setup: installing uv $pinned"
  "$venv/bin/python" -m pip install --quiet --no-deps --require-hashes --disable-pip-version-check -r "$venv/uv.lock" ||
    stop "pip could not fetch uv $pinned." "is a package index in reach?  pip config list"
fi

say "setup: installing $(grep -c '^[A-Za-z0-9]' requirements.lock) locked packages (about a minute the first time)"
"$venv/bin/uv" pip sync --quiet --require-hashes --compile-bytecode requirements.lock
"$venv/bin/uv" pip install --quiet --no-deps --no-build-isolation --editable .

"$venv/bin/python" -c 'import ctypes; ctypes.CDLL("libgomp.so.1")' 2>/dev/null || [ "$(uname -s)" != Linux ] ||
  stop "LightGBM needs the OpenMP library libgomp.so.1, which this machine lacks." \
    "Debian and Ubuntu:  apt-get install -y libgomp1" "Fedora:             dnf install -y libgomp"

printf '%s\n' "$wanted" > "$stamp"
say "setup: ready"
