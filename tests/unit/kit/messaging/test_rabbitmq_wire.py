"""The frames we write and read ourselves, beside those of pamqp."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pamqp.frame
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp.base import Frame
from pamqp.body import ContentBody
from pamqp.commands import Basic, Channel
from pamqp.header import ContentHeader
from pamqp.heartbeat import Heartbeat

from yuanlian.kit.messaging import rabbitmq_wire as wire
from yuanlian.kit.messaging.rabbitmq_channel import Lane, _Splitter

CHANNEL = 7
texts = st.text(st.characters(codec="utf-8"), max_size=60)


@given(st.from_regex(r"[a-zA-Z0-9\-_.:]{0,127}", fullmatch=True), texts)
def test_a_publish_frame_is_pamqps(exchange: str, routing_key: str) -> None:
    expected = Basic.Publish(exchange=exchange, routing_key=routing_key, mandatory=True)
    assert wire.publish_frame(CHANNEL, exchange, routing_key) == pamqp.frame.marshal(expected, CHANNEL)


@given(st.integers(0, 2**63 - 1), st.booleans())
def test_settling_frames_are_pamqps(tag: int, multiple: bool) -> None:
    ack = pamqp.frame.marshal(Basic.Ack(delivery_tag=tag, multiple=multiple), CHANNEL)
    assert wire.ack_frame(CHANNEL, tag, multiple=multiple) == ack
    nack = pamqp.frame.marshal(Basic.Nack(delivery_tag=tag, multiple=False, requeue=True), CHANNEL)
    assert wire.requeue_frame(CHANNEL, tag) == nack
    assert wire.settled(ack[11:-1]) == (tag, multiple)


@given(texts, texts, texts, st.binary(max_size=300), st.integers(1, 50), st.integers(0, 2**41))
def test_a_message_reads_as_it_was_written(
    id_: str, type_: str, tenant: str, body: bytes, body_max: int, timestamp_ms: int
) -> None:
    headers = (("tenantId", tenant), ("userId", None))
    written = b"".join(
        wire.content_frames(CHANNEL, wire.properties(headers, id_, type_, timestamp_ms), body, body_max)
    )
    frames = []
    while written:
        size, channel, frame = pamqp.frame.unmarshal(written)
        assert channel == CHANNEL
        frames.append(frame)
        written = written[size:]
    header, *parts = frames
    assert isinstance(header, ContentHeader)
    assert header.body_size == len(body)
    assert header.properties.headers == {"tenantId": tenant}
    assert (header.properties.message_id, header.properties.message_type) == (id_, type_)
    assert (header.properties.delivery_mode, header.properties.content_type) == (2, "application/json")
    assert header.properties.timestamp == datetime.fromtimestamp(timestamp_ms // 1000, UTC)
    values = [part.value for part in parts if isinstance(part, ContentBody)]
    assert b"".join(values) == body
    assert all(len(value) <= body_max for value in values)


@pytest.mark.parametrize("text", ["x" * 256, "园" * 86])
def test_a_name_that_is_too_long_is_refused_and_not_cut(text: str) -> None:
    with pytest.raises(ValueError, match="longer than 255 bytes"):
        wire.short(text)


class Ear:
    """A lane's end, and what was left for aiormq."""

    def __init__(self) -> None:
        self.messages: list[tuple[int, int, bytes]] = []
        self.settled: list[tuple[int, int, bool]] = []
        self.lanes: dict[int, Lane] = {}

    def open(self, number: int) -> None:
        lane = Lane.__new__(Lane)
        lane.number = number
        lane._gone = False
        lane.on_closed = None
        lane.on_settled = lambda kind, tag, multiple: self.settled.append((kind, tag, multiple))
        lane.on_message = lambda kind, arguments, _, body: self.messages.append(
            (kind, wire.delivery_tag(arguments) if kind == wire.DELIVER else 0, body)
        )
        self.lanes[number] = lane


def delivered(channel: int, tag: int, body: bytes) -> bytes:
    frames: list[Frame | ContentHeader | ContentBody] = [
        Basic.Deliver("consumer", tag, False, "exchange", "key"),
        ContentHeader(body_size=len(body), properties=Basic.Properties(message_id=f"msg_{tag}")),
    ]
    frames += [ContentBody(body[start : start + 40]) for start in range(0, len(body), 40)]
    return b"".join(pamqp.frame.marshal(frame, channel) for frame in frames)


@given(st.lists(st.binary(max_size=120), max_size=6), st.lists(st.integers(1, 40), min_size=1, max_size=200))
def test_frames_are_told_apart_wherever_the_stream_is_cut(bodies: list[bytes], cuts: list[int]) -> None:
    async def scenario() -> None:
        ear = Ear()
        ear.open(1)
        reader = asyncio.StreamReader()
        splitter = _Splitter(reader, ear.lanes)
        for_aiormq = [
            pamqp.frame.marshal(Basic.QosOk(), 1),
            pamqp.frame.marshal(Channel.CloseOk(), 2),
            delivered(2, 99, b"of a channel without lane"),
        ]
        stream, expected = b"", []
        for tag, body in enumerate(bodies, 1):
            stream += for_aiormq[tag % 3] + delivered(1, tag, body)
            stream += pamqp.frame.marshal(Basic.Ack(delivery_tag=tag, multiple=True), 1)
            expected.append(for_aiormq[tag % 3])
        position = 0
        for length in cuts:
            splitter.data_received(stream[position : position + length])
            position += length
        splitter.data_received(stream[position:])
        reader.feed_eof()
        rest = await reader.read()
        assert rest.replace(pamqp.frame.marshal(Heartbeat(), 0), b"") == b"".join(expected)
        assert ear.messages == [(wire.DELIVER, tag, body) for tag, body in enumerate(bodies, 1)]
        assert ear.settled == [(wire.ACK, tag, True) for tag in range(1, len(bodies) + 1)]

    asyncio.run(scenario())
