"""Good and bad records mixed, many of them, through one worker that is never restarted."""

import json

from tests.corpus import bad_records
from tests.corpus.record import Record as Corpus
from tests.corpus.wire import bomb, damaged, sound_batch, wire_records, with_unknown_codec
from tests.faults.real.stage import Failed, Stage
from tests.faults.real.traffic import Record
from tests.support.raw import produce

#: What the clicks topic takes here, so that nothing is refused before the worker sees it.
CLICKS_BYTES = 16_000_000
_SEND_AT_ONCE = 20_000
_BOMB_BYTES = 100_000_000
_BOMB_RECORDS = 40
#: One of the bombs in every so many sends.
_BOMBS_EVERY = 10


async def flood(stage: Stage) -> str:
    """Every class of the corpus again and again, and bombs; the worker counts what it does, and its counts must be right."""
    refused = 0
    worker = stage.worker(delay_ms=0.0)
    await stage.joined(worker)
    corpus = Corpus(stage.traffic.now_ms, stage.dice)
    left = stage.events
    while left > 0:
        await stage.send(min(_SEND_AT_ONCE, left))
        left -= _SEND_AT_ONCE
        if left // _SEND_AT_ONCE % _BOMBS_EVERY == 0:
            await _bombs(stage, corpus)
            refused += await _refused_batches(stage, corpus)
        await stage.until_committed(stage.sent - 5 * _SEND_AT_ONCE)
    await stage.until_committed(stage.sent)
    peak_mb = worker.peak_mb
    await stage.end(worker)
    if len(stage.workers) != 1 or not worker.counts.exists():
        raise Failed(f"the worker did not last: {worker.said[-300:]}")
    told = await _check_counts(stage, json.loads(worker.counts.read_text()))
    stage.copies_allowed = False
    await stage.finish()
    bombs = f"batches of {_BOMB_BYTES:,} bytes in a thousandth"
    return f"{stage.sent:,} good and bad records, {bombs}, {refused} damaged batches refused; {told}; worker's peak {peak_mb} MB"


async def _bombs(stage: Stage, corpus: Corpus) -> None:
    """The largest of the corpus, records with headers without end, and a compressed batch."""
    large = [case for case in bad_records(corpus.now_ms, stage.dice) if len(case.value or b"") > 900_000]
    wire = list(wire_records(corpus.now_ms, stage.dice))
    await stage.send_records(
        [Record(stage.dice.randrange(stage.topics.partitions), case.key, case.value) for case in large]
        + [Record(stage.dice.randrange(stage.topics.partitions), case.key, case.value, case.headers) for case in wire]
    )
    batch = bomb(corpus, _BOMB_RECORDS, _BOMB_BYTES)
    if len(batch) * 800 > _BOMB_BYTES:
        raise Failed(f"the bomb has {len(batch)} bytes: it is none")
    code = await produce(stage.settings.kafka.bootstrap_servers, stage.topics.clicks, stage.dice.randrange(4), batch)
    if code != 0:
        raise Failed(f"Kafka refuses the bomb with {code}")
    stage.sent += _BOMB_RECORDS


async def _refused_batches(stage: Stage, corpus: Corpus) -> int:
    """Kafka takes no batch that is not what it says: such never reach a worker."""
    batch = sound_batch(corpus, 5)
    batches = [*damaged(batch, stage.dice), ("unknown codec", with_unknown_codec(batch))]
    for name, wrong in batches:
        if await produce(stage.settings.kafka.bootstrap_servers, stage.topics.clicks, 0, wrong) == 0:
            stage.findings.append(f"Kafka has taken a batch with: {name}")
    return len(batches)


async def _check_counts(stage: Stage, counts: dict[str, float]) -> str:
    """Inputs = scores + dead letters + drops, by the worker's own counters."""
    inputs = int(counts["inkling_events_total"])
    done = {name: int(counts[f"inkling_{name}_total"]) for name in ("scores", "dead_letters", "dropped")}
    # The constant worker counts scores as the shipped one does, so the sum must be exact.
    if inputs != stage.sent or inputs != sum(done.values()):
        stage.findings.append(f"{stage.sent} sent, the worker counts {inputs} inputs and {done}")
    return ", ".join(f"{number:,} {name}" for name, number in done.items())
