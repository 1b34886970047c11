#!/usr/bin/env bash
# Build the documentation site: bash scripts/docs.sh [FOLDER]      default: site/. Needs pip install -e ".[docs]".
# It needs no network, and neither does a reader: the pages load no script, style or font from elsewhere.
set -euo pipefail
cd "$(dirname "$0")/.."
out="${1:-site}"
log="$(mktemp)"
trap 'rm -f "$log"' EXIT
# With --quiet the warnings would not count.
NO_MKDOCS_2_WARNING=1 python -m mkdocs build --strict --site-dir "$out" >"$log" 2>&1 || { grep -v '^INFO' "$log" >&2; exit 1; }
if grep -rlE --include '*.html' '<(script|link|img|iframe)[^>]+(src|href)="(https?:)?//' "$out"; then
  echo "the pages above load something from another server; keep it in docs/" >&2
  exit 1
fi
echo "site: $(find "$out" -name '*.html' | wc -l) pages in $out"
