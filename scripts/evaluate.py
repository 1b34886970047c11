"""Run `snn-dt evaluate`."""

import sys

from snn_dt.cli.main import run_command

if __name__ == "__main__":
    sys.exit(run_command("evaluate", sys.argv[1:]))
