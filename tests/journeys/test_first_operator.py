"""A new distributed installation in production: demo data are refused, and the first operator is made while
all of it runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.support.distributed import found_by, guest
from tests.support.platform import People

CHIEF, FIRST = "the chief's password", "handed to the principal"
PRODUCTION = {"YUANLIAN_ENV": "production"}


def test_an_operator_made_beside_running_services_opens_a_kindergarten(tmp_path: Path) -> None:
    with guest(tmp_path / "platform", demo=False, settings=PRODUCTION) as platform:
        people = People(platform.public)
        before = {"data": {"username": "chief", "password": CHIEF}}
        assert people.http.post("/api/auth/login", json=before).status_code == 401

        settings = {f"YUANLIAN_{name.upper()}": value for name, value in found_by(platform).items()}
        command = ["tenants", "create-operator", "chief", "--password-stdin"]
        made = subprocess.run(
            [sys.executable, "-m", "yuanlian.runtime.cli", *command],
            input=CHIEF + "\n",
            cwd=tmp_path,
            env={**os.environ, **settings, **PRODUCTION},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (made.returncode, made.stderr) == (0, "")

        chief = people.sign_in("chief", CHIEF)
        assert chief.tenant_id == "platform"
        tenant = chief.post("/api/tenant/tenants", {"name": "新苗幼儿园"})
        assert tenant.status == 201, tenant.body
        seat = {"username": "yuan", "name": "赵园长", "roles": ["principal"], "password": FIRST}
        seated = chief.post("/api/auth/users", {**seat, "tenantId": tenant.data["id"]})
        assert seated.status == 201, seated.body
        assert people.sign_in("yuan", FIRST).tenant_id == tenant.data["id"]
        people.close()
