"""Benchmarks of the gateway against nginx; see README.md."""
