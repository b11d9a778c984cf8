"""Apache Kafka itself, in one process: broker and controller, on the packaged Java and the locked jars."""

import asyncio
import shutil
import subprocess
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Callable
from pathlib import Path
from string import Template

from aiokafka.errors import KafkaError

from deploy.local.errors import StackError
from deploy.local.jars import ensure_jars
from deploy.local.java import find_java
from deploy.local.ports import HOST, is_free
from deploy.local.process import Child
from worker.kafka import admin_client
from worker.settings import KafkaSettings

_FILES = Path(__file__).parents[1] / "kafka"
_START_TIMEOUT_S = 60
# Small heap, one collector thread; IPv4 only, because that is what is listened on.
_JVM = ("-Xms128m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:-UsePerfData", "-Djava.net.preferIPv4Stack=true")


class KafkaBroker:
    """One Kafka with its files under `directory`: `data` (kept), `server.properties` (written at each start)."""

    name = "Kafka"

    def __init__(self, directory: Path, log: Path, port: int, controller_port: int, cache: Path | None = None) -> None:
        self.address = f"{HOST}:{port}"
        self.child: Child | None = None
        self._directory = directory
        self._log = log
        self._ports = {"port": port, "controller_port": controller_port}
        self._cache = cache

    def launch(self, progress: Callable[[str], None]) -> Child:
        """Fetches what is missing, formats the storage once, and starts the process. Raises StackError."""
        java = find_java()
        jars = ensure_jars(cache=self._cache, progress=progress)
        properties = self._write_properties()
        command = [
            str(java),
            *_JVM,
            f"-Dlog4j2.configurationFile={_FILES / 'log4j2.properties'}",
            "-cp",
            ":".join(map(str, jars)),
        ]
        if not (self._directory / "data" / "meta.properties").exists():
            self._format([command[0], "-XX:TieredStopAtLevel=1", *command[1:], "kafka.tools.StorageTool"], properties)
        self.child = Child(self.name, [*command, "kafka.Kafka", str(properties)], self._log)
        self.child.start()
        return self.child

    def wait_ready(self) -> None:
        """Returns when Kafka answers requests. Raises StackError."""
        assert self.child is not None
        self.child.wait_until(self._answers, _START_TIMEOUT_S)

    def stop(self) -> None:
        """Controlled shutdown; the data stays."""
        if self.child is not None:
            self.child.stop()

    def _write_properties(self) -> Path:
        self._directory.mkdir(parents=True, exist_ok=True)
        template = Template((_FILES / "server.properties").read_text())
        path = self._directory / "server.properties"
        path.write_text(template.safe_substitute(self._ports, data=self._directory.resolve() / "data"))
        return path

    def _format(self, command: list[str], properties: Path) -> None:
        """Into an empty folder only: an interrupted format leaves files without `meta.properties`."""
        shutil.rmtree(self._directory / "data", ignore_errors=True)
        # Given with "=", because one in 64 starts with a dash and would be taken for an option.
        cluster = urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
        answer = subprocess.run(
            [*command, "format", f"--cluster-id={cluster}", "-c", str(properties)], capture_output=True, text=True
        )
        if answer.returncode != 0:
            lines = (answer.stderr or answer.stdout).strip().splitlines()
            raise StackError(
                f"Kafka's storage in {self._directory} could not be formatted: {lines[-1] if lines else 'no message'}"
            )

    def _answers(self) -> bool:
        if is_free(int(self.address.rpartition(":")[2])):
            return False  # nobody listens: asking would only fill the log with refused connections
        return asyncio.run(_has_brokers(self.address))


async def _has_brokers(address: str) -> bool:
    """Whether Kafka answers a metadata request and counts its broker as alive."""
    try:
        async with admin_client(KafkaSettings(bootstrap_servers=address), timeout_s=2.0) as admin:
            return bool((await admin.describe_cluster())["brokers"])
    except (KafkaError, OSError, TimeoutError):
        return False
