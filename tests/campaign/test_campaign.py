"""No hostile or broken input gives a traceback, a hang, runs code or is taken without a word."""

from __future__ import annotations

import pytest

from tests.campaign.families import QUICK, cases_of, sample
from tests.campaign.judge import Server, counts_of, run_family


@pytest.fixture(scope="module")
def server():
    """One server for all families of this process."""
    server = Server()
    yield server
    server.close()


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("family", QUICK)
def test_every_input_of_the_family_is_judged_as_expected(family, server, request, record_property):
    seed = request.config.getoption("--campaign-seed")
    cases = cases_of(family, seed)
    if request.config.getoption("--campaign") == "quick":
        cases = sample(family, cases, seed)
    report = run_family(family, cases, server)
    record_property("campaign", counts_of(report))
    assert not report.failures, "\n".join([f"{len(report.failures)} of {report.cases} inputs", *report.failures])


def test_the_full_form_has_more_than_1300_inputs():
    assert sum(len(cases_of(family, 18)) for family in QUICK) >= 1300
