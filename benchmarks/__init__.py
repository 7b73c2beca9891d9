"""What is measured or compared, each by `python -m benchmarks.NAME`; never a test."""
