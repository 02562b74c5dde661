"""Probes: one signature, one module for each way to look (see `result.Probe`)."""
