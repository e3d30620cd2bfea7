"""Private servers from Debian's packages, for development, tests and measurements: no root, no service."""
