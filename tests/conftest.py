"""Property tests say what holds, not how fast: with a deadline they would fail on a busy machine."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("yuanlian", deadline=None)
settings.load_profile("yuanlian")
