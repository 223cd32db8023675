"""Limited-memory matrices and the trust-region subproblem."""
