"""The runs of these tests share one cache of datasets."""

from tests.runs import shared_cache as shared_cache
