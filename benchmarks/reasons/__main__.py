"""Runs benchmarks.reasons.deletion: `python -m benchmarks.reasons`."""

from benchmarks.reasons.deletion import main

raise SystemExit(main())
