#!/usr/bin/env bash
# Run the numerical tests under settings that change the order of sums, as another processor would:
#   bash scripts/test_numerics.sh                      two settings, `products` and `plain`, minutes on two cores
#   bash scripts/test_numerics.sh all                  every setting
#   bash scripts/test_numerics.sh avx2 kernels         the named ones
# Needs an environment in which the tests run (scripts/test.sh makes one). MKL_* change Intel's library only.
set -euo pipefail
cd "$(dirname "$0")/.."
declare -A settings=(
  [products]="MKL_CBWR=COMPATIBLE ATEN_CPU_CAPABILITY=default"                                # SSE2 sums in torch
  [plain]="SNN_DT_KERNEL=reference"                                                           # no kernels of ours
  [avx2]="MKL_ENABLE_INSTRUCTIONS=AVX2 ATEN_CPU_CAPABILITY=avx2"
  [sse42]="MKL_ENABLE_INSTRUCTIONS=SSE4_2 SNN_DT_TEST_THREADS=2 OMP_NUM_THREADS=2 OMP_WAIT_POLICY=PASSIVE"
  [strict]="MKL_CBWR=AVX2,STRICT"
  [kernels]="CXX=$PWD/scripts/cxx_x86_64.sh"                                                   # ours without AVX, built anew
)
names=("$@")
[ $# -gt 0 ] || names=(products plain)
[ "${names[0]}" != all ] || names=(products plain avx2 sse42 strict kernels)
folders=(tests/learning tests/snn tests/models tests/energy tests/evaluation tests/experimental/analysis tests/experimental/rsnn tests/test_energy.py)
# Not run: long trainings, gradient checks by finite differences, and runs that are compared with themselves.
other="not gradient_check and not resumed and not goes_on and not the_command"
for name in "${names[@]}"; do
  echo "numerics: $name (${settings[$name]:?no such setting, see the head of this script})"
  # shellcheck disable=SC2086
  env OMP_NUM_THREADS=1 ${settings[$name]} \
    python -m pytest -n "${SNN_DT_TEST_PROCESSES:-2}" -k "$other" -m "not slow" "${folders[@]}"
done
