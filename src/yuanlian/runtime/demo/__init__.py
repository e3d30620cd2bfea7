"""Demo data: generated, the same every time, nobody's real data. CONTRACT §13."""
