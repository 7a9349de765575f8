"""Benchmarks: `make bench` runs them all and prints the table that stands in the README.

Every speed is a ratio of two things measured in one run, interleaved, so that a slow or busy machine slows both.
"""
