#!/usr/bin/env bash
# Count the instructions of a decision on a Cortex-M4F and a Cortex-M3 (QEMU) and write results/microcontroller.
# Usage: scripts/microcontroller.sh [microcontroller.py's options]     needs gcc-arm-none-eabi and qemu-system-arm
set -euo pipefail
cd "$(dirname "$0")/.."
for tool in arm-none-eabi-gcc qemu-system-arm; do
  if ! command -v "$tool" > /dev/null; then
    echo "skipped: expected $tool; apt-get install gcc-arm-none-eabi libnewlib-arm-none-eabi qemu-system-arm"
    exit 0
  fi
done
exec "${PYTHON:-python}" scripts/microcontroller.py "$@"
