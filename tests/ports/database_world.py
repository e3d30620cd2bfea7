"""What the tests of the database port share: a few tables, and ways to act beside a running work."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from sqlalchemy import String, func, insert, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from yuanlian.kit.database.database import Database
from yuanlian.kit.database.schema import Base as PlatformBase
from yuanlian.kit.database.schema import TenantOwned, table_of
from yuanlian.kit.messaging.tables import Sequence

T = TypeVar("T")


class Base(DeclarativeBase):
    type_annotation_map = PlatformBase.type_annotation_map


class Note(Base):
    """Without a key of its own content: what is stored twice is there twice."""

    __tablename__ = "notes"

    number: Mapped[int] = mapped_column(Sequence, primary_key=True, autoincrement=True)
    text: Mapped[str] = mapped_column(String(200))


class Place(Base):
    __tablename__ = "places"

    key: Mapped[str] = mapped_column(primary_key=True)
    count: Mapped[int]


class Toy(TenantOwned, Base):
    __tablename__ = "toys"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str | None] = mapped_column(String(200))


NOTES = table_of(Note)  # type: ignore[arg-type]
TOYS = table_of(Toy)  # type: ignore[arg-type]


def note(text: str) -> Callable[[Session], str]:
    def work(session: Session) -> str:
        session.execute(insert(Note), {"text": text})
        return text

    return work


def notes(session: Session) -> list[str]:
    return [*session.scalars(select(Note.text).order_by(Note.number))]


def count_notes(session: Session) -> int:
    return session.execute(select(func.count()).select_from(Note)).scalar_one()


def beside(scene: Callable[[], Awaitable[T]]) -> T:
    """Runs a scene in a loop of its own while the caller, a work, is in the middle of its transaction."""

    async def play() -> T:
        return await asyncio.wait_for(scene(), 20)

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(lambda: asyncio.run(play())).result()


class Meeting:
    """Two works wait for each other once; when they are run again they pass."""

    def __init__(self) -> None:
        self._barrier = threading.Barrier(2)
        self._met = threading.local()

    def wait(self) -> None:
        if not getattr(self._met, "already", False):
            self._met.already = True
            self._barrier.wait(10)


def at_once(*scenes: Callable[[], Awaitable[Any]]) -> list[Any]:
    """Each in a thread and a loop of its own, as processes would; results in order."""
    with ThreadPoolExecutor(len(scenes)) as threads:

        def run(scene: Callable[[], Awaitable[Any]]) -> Any:
            async def play() -> Any:
                return await asyncio.wait_for(scene(), 30)

            return asyncio.run(play())

        return [future.result() for future in [threads.submit(run, scene) for scene in scenes]]


async def closing(database: Database, work: Awaitable[T]) -> T:
    try:
        return await work
    finally:
        await database.close()
