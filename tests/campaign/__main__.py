"""`python -m tests.campaign [--quick] [--only TEXT] [--list] [FAMILY ...]`: the campaign without pytest."""

from __future__ import annotations

import argparse
import sys
import time

from tests.campaign.families import QUICK, cases_of, sample
from tests.campaign.judge import LIMIT, Server, counts_of, run_family, table


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.campaign", description=__doc__)
    parser.add_argument("families", nargs="*", metavar="FAMILY", help=", ".join(QUICK))
    parser.add_argument("--quick", action="store_true", help="the sample alone")
    parser.add_argument("--only", default="", help="cases whose name holds this text")
    parser.add_argument("--seed", type=int, default=18)
    parser.add_argument("--limit", type=float, default=LIMIT, help="seconds until a command counts as one that hangs")
    parser.add_argument("--list", action="store_true", help="name the cases, run none")
    options = parser.parse_args()
    server, rows, failed = None, [], 0
    for family in options.families or QUICK:
        cases = [case for case in cases_of(family, options.seed) if options.only in case.name]
        cases = sample(family, cases, options.seed) if options.quick else cases
        if options.list:
            print(f"{family} {len(cases)}", *(f"  {case.name}" for case in cases), sep="\n")
            continue
        server = server or Server()
        started = time.monotonic()
        report = run_family(family, cases, server, options.limit, say=lambda text: print(text, flush=True))
        rows.append(counts_of(report))
        failed += len(report.failures)
        took, (slowest, name) = time.monotonic() - started, report.slowest
        spent = f"{took:.0f} s, {report.cpu_seconds:.0f} s of CPU, of which {slowest:.1f} s for {name}"
        print(f"{family}: {spent}\n", flush=True)
    if rows:
        print(table(rows))
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
