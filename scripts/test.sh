#!/usr/bin/env bash
# The set-up, then all tests. Arguments go to pytest: bash scripts/test.sh tests/snn -k trace
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/setup.sh "dev,mujoco,ray"
# Two processes of one thread each use two cores better than one process of two threads.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
exec python -m pytest -n "${SNN_DT_TEST_PROCESSES:-2}" "$@"
