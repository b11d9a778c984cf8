"""The topics of Inkling."""

from deploy.local.topics import standard_topics
from worker.settings import TopicSettings


def test_every_topic_of_the_settings_is_made() -> None:
    """Each name comes once, under the name that the settings give it."""
    names = TopicSettings(clicks="my-clicks", partitions=7)
    made = {spec.name: spec for spec in standard_topics(names)}
    assert set(made) == {names.clicks, names.scores, names.dead, names.outcomes, names.changelog, names.control}
    assert made["my-clicks"].partitions == 7


def test_topics_read_side_by_side_have_equal_partitions() -> None:
    """A visitor is on the same partition number in each; the control topic is read whole by everybody."""
    names = TopicSettings(partitions=3)
    partitions = {spec.name: spec.partitions for spec in standard_topics(names)}
    assert partitions.pop(names.control) == 1
    assert set(partitions.values()) == {3}


def test_state_is_compacted_and_events_are_not() -> None:
    """Compacting events would lose them; deleting state would lose sessions and the pointer."""
    names = TopicSettings()
    policy = {spec.name: spec.config["cleanup.policy"] for spec in standard_topics(names)}
    assert {name for name, kind in policy.items() if kind == "compact"} == {names.changelog, names.control}


def test_changelog_takes_large_batches() -> None:
    """One request carries all dirty sessions of a batch."""
    (changelog,) = [spec for spec in standard_topics(TopicSettings()) if spec.name == "sessions-changelog"]
    assert changelog.config["max.message.bytes"] == "25165824"
