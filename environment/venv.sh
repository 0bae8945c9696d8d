# Sourced by run.sh and test.sh: ready_venv LOCK makes .venv with what a lock file lists.
# The locks are for Python 3.11 to 3.13: aind-data-access-api holds pydantic below 2.12, whose
# compiled part has no build for later ones.

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
venv="$root/.venv"

fits() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1; }

find_python() {
  local candidate
  for candidate in "${PYTHON:-python3}" python3.13 python3.12 python3.11; do
    if fits "$candidate"; then echo "$candidate"; return; fi
  done
  echo "error: Python 3.11, 3.12 or 3.13 is needed, and ${PYTHON:-python3} is" \
    "$("${PYTHON:-python3}" --version 2>&1 || echo "not there"): install one of them, or name it with PYTHON=/path/to/python3" >&2
  return 1
}

# A stamp in .venv holds each lock that was installed, so that a changed lock is seen: a changed
# requirements.txt makes .venv anew. requirements-dev contains requirements.
ready_venv() {
  local lock="$root/environment/$1.txt" runtime="$root/environment/requirements.txt" python
  if ! cmp -s "$runtime" "$venv/requirements.installed" || ! "$venv/bin/python" -c '' 2>/dev/null; then
    python="$(find_python)" || return 1
    rm -rf "$venv"
  elif cmp -s "$lock" "$venv/$1.installed"; then
    return
  fi
  echo "Installing $1.txt into .venv, once; this takes about a minute." >&2
  if { [ -z "${python:-}" ] || "$python" -m venv "$venv"; } &&
    "$venv/bin/python" -m pip install -qq --disable-pip-version-check --require-hashes -r "$lock"; then
    cp "$runtime" "$venv/requirements.installed"
    cp "$lock" "$venv/$1.installed"
  else
    rm -rf "$venv"
    echo "error: .venv could not be made; see above. It needs Python's venv module and a package index." >&2
    return 1
  fi
}
