#!/usr/bin/env bash
# Lock requirements.in and requirements-dev.in for Python 3.11 to 3.13; --upgrade moves the pins.
# With --check nothing is written: exit status 1 says that a lock is stale.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
uv="$here/../.venv/bin/uv"
if [ ! -x "$uv" ]; then echo "error: run bash environment/test.sh once first; it installs uv" >&2; exit 1; fi
# uv asks where pip does, and trusts whom pip trusts.
index="${PIP_INDEX_URL:-$("$here/../.venv/bin/pip" config get global.index-url 2>/dev/null || true)}"
if [ -n "$index" ]; then export UV_DEFAULT_INDEX="${UV_DEFAULT_INDEX:-$index}"; fi
export UV_SYSTEM_CERTS=true
export UV_CUSTOM_COMPILE_COMMAND="bash environment/lock.sh"
check=
if [ "${1:-}" = --check ]; then check=1; shift; fi

work="$here"
if [ -n "$check" ]; then
  work="$(mktemp -d)"
  trap 'rm -rf "$work"' EXIT
  cp "$here"/requirements*.in "$here"/requirements*.txt "$work"
fi
cd "$work"
for name in requirements requirements-dev; do
  "$uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
    "$@" "$name.in" --output-file "$name.txt"
done

# Hashes are not compared: a package may add a wheel to a release that is already locked.
pins() { grep -E '^[a-z0-9]' "$1"; }
if [ -n "$check" ]; then
  for name in requirements requirements-dev; do
    if ! diff <(pins "$here/$name.txt") <(pins "$name.txt") >&2; then
      echo "environment/$name.txt is stale: run bash environment/lock.sh" >&2
      exit 1
    fi
  done
fi
