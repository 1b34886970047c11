"""Run `snn-dt train`."""

import sys

from snn_dt.cli.main import run_command

if __name__ == "__main__":
    sys.exit(run_command("train", sys.argv[1:]))
