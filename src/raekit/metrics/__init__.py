"""Metrics of reconstructions and generations."""
