"""What a publisher makes of the broker's answers, whose order is the broker's."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pamqp.frame
import pytest
from pamqp.base import Frame
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from yuanlian.kit.messaging import rabbitmq_wire as wire
from yuanlian.kit.messaging.bus import BusUnavailableError
from yuanlian.kit.messaging.rabbitmq_channel import Lane
from yuanlian.kit.messaging.rabbitmq_publisher import Parcel, UnroutedError, _Confirms, _Sending


class OpenLane(Lane):
    """A channel whose other end is the test."""

    def __init__(self) -> None:
        self.number = 1
        self.written = b""
        self._gone = False
        self._parts = []
        self.on_message = self.on_settled = self.on_closed = None

    def write(self, frames: bytes) -> None:
        self.written += frames

    def hear(self, frame: Frame) -> None:
        payload = pamqp.frame.marshal(frame, 1)[7:-1]
        self.method(int.from_bytes(payload[:4], "big"), payload[4:])

    def give_back(self, parcel: Parcel) -> None:
        self.hear(Basic.Return(312, "NO_ROUTE", parcel.exchange, parcel.routing_key))
        properties = Basic.Properties(message_id=parcel.message_id)
        self.header(pamqp.frame.marshal(ContentHeader(body_size=0, properties=properties), 1)[7:-1])


def parcel(routing_key: str = "key", id_: str = "msg_1", *, wanted: bool = True) -> Parcel:
    return Parcel("exchange", routing_key, id_, wire.properties((), id_, "type", 0), b"{}", wanted)


def play(scenario: Callable[[OpenLane, _Confirms], Awaitable[None]]) -> None:
    async def run() -> None:
        lane = OpenLane()
        await scenario(lane, _Confirms(lane, 1000))

    asyncio.run(run())


def settled(sending: _Sending) -> bool:
    return sending.done.done()


def test_confirmed_one_by_one_and_in_any_order() -> None:
    async def scenario(lane: OpenLane, confirms: _Confirms) -> None:
        first, second = confirms.send([parcel(), parcel()]), confirms.send([parcel()])
        lane.hear(Basic.Ack(2))
        lane.hear(Basic.Ack(3))
        assert (settled(first), settled(second)) == (False, True)
        lane.hear(Basic.Ack(1))
        await first.done

    play(scenario)


def test_confirmed_many_at_once_up_to_the_tag_and_not_beyond() -> None:
    async def scenario(lane: OpenLane, confirms: _Confirms) -> None:
        first, second = confirms.send([parcel()] * 3), confirms.send([parcel()] * 2)
        lane.hear(Basic.Ack(2))
        lane.hear(Basic.Ack(4, multiple=True))
        assert (settled(first), settled(second)) == (True, False)
        lane.hear(Basic.Ack(5))
        await second.done

    play(scenario)


def test_one_refusal_fails_the_call_when_all_are_answered() -> None:
    async def scenario(lane: OpenLane, confirms: _Confirms) -> None:
        sending = confirms.send([parcel(), parcel()])
        lane.hear(Basic.Nack(1))
        assert not settled(sending)
        lane.hear(Basic.Ack(2))
        with pytest.raises(BusUnavailableError, match="could not keep message msg_1"):
            await sending.done

    play(scenario)


def test_what_comes_back_is_told_apart_by_where_it_was_going() -> None:
    """The same message dies in two queues at once, and one of the two has lost its dead letters."""

    async def scenario(lane: OpenLane, confirms: _Confirms) -> None:
        there, gone = parcel("first.dead"), parcel("second.dead")
        kept, lost = confirms.send([there]), confirms.send([gone])
        lane.give_back(gone)
        lane.hear(Basic.Ack(2, multiple=True))
        await kept.done
        with pytest.raises(UnroutedError, match=r"second\.dead"):
            await lost.done

    play(scenario)


def test_what_nobody_wants_may_come_back() -> None:
    async def scenario(lane: OpenLane, confirms: _Confirms) -> None:
        sending = confirms.send([parcel(wanted=False)])
        lane.give_back(parcel())
        lane.hear(Basic.Ack(1))
        await sending.done

    play(scenario)


def test_a_lost_channel_fails_what_was_not_answered_and_nothing_else() -> None:
    async def scenario(lane: OpenLane, confirms: _Confirms) -> None:
        answered, open_ = confirms.send([parcel()]), confirms.send([parcel()])
        lane.hear(Basic.Ack(1))
        lane.close()
        await answered.done
        with pytest.raises(BusUnavailableError, match="lost before it confirmed"):
            await open_.done
        lane.hear(Basic.Ack(2))  # too late, and of no meaning

    play(scenario)


def test_an_answer_to_what_was_never_sent_is_ignored() -> None:
    async def scenario(lane: OpenLane, confirms: _Confirms) -> None:
        sending = confirms.send([parcel()])
        lane.hear(Basic.Ack(7))
        lane.give_back(parcel(id_="msg_other"))
        assert not settled(sending)
        lane.hear(Basic.Ack(9, multiple=True))
        await sending.done

    play(scenario)
