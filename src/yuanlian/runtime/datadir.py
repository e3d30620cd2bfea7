"""One data directory, one process."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType

from yuanlian.runtime.refusals import Refusal


class DataDirHeldError(Refusal):
    """Another process uses the directory; the message names it."""


class DataDirLock:
    """An advisory lock that the kernel drops with the process, whatever end it meets."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._descriptor: int | None = None

    def __enter__(self) -> DataDirLock:
        self._data_dir.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._data_dir / "yuanlian.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 32).decode(errors="replace").strip() or "unknown"
            os.close(descriptor)
            raise DataDirHeldError(f"data directory {self._data_dir} is held by process {holder}") from None
        os.ftruncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
        self._descriptor = descriptor
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
