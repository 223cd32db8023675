"""The paper's Algorithms 2, 3, 5, 6 and parts of 4, one module each, as plain functions."""
