"""Taking a dead member out of its consumer group, so that the others need not wait for its session to time out."""

from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.errors import KafkaError, for_code
from aiokafka.protocol.admin import DescribeGroupsRequest
from aiokafka.protocol.group import LeaveGroupRequest
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from worker.kafka import connection
from worker.settings import KafkaSettings

#: The coordinator may just move, or a broker restart; later the session's timeout does it anyway.
_TRY_FOR_S = 3.0


@retry(retry=retry_if_exception_type(KafkaError), wait=wait_fixed(0.5), stop=stop_after_delay(_TRY_FOR_S), reraise=True)
async def leave_group(kafka: KafkaSettings, group: str, client_id: str) -> int:
    """Say for every member with this client id that it leaves; the group meets again at once. How many there were.

    Only for processes that are known to be dead: a live member would be thrown out. Raises KafkaError.
    """
    client = AIOKafkaClient(**connection(kafka))
    try:
        await client.bootstrap()
        coordinator = await client.coordinator_lookup(CoordinationType.GROUP, group)
        (described,) = (await client.send(coordinator, DescribeGroupsRequest([group]))).groups
        error, _, _, _, _, members, *_ = described
        _check(error, group)
        dead = [member_id for member_id, known_as, *_ in members if known_as == client_id]
        for member_id in dead:
            _check((await client.send(coordinator, LeaveGroupRequest(group, member_id))).error_code, member_id)
        return len(dead)
    finally:
        await client.close()


def _check(error_code: int, what: str) -> None:
    if error_code:
        raise for_code(error_code)(what)
