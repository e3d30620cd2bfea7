"""How long the embedded platform takes to its first answer, and how much memory it keeps.

    python -m bench.bench_start [--starts 5]

Start: from making the process to the first 200 of ``/healthz``, on a new data directory with demo data
and on the one that this leaves behind; medians. Memory: the resident set (``VmRSS``) of that one process
and its peak (``VmHWM``), before and after people used what there is: every demo account signs in, 200
check-ins, boards, inboxes, analytics, a live board, the documentation, 200 children imported from an
.xlsx. Budgets: DESIGN §7, 2 s and 150 MB.
"""

from __future__ import annotations

import argparse
import io
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from openpyxl import Workbook
from tests.support.platform import People

from bench.machine import describe
from yuanlian.runtime.demo.accounts import NAMED

CHECK_INS = 200
IMPORTED = 200
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"


@contextmanager
def started(data_dir: Path) -> Iterator[tuple[subprocess.Popen[bytes], str, float]]:
    """The process, its address, and the seconds to its first answer."""
    port = _free_port()
    environment = {k: v for k, v in os.environ.items() if not k.startswith("YUANLIAN_")}
    command = [sys.executable, "-m", "yuanlian.runtime.cli", "up", "--demo", "--data-dir", str(data_dir)]
    begun = time.perf_counter()
    process = subprocess.Popen(
        [*command, "--port", str(port), "--admin-port", "0"],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        address = f"http://127.0.0.1:{port}"
        _await_answer(process, address)
        yield process, address, time.perf_counter() - begun
    finally:
        process.terminate()
        process.wait(timeout=20)


def _await_answer(process: subprocess.Popen[bytes], address: str) -> None:
    with httpx.Client(base_url=address, trust_env=False) as http:
        while process.poll() is None:
            try:
                if http.get("/healthz").status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.002)
    raise RuntimeError("the platform ended before it answered")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def use_everything(address: str) -> None:
    """What the demo kindergartens do in a morning, by everybody who can sign in."""
    people = People(address)
    for account in NAMED:
        person = people(account.username)
        for path in ("/api/auth/me", "/api/notifications/", "/api/auth/sessions"):
            assert person.get(path).status in (200, 403), path  # an operator has no inbox
    teacher, principal = people("laoshi"), people("yuanzhang")
    with teacher.socket() as socket_:
        for number in range(CHECK_INS):
            answer = teacher.check_in(f"student_sun_{number % 25 + 1:03d}", eventId=f"bench-{number}")
            assert answer.status == 201, answer.body
        socket_.next("attendance_update")
    for path in (
        *(f"/api/tenant/attendance/board?classId=class_sun_{number:02d}" for number in range(1, 13)),
        "/api/tenant/attendance/events?limit=200",
        "/api/tenant/students?limit=200",
        "/api/analytics/attendance/daily?from=2026-01-01&to=2026-01-31",
    ):
        assert principal.get(path).status == 200, path
    assert principal.http.post(
        "/api/tenant/students/import",
        content=_children(),
        headers={"authorization": f"Bearer {principal.token}", "content-type": XLSX},
    ).is_success
    for path in ("/docs", "/api/openapi.json"):
        assert principal.http.get(path).status_code == 200, path
    people.close()


def _children() -> bytes:
    workbook = Workbook()
    sheet = workbook.worksheets[0]
    sheet.append(["姓名", "性别", "出生日期", "班级", "家长姓名", "家长电话", "关系"])
    for number in range(IMPORTED):
        child, parent = f"新生{number}", f"家长{number}"
        sheet.append([child, "女", "2022-05-01", "class_sun_01", parent, 19900000000 + number, "母亲"])
    file = io.BytesIO()
    workbook.save(file)
    return file.getvalue()


def memory(pid: int) -> dict[str, float]:
    """In MB (10^6 bytes): resident now, at its peak, and how much of it is files of others to share."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return {name: int(fields[name].split()[0]) * 1024 / 1e6 for name in ("VmRSS", "VmHWM", "RssFile")}


def _show(when: str, pid: int) -> None:
    used = memory(pid)
    print(f"{when:28} {used['VmRSS']:6.1f} MB  (peak {used['VmHWM']:.1f}, of files {used['RssFile']:.1f})")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--starts", type=int, default=5)
    options = parser.parse_args()
    for name, value in describe(("sqlalchemy", "litestar")).items():
        print(f"{name:12} {value}")
    new, again = list[float](), list[float]()
    with tempfile.TemporaryDirectory() as folder:
        for number in range(options.starts):
            data_dir = Path(folder) / str(number)
            for times in (new, again):
                with started(data_dir) as (_, _, seconds):
                    times.append(seconds)
        for name, times in (("first start, demo data", new), ("start on existing data", again)):
            each = " ".join(f"{seconds:.2f}" for seconds in times)
            print(f"{name:28} {statistics.median(times):6.2f} s   ({each})")
        with started(data_dir) as (process, address, _):
            _show("memory, existing data", process.pid)
        with started(Path(folder) / "fresh") as (process, address, _):
            _show("memory, first start", process.pid)
            use_everything(address)
            time.sleep(1)
            _show("memory, everything used", process.pid)


if __name__ == "__main__":
    main()
