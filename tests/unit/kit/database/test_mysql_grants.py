"""What is read out of ``SHOW GRANTS``, of MariaDB and of MySQL."""

from __future__ import annotations

import pytest

from yuanlian.kit.database.mysql_grants import MIGRATING, SERVING, lacking

USAGE = "GRANT USAGE ON *.* TO `u`@`%` IDENTIFIED BY PASSWORD '*D821809F681A40A6E379B50D0463EFAE20BDD122'"
EVERYTHING = [*SERVING, *MIGRATING]


def test_what_no_grant_gives_is_lacking() -> None:
    assert lacking([USAGE], "yuanlian") == EVERYTHING
    assert lacking([USAGE, "GRANT SELECT ON `yuanlian`.* TO `u`@`%`"], "yuanlian") == EVERYTHING[1:]


def test_grants_of_the_server_and_of_the_database_come_together() -> None:
    grants = [
        "GRANT CREATE, DROP, INDEX, ALTER, BACKUP_ADMIN ON *.* TO `u`@`%` WITH GRANT OPTION",
        "GRANT SELECT, INSERT, UPDATE ON `yuanlian`.* TO `u`@`%`",
    ]
    assert lacking(grants, "yuanlian") == ["DELETE"]


@pytest.mark.parametrize(
    "name",
    ["*", "`yuanlian`", "`Yuanlian`", "`%`", "`yuan%`", "`yuanlia_`", "`yuan%an`"],
)
def test_all_privileges_are_all_that_is_needed(name: str) -> None:
    assert lacking([USAGE, f"GRANT ALL PRIVILEGES ON {name}.* TO `u`@`%`"], "yuanlian") == []


@pytest.mark.parametrize(
    ("name", "database"), [(r"yuan\_x", "yuan_x"), (r"100\%", "100%"), ("a``b.*", "a`b.*")]
)
def test_a_name_may_have_wildcards_that_are_none(name: str, database: str) -> None:
    grant = f"GRANT ALL PRIVILEGES ON `{name}`.* TO `u`@`%`"
    assert lacking([grant], database) == []
    assert lacking([grant], database.replace("_", "-").replace("%", "5").replace(".", "-")) == EVERYTHING


def test_other_databases_do_not_count() -> None:
    grants = ["GRANT ALL PRIVILEGES ON `other`.* TO `u`@`%`", "GRANT SELECT ON `other`.`t` TO `u`@`%`"]
    assert lacking([USAGE, *grants], "yuanlian") == EVERYTHING


@pytest.mark.parametrize(
    "grant",
    [
        "GRANT `app_role`@`%` TO `u`@`%`",
        "GRANT `r` TO `u`@`127.0.0.1`",
        "GRANT SELECT, INSERT ON `yuanlian`.`tenants` TO `u`@`%`",
        "GRANT SELECT (`id`), UPDATE (`id`, `name`) ON `yuanlian`.`tenants` TO `u`@`%`",
        "GRANT whatever a later release says",
    ],
)
def test_what_leaves_it_open_is_believed(grant: str) -> None:
    assert lacking([USAGE, grant], "yuanlian") == []


@pytest.mark.parametrize(
    "grant",
    [
        "GRANT PROXY ON ``@`%` TO `u`@`%` WITH GRANT OPTION",
        "GRANT EXECUTE ON PROCEDURE `yuanlian`.`p` TO `u`@`%`",
        "SET DEFAULT ROLE `r` FOR `u`@`%`",
        "REVOKE SELECT ON `mysql`.* FROM `u`@`%`",
    ],
)
def test_what_is_about_something_else_is_passed_over(grant: str) -> None:
    assert lacking([USAGE, grant], "yuanlian") == EVERYTHING
