"""The pages, tables and figures of this repository's `results/`, which `scripts/reproduce.py` writes.

| file | contents |
|---|---|
| `records.py` | the JSON file of a run; names of 0.1.0 |
| `cached_baseline.py` | what records of older versions lack |
| `robust_mean.py` | the interquartile mean and its interval |
| `table.py`, `activity.py`, `page.py` | cells, a table and the page of a plan in Markdown |
| `figures.py`, `runs_csv.py` | figures of a plan; one row per run |
| `files.py`, `pretrained.py` | what is written to `results/` and `results/pretrained/` |
"""
