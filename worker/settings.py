"""Every setting. The only reader of the environment: `INKLING_<GROUP>__<FIELD>`, else `inkling.toml`, else the default."""

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from worker.contract.session import SessionPolicy

#: Rows of sessions that one batch may change: 128 bytes each, and they are written to Kafka as one record batch.
_MOST_ROWS_A_BATCH = 128_000


class _Group(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class KafkaSettings(_Group):
    """How to reach Kafka. Secrets come from files only."""

    bootstrap_servers: str = "127.0.0.1:9092"
    # What Kafka's logs, metrics and quotas know our connections by.
    client_id: str = Field("inkling", min_length=1)
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    sasl_username: str | None = None
    sasl_password_file: Path | None = None
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    key_password_file: Path | None = None


class TopicSettings(_Group):
    """Topic names. All but `control` have the same number of partitions and are keyed by visitor."""

    clicks: str = "clicks"
    scores: str = "intent-scores"
    dead: str = "clicks-dead"
    outcomes: str = "intent-outcomes"
    changelog: str = "sessions-changelog"
    control: str = "model-control"
    partitions: int = Field(4, ge=1)


class SessionSettings(_Group):
    """What a session is, and how long a visitor who does not come again is remembered."""

    gap_s: float = Field(1800, gt=0)
    grace_s: float = Field(300, ge=0)
    forget_s: float = Field(2_592_000, gt=0)
    window: int = Field(64, ge=2, le=10_000)
    # Whether users have sequences of their own, made of clicks that the worker copies (`worker.follow`).
    follow_users: bool = False
    max_future_s: float = Field(86_400, ge=0)

    @model_validator(mode="after")
    def _grace_is_shorter_than_gap(self) -> Self:
        if self.grace_s >= self.gap_s:
            raise ValueError(f"grace_s ({self.grace_s:g}) must be less than gap_s ({self.gap_s:g})")
        if self.forget_s <= self.gap_s:
            raise ValueError(f"forget_s ({self.forget_s:g}) must be more than gap_s ({self.gap_s:g})")
        return self

    @property
    def policy(self) -> SessionPolicy:
        """The session rules in the contract's units."""
        milliseconds = (round(seconds * 1000) for seconds in (self.gap_s, self.grace_s, self.forget_s))
        return SessionPolicy(*milliseconds)


class TritonSettings(_Group):
    """The model server's gRPC address, and the HTTP one where only diagnosis asks."""

    url: str = "127.0.0.1:8001"


class ScoringSettings(_Group):
    """How long the model may take before the fallback answers, and when the breaker opens."""

    deadline_ms: float = Field(1000, gt=0)
    max_batch: int = Field(256, ge=1, le=256)
    breaker_failures: int = Field(3, ge=1)
    breaker_reset_s: float = Field(1.0, gt=0)


class ModelSettings(_Group):
    """The model's name, and the repository folder that the model server serves."""

    name: str = "intent"
    repository: Path = Path("model_repo")


class StateSettings(_Group):
    """Where the worker keeps files of its own, and how many sessions of a partition stay in memory: others go there, or none."""

    dir: Path = Path(".inkling")
    hot_sessions: int | None = Field(None, ge=1)


class WorkerSettings(_Group):
    """The consumer group, how much is taken at once, and what a crash may leave in the score topic: copies, or nothing."""

    group: str = "inkling-worker"
    delivery: Literal["at_least_once", "exactly_once"] = "at_least_once"
    max_batch: int = Field(2000, ge=1, le=2000)
    commit_interval_s: float = Field(1.0, gt=0)
    # The least that Kafka allows by default. Heartbeats have a thread of their own, so a busy worker keeps it.
    session_timeout_s: float = Field(6.0, gt=0)
    drain_s: float = Field(10.0, gt=0)


class LabelSettings(_Group):
    """The outcome join's consumer group."""

    group: str = "inkling-labels"


class MetricsSettings(_Group):
    """Where /metrics, /healthz and /readyz are served. Port 0 turns them off."""

    host: str = "127.0.0.1"
    # Several workers of one supervisor count up from here.
    port: int = Field(9464, ge=0, le=65535)
    labels_port: int = Field(9463, ge=0, le=65535)


class ConsoleSettings(_Group):
    """The live page."""

    host: str = "127.0.0.1"
    port: int = Field(8080, ge=0, le=65535)


class Settings(BaseSettings):
    """All groups. Frozen; build one per process and pass it down."""

    model_config = SettingsConfigDict(
        env_prefix="INKLING_", env_nested_delimiter="__", toml_file="inkling.toml", frozen=True, extra="forbid"
    )

    kafka: KafkaSettings = KafkaSettings()
    topics: TopicSettings = TopicSettings()
    session: SessionSettings = SessionSettings()
    triton: TritonSettings = TritonSettings()
    scoring: ScoringSettings = ScoringSettings()
    model: ModelSettings = ModelSettings()
    state: StateSettings = StateSettings()
    worker: WorkerSettings = WorkerSettings()
    labels: LabelSettings = LabelSettings()
    metrics: MetricsSettings = MetricsSettings()
    console: ConsoleSettings = ConsoleSettings()

    @model_validator(mode="after")
    def _changed_sessions_can_be_written(self) -> Self:
        batch, window = self.worker.max_batch, self.session.window
        if batch * window > _MOST_ROWS_A_BATCH:
            raise ValueError(
                f"a batch of {batch} events could change more sessions of {window} rows than can be written at once: "
                f"set INKLING_WORKER__MAX_BATCH to {max(_MOST_ROWS_A_BATCH // window, 1)} or less"
            )
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then the environment, then the file."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)
