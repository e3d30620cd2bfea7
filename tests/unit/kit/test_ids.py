from __future__ import annotations

import subprocess
import sys
import threading
import time
import uuid

from yuanlian.kit.ids import new_id, uuid7_hex


def test_an_id_is_a_prefix_and_a_uuid_of_version_7() -> None:
    prefix, _, digits = new_id("student").partition("_")
    parsed = uuid.UUID(hex=digits)
    assert prefix == "student"
    assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)
    assert abs((parsed.int >> 80) - time.time() * 1000) < 10_000


def test_ids_sort_as_they_were_made() -> None:
    made = [uuid7_hex() for _ in range(20_000)]
    assert made == sorted(made)


def test_threads_never_make_the_same_id() -> None:
    made: list[list[str]] = [[] for _ in range(8)]

    def make(into: list[str]) -> None:
        into.extend(uuid7_hex() for _ in range(5_000))

    threads = [threading.Thread(target=make, args=(into,)) for into in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id_ for ids in made for id_ in ids}) == 8 * 5_000


FORK = """
import os
from yuanlian.kit.ids import uuid7_hex
uuid7_hex()  # so that there is something to inherit
if child := os.fork():
    os.waitpid(child, 0)  # so that their lines do not mix
print(*(uuid7_hex()[-15:] for _ in range(50)), flush=True)
"""


def test_a_forked_process_does_not_repeat_its_parents_randomness() -> None:
    # In its own interpreter: threads of other tests must not be forked.
    output = subprocess.run([sys.executable, "-c", FORK], capture_output=True, text=True, check=True).stdout
    assert len(output.split()) == len(set(output.split())) == 100
