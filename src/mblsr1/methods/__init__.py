"""Optimizers as pairs of functions that the driver can run."""
