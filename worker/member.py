"""One of the workers of a supervisor: what it is called, where it serves, and how it tells what it ended with."""

from typing import NamedTuple

from pydantic import ValidationError

from worker.errors import InklingError
from worker.restarts import Exit
from worker.service import Service, configure_logging, one_line, run_service
from worker.settings import Settings


class Member(NamedTuple):
    """Worker `number` of the supervisor that calls its workers `crew`, a name that no other supervisor has."""

    crew: str
    number: int

    def __str__(self) -> str:
        return f"{self.crew}.{self.number}"

    @classmethod
    def parse(cls, text: str) -> "Member":
        """The member that `str` gave. Raises ValueError if it is none."""
        crew, number = text.split(".")
        return cls(crew, int(number))

    def settings(self, shared: Settings) -> Settings:
        """What it makes of the settings that all of them have: a client id and a port for its metrics of its own."""
        port = shared.metrics.port and shared.metrics.port + self.number
        kafka = shared.kafka.model_copy(update={"client_id": f"{shared.kafka.client_id}.{self}"})
        return shared.model_copy(update={"kafka": kafka, "metrics": shared.metrics.model_copy(update={"port": port})})


def run_member(run: Service, member: Member) -> None:
    """Run a service as a supervisor's child.

    It logs to the stderr that all share, with its number. Its stdout is for its supervisor: the line of the error that it
    ended with; the status says what kind it was. It may be told to end by the supervisor and by whoever tells the whole
    process group, so only the first time counts: ending it at once is the supervisor's part.
    """
    configure_logging(member.number)
    try:
        run_service(run, lambda: member.settings(Settings()), patient=True)
    except InklingError as error:
        _end(one_line(error), Exit.of(error))
    except ValidationError as error:
        _end(one_line(error), Exit.MISCONFIGURED)


def _end(message: str, status: Exit) -> None:
    print(message, flush=True)
    raise SystemExit(int(status))
