"""What tests leave to chance, so that it can be brought back."""

from __future__ import annotations

import os
import secrets

SEED = int(os.environ.get("YUANLIAN_TEST_SEED", "0")) or secrets.randbits(32)
"""Another one each time; a failure says which, and the environment brings it back."""
