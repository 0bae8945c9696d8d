#!/usr/bin/env bash
# Run every check: locks, formatter, linter, type checker, generated files, tests. Flags go to pytest.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/venv.sh"
ready_venv requirements-dev
export PATH="$venv/bin:$PATH"
cd "$root/code"
unset PYTHONDONTWRITEBYTECODE # pytest rewrites each module, which is kept for the next run
step() { echo "== $*" >&2; "$@"; }
step bash ../environment/lock.sh --check
step ruff format --check .
step ruff check .
step mypy .
step cog --check -I tests docs/flags.md README.md plans.py
# three for each core, since half of what tests do is to wait
step pytest -n "$((3 * $(getconf _NPROCESSORS_ONLN)))" --dist worksteal -rs --durations 10 "$@"
