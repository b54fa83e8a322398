"""Monitoring: the measures of each night, and the nightly report."""
