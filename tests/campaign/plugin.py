"""The campaign's flags for pytest, and its table of counts at the end."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("campaign", "hostile and broken inputs (tests/campaign)")
    group.addoption("--campaign", choices=["quick", "full"], default="quick", help="a seeded sample, or every case")
    group.addoption("--campaign-seed", type=int, default=18, help="what the sample, cuts and bit flips are drawn from")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [*terminalreporter.stats.get("passed", ()), *terminalreporter.stats.get("failed", ())]
    rows = [value for report in reports for name, value in report.user_properties if name == "campaign"]
    if rows:
        from tests.campaign.judge import table

        terminalreporter.section("campaign")
        terminalreporter.write_line(table(rows))
