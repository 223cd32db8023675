"""Timings of the algebra, beside references measured in the same process: ``python -m nox -s bench``."""
