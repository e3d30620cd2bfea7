"""What a Redis user must be allowed, and how to find out without doing any of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

Word = str | int

NOBODY = "yuanlian-check"
"""Takes the place of ``*``: a name that nothing else has."""

# Besides the key. As permissions are looked at first, commands that would write are made to fail: an odd
# number of fields, an amount that is none, an identifier that is too small. SADD cannot be: DEL follows it.
_ARGUMENTS: Mapping[str, Sequence[Word]] = {
    "EXPIRE": [1],
    "GETEX": ["PX", 0],
    "HGET": ["field"],
    "HINCRBY": ["field", "amount"],
    "HSET": ["field", "value", "odd"],
    "PEXPIRE": [1],
    "SADD": ["member"],
    "SET": ["value", "PX", 0],
    "XADD": ["MAXLEN", "~", 1, "0-0", "field", "value"],
    "XRANGE": ["-", "+"],
    "ZADD": ["score", "member"],
    "ZRANGE": [0, -1],
    "ZREM": ["member"],
    "ZREMRANGEBYSCORE": [0, 0],
}
_EVERYONE: Sequence[Sequence[Word]] = (
    ["PING"],
    ["TIME"],
    ["EVAL", "return 1", 0],
    ["EVALSHA", "0" * 40, 0],
)


class Needs(NamedTuple):
    """``keys``: by pattern, the commands used on such keys. ``channels``: patterns. ``*`` ends one."""

    keys: Mapping[str, Sequence[str]]
    channels: Sequence[str]


class Probe(NamedTuple):
    """A command that changes nothing, and the ACL rules that it rests on."""

    command: Sequence[Word]
    rule: str
    place: str

    def lacks(self, error: str) -> str | None:
        """The rule that is missing, if that is what the server says."""
        said = error.lower()  # releases differ in its case
        if "unknown command" in said:
            return self.rule
        if "no permissions" not in said:
            return None
        return self.rule if " to run " in said else self.place


def opening(*, cluster: bool) -> Iterator[Probe]:
    """What comes before everything else."""
    yield Probe(["INFO", "server"], "+info", "")
    if cluster:
        yield Probe(["CLUSTER", "SLOTS"], "+cluster|slots", "")
        yield Probe(["COMMAND"], "+command", "")
        yield Probe(["ASKING"], "+asking", "")
        yield Probe(["SCRIPT", "LOAD", "return 1"], "+script|load", "")


def probes(needs: Needs, channel: str) -> Iterator[Probe]:
    """``channel``: one on which anything may be said."""
    for command in _EVERYONE:
        name = "script|load" if command[0] == "SCRIPT" else str(command[0]).lower()
        yield Probe(command, f"+{name}", "")
    yield Probe(["PUBLISH", channel, ""], "+publish", f"&{channel}")
    for pattern, names in needs.keys.items():
        for name in names:
            words = [name, sample(pattern), *_ARGUMENTS.get(name, ())]
            yield Probe(words, f"+{name.lower()}", f"~{pattern}")


def listening(needs: Needs) -> Iterator[Probe]:
    """Only subscribed to: what is published there somebody may hear."""
    for pattern in needs.channels:
        yield Probe(["SUBSCRIBE", sample(pattern)], "+subscribe", f"&{pattern}")
    for pattern in needs.channels[:1]:
        yield Probe(["UNSUBSCRIBE", sample(pattern)], "+unsubscribe", "")


def sample(pattern: str) -> str:
    return pattern.replace("*", NOBODY)
