"""A campaign of hostile and broken inputs: tables of cases, one judge, counts.

`python -m pytest tests/campaign` runs a seeded sample in about a minute, `--campaign full` every case,
`python -m tests.campaign [FAMILY ...]` the same without pytest, for who mends what it finds.
"""
