"""Tests of snn_dt.export."""
