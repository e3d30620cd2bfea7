"""The bus suite against RabbitMQ, and what only a broker can do to its clients."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.ports.bus_suite import BusSuite
from tests.ports.rabbitmq_installation import RabbitMqInstallation
from tests.support import servers

pytestmark = pytest.mark.servers


class TestRabbitMqBus(BusSuite):
    @pytest.fixture
    def installation(self, tmp_path: Path) -> RabbitMqInstallation:
        return RabbitMqInstallation(servers.rabbitmq(), tmp_path)
