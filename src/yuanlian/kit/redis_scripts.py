"""Lua scripts for Redis, and many calls of one of them as a single one."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

Word = str | bytes | int | float
Command = Sequence[Word]
Call = tuple[Sequence[str], Command]
"""The keys and the words of one call of a script: its KEYS and ARGV."""

# ARGV: how many calls; of each, how many keys and words it has; then the words of all. A call that fails
# answers its error, and the others are made all the same.
_TOGETHER = """
local function one(KEYS, ARGV)
%s
end
local calls = tonumber(ARGV[1])
local key, word = 0, 2 * calls + 1
local answers = {}
for call = 1, calls do
  local keys, words = {}, {}
  for i = 1, tonumber(ARGV[2 * call]) do keys[i] = KEYS[key + i] end
  for i = 1, tonumber(ARGV[2 * call + 1]) do words[i] = ARGV[word + i] end
  key, word = key + #keys, word + #words
  local done, answer = pcall(one, keys, words)
  if not done and type(answer) ~= 'table' then answer = redis.error_reply(tostring(answer)) end
  if answer == nil then answer = false end
  answers[call] = answer
end
return answers
"""


class Source(NamedTuple):
    """``digest``: by which a server knows a script that it has been sent."""

    text: str
    digest: str


class Script:
    """Sent once to each server and then called by its digest. The keys of a call are one slot of a cluster.

    ``before``: declares locals that are the same for calls made together, and runs once for all of them.
    """

    def __init__(self, source: str, before: str = "") -> None:
        self.one = _source(before + source)
        self.together = _source(before + _TOGETHER % source)


def as_one(calls: Sequence[Call]) -> Call:
    """The call of ``Script.together`` that makes them: to read an answer costs more than what is in it
    (decision record 0020)."""
    sizes = [size for keys, words in calls for size in (len(keys), len(words))]
    return (
        [key for keys, _ in calls for key in keys],
        [len(calls), *sizes, *(word for _, words in calls for word in words)],
    )


def _source(text: str) -> Source:
    return Source(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())
