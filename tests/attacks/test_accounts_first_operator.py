"""A new installation without demo data: from an empty directory to a principal at work."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.support.platform import People, running

CHIEF, FIRST, OWN = "the chief's password", "handed to the principal", "the principal's own"


def tenants(*arguments: str, cwd: Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("YUANLIAN_")}
    return subprocess.run(
        [sys.executable, "-m", "yuanlian.runtime.cli", "tenants", *arguments],
        input=stdin,
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def create_operator(
    data_dir: Path, username: str, password: str = CHIEF, *options: str
) -> subprocess.CompletedProcess[str]:
    arguments = ("create-operator", username, "--password-stdin", "--data-dir", str(data_dir), *options)
    return tenants(*arguments, cwd=data_dir.parent, stdin=password + "\n")


def test_an_operator_made_on_the_command_line_opens_a_kindergarten(tmp_path: Path) -> None:
    created = create_operator(tmp_path / "data", "chief", CHIEF, "--name", "王平台")
    assert created.returncode == 0, created.stderr
    with running(tmp_path / "data", demo=False) as platform:
        people = People(platform.public)
        chief = people.sign_in("chief", CHIEF)
        assert (chief.tenant_id, chief.session["user"]["name"]) == ("platform", "王平台")
        tenant = chief.post("/api/tenant/tenants", {"name": "新苗幼儿园"})
        assert tenant.status == 201, tenant.body
        seat = {"username": "yuan", "name": "赵园长", "roles": ["principal"], "password": FIRST}
        seated = chief.post("/api/auth/users", {**seat, "tenantId": tenant.data["id"]})
        assert seated.status == 201, seated.body

        principal = people.sign_in("yuan", FIRST)
        assert principal.tenant_id == tenant.data["id"]
        change = {"current": FIRST, "next": OWN}
        assert principal.post("/api/auth/password", change).status == 200
        assert principal.post("/api/tenant/classes", {"name": "小一班"}).status == 201
        assert chief.get("/api/tenant/classes").status == 403
        people.close()


def test_an_operator_is_refused_beside_a_running_platform_and_under_a_taken_name(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    assert create_operator(data_dir, "chief").returncode == 0
    for username, password, said in (
        ("Chief", CHIEF, "taken"),
        ("chief2", "short", "password must have"),
        ("has space", CHIEF, "username must be"),
    ):
        refused = create_operator(data_dir, username, password)
        assert refused.returncode == 1
        assert said in refused.stderr
        assert "Traceback" not in refused.stderr
        assert CHIEF not in refused.stderr
    with running(data_dir, demo=False) as platform:
        assert platform.process is not None
        held = create_operator(data_dir, "chief3")
        assert held.returncode == 1
        assert f"held by process {platform.process.pid}" in held.stderr


def test_tenants_are_listed_with_and_without_the_word(tmp_path: Path) -> None:
    here = ("--data-dir", str(tmp_path / "data"))
    assert create_operator(tmp_path / "data", "chief").returncode == 0
    for arguments in (here, ("list", *here), (*here, "list")):
        listed = tenants(*arguments, cwd=tmp_path)
        assert listed.returncode == 0
        assert "platform" in listed.stdout
