#!/usr/bin/env bash
# Run the dispatcher with the flags given; without any, dispatch the bundled example.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/venv.sh"
ready_venv requirements
export PATH="$venv/bin:$PATH"
if [ $# -eq 0 ]; then
  set -- --records metadata.jsonl --query query.json --file_extension .nwb
  # Its own results are replaced, anybody else's are not.
  if grep -qs '"query": ".*Example Foraging' "$root"/results/0/*.json; then set -- "$@" --overwrite 1; fi
  echo "Dispatching the bundled example: code/run $*" >&2
fi
exec "$root/code/run" "$@"
