"""The CEL engine without its command line.

``import cel`` also imports an interactive shell (prompt_toolkit, pygments): 60 ms and 7 MB that no
server needs. A placeholder under the shell's name keeps it out; the engine never looks at it.
"""

from __future__ import annotations

import sys
from types import ModuleType

_SHELL = "cel.cli"

_kept_out = _SHELL not in sys.modules
if _kept_out:
    sys.modules[_SHELL] = ModuleType(_SHELL)

import cel  # noqa: E402 - after the placeholder, that is the point

if _kept_out:
    del sys.modules[_SHELL]

__all__ = ["cel"]
