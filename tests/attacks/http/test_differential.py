"""What nginx and Envoy both refuse, the gateway refuses. docs/attack-corpus.md has the other differences;
``python -m tests.attacks.http.test_differential`` prints them anew."""

from __future__ import annotations

import asyncio
import sys
from random import Random, SystemRandom

import uvloop
from tests.support.corpus import Case, requests
from tests.support.edge import edge, run
from tests.support.peers import ENVOY, NGINX, Heard, gateways, hear
from tests.support.traffic import conversation
from tests.support.wire import Witness, exchange

_CONVERSATIONS = 400


async def _both(messages: list[bytes]) -> list[tuple[Heard, Heard]]:
    async with gateways() as ports:
        nginx, envoy = await asyncio.gather(hear(ports[NGINX], messages), hear(ports[ENVOY], messages))
    return list(zip(nginx, envoy, strict=True))


def _ours(case: Case) -> Heard:
    """The corpus is held to its verdicts in ``test_corpus.py``."""
    return Heard(case.verdict.statuses, case.verdict.closes)


def test_what_both_refuse_of_the_corpus_we_refuse() -> None:
    async def scenario() -> None:
        cases = requests()
        verdicts = await _both([case.data for case in cases])
        both = [case for case, heard in zip(cases, verdicts, strict=True) if all(h.refused for h in heard)]
        assert len(both) >= 100, "the peers hardly refuse anything: are they there?"
        assert [case.name for case in both if not _ours(case).refused] == []

    run(scenario)


def test_what_both_refuse_of_random_conversations_we_refuse() -> None:
    seed = SystemRandom().randrange(2**32)

    async def scenario() -> None:
        rng, witness = Random(seed), Witness()
        messages = [conversation(rng) for _ in range(_CONVERSATIONS)]
        verdicts = await _both(messages)
        async with edge(witness) as e:
            for data, heard in zip(messages, verdicts, strict=True):
                if all(h.refused for h in heard):
                    result = await exchange(e.gateway, witness, [data])
                    ours = Heard(result.verdict.statuses, result.verdict.closes)
                    assert ours.refused, (seed, data, str(ours), *map(str, heard))

    run(scenario)


async def _differences() -> str:
    """A Markdown table of the cases in which not all three do the same."""
    cases = requests()
    lines = ["| case | 园联 | nginx | Envoy |", "|---|---|---|---|"]
    for case, heard in zip(cases, await _both([case.data for case in cases]), strict=True):
        if len({_ours(case).refused, *(h.refused for h in heard)}) > 1:
            lines.append(f"| {case.name} | {_ours(case)} | {heard[0]} | {heard[1]} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(uvloop.run(_differences()))
