"""The main corridor under load. Run it with ``make bench-checkin``."""
