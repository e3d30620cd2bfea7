"""What nginx and Envoy both refuse, the gateway refuses. docs/attack-corpus.md has the other differences;
``python -m tests.attacks.http.test_differential`` prints them anew."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path
from random import Random, SystemRandom

import pytest
import uvloop
from tests.support.corpus import Case, requests
from tests.support.edge import edge, run
from tests.support.peers import ENVOY, NGINX, Heard, gateways, hear, programs
from tests.support.traffic import conversation
from tests.support.wire import Witness, exchange

_CONVERSATIONS = 400


@pytest.fixture(scope="module")
def installed() -> Mapping[str, Path]:
    """Before the half minute that a scenario has: they may have to be fetched."""
    return programs()


async def _both(installed: Mapping[str, Path], messages: list[bytes]) -> list[tuple[Heard, Heard]]:
    async with gateways(installed) as ports:
        nginx, envoy = await asyncio.gather(hear(ports[NGINX], messages), hear(ports[ENVOY], messages))
    return list(zip(nginx, envoy, strict=True))


def _ours(case: Case) -> Heard:
    """The corpus is held to its verdicts in ``test_corpus.py``."""
    return Heard(case.verdict.statuses, case.verdict.closes)


def test_what_both_refuse_of_the_corpus_we_refuse(installed: Mapping[str, Path]) -> None:
    async def scenario() -> None:
        cases = requests()
        verdicts = await _both(installed, [case.data for case in cases])
        both = [case for case, heard in zip(cases, verdicts, strict=True) if all(h.refused for h in heard)]
        assert len(both) >= 100, "the peers hardly refuse anything: are they there?"
        assert [case.name for case in both if not _ours(case).refused] == []

    run(scenario)


def test_what_both_refuse_of_random_conversations_we_refuse(installed: Mapping[str, Path]) -> None:
    seed = SystemRandom().randrange(2**32)

    async def scenario() -> None:
        rng, witness = Random(seed), Witness()
        messages = [conversation(rng) for _ in range(_CONVERSATIONS)]
        verdicts = await _both(installed, messages)
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
    verdicts = await _both(programs(), [case.data for case in cases])
    for case, heard in zip(cases, verdicts, strict=True):
        if len({_ours(case).refused, *(h.refused for h in heard)}) > 1:
            lines.append(f"| {case.name} | {_ours(case)} | {heard[0]} | {heard[1]} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(uvloop.run(_differences()))
