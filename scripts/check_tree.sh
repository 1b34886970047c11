#!/usr/bin/env bash
# Check the size of the repository: at most 35 MB, at most 64 YAML files, and no tracked file over 1 MB outside the list
# below. Usage: scripts/check_tree.sh [FOLDER]      default: this repository
set -euo pipefail
cd "${1:-$(dirname "$0")/..}"

# Data and checkpoints for the tests and the first commands of README. Other large files belong in a release.
agreed='^(datasets/(drone|sb3)/[a-z]+/mixed-v0/data/main_data\.hdf5|results/pretrained/hopper-[a-z_]+/model\.safetensors)$'
limit=1000000 most=35000000 most_yaml=64

bytes=0 large=0 yaml=0
while IFS= read -r -d '' file; do
  [ -f "$file" ] || continue
  size=$(stat -c %s "$file")
  bytes=$((bytes + size))
  case "$file" in *.yaml | *.yml) yaml=$((yaml + 1)) ;; esac
  if [ "$size" -gt "$limit" ] && ! [[ "$file" =~ $agreed ]]; then
    echo "$file: expected at most 1 MB, found $size bytes; make it smaller, or add it to the list in scripts/check_tree.sh" >&2
    large=$((large + 1))
  fi
done < <(git ls-files -z)

echo "tree: $((bytes / 1000)) kB of $((most / 1000)) kB, $yaml of $most_yaml YAML files, $large files too large"
[ "$large" -eq 0 ] && [ "$bytes" -le "$most" ] && [ "$yaml" -le "$most_yaml" ]
