"""Record batches sent as they are, which no producer would send."""

from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.produce import ProduceRequest

_TIMEOUT_MS = 20_000


async def produce(bootstrap: str, topic: str, partition: int, batch: bytes) -> int:
    """Send a batch; returns Kafka's error code, 0 if it was taken."""
    client = AIOKafkaClient(bootstrap_servers=bootstrap, request_timeout_ms=_TIMEOUT_MS)
    await client.bootstrap()
    try:
        # One broker leads everything here.
        response = await client.send(
            client.get_random_node(), ProduceRequest(None, -1, _TIMEOUT_MS, [(topic, [(partition, batch)])])
        )
    finally:
        await client.close()
    ((_, ((_, code, *_),)),) = response.topics
    return int(code)
