#!/usr/bin/env bash
# What the repository holds: refuses tracked files over 1 MB that nobody has agreed to, a tree over 35 MB and more than 60
# YAML files. Usage: scripts/check_tree.sh [FOLDER]      this repository without one
set -euo pipefail
cd "${1:-$(dirname "$0")/..}"

# Data and checkpoints that tests and the README's first commands need; all else that is large belongs into a release.
agreed='^(datasets/(drone|sb3)/[a-z]+/mixed-v0/data/main_data\.hdf5|results/pretrained/hopper-[a-z_]+/model\.safetensors)$'
limit=1000000 most=35000000 most_yaml=60

bytes=0 large=0 yaml=0
while IFS= read -r -d '' file; do
  [ -f "$file" ] || continue
  size=$(stat -c %s "$file")
  bytes=$((bytes + size))
  case "$file" in *.yaml | *.yml) yaml=$((yaml + 1)) ;; esac
  if [ "$size" -gt "$limit" ] && ! [[ "$file" =~ $agreed ]]; then
    echo "$file: expected at most 1 MB, found $size bytes; make it smaller, or agree to it in scripts/check_tree.sh" >&2
    large=$((large + 1))
  fi
done < <(git ls-files -z)

echo "tree: $((bytes / 1000)) kB of $((most / 1000)) kB, $yaml of $most_yaml YAML files, $large files too large"
[ "$large" -eq 0 ] && [ "$bytes" -le "$most" ] && [ "$yaml" -le "$most_yaml" ]
