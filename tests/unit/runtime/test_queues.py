"""What the broker is told of the queues is what their services say of them."""

from __future__ import annotations

import io
from pathlib import Path

from yuanlian.contracts.queues import NOT_YET_CONSUMED, QUEUES
from yuanlian.kit.observe.logs import Log
from yuanlian.runtime.settings import Settings
from yuanlian.runtime.wiring import embedded


def test_every_subscription_is_declared_and_every_queue_consumed(tmp_path: Path) -> None:
    platform = embedded(Settings(data_dir=tmp_path), Log("test", io.StringIO()))
    subscribed = {
        subscription.queue: subscription.types
        for module in platform.modules
        for subscription in module.subscriptions
    }
    assert subscribed == {queue: types for queue, types in QUEUES.items() if queue not in NOT_YET_CONSUMED}
    assert set(QUEUES) >= NOT_YET_CONSUMED


def test_the_queues_of_the_contract_are_there() -> None:
    names = ("notification", "attendance", "analytics", "email", "sms", "push")
    assert {f"{name}.queue" for name in names} <= set(QUEUES)
