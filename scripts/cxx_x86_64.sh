#!/usr/bin/env bash
# The C++ compiler, for any x86-64 instead of this one: what scripts/test_numerics.sh builds the kernels with.
arguments=()
for argument in "$@"; do
  arguments+=("${argument/#-march=native/-march=x86-64}")
done
exec g++ "${arguments[@]}"
