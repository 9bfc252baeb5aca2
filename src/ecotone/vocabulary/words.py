"""Enumerations of the vocabulary. A member's value is the word as it stands in JSON, YAML, SQL and on pages."""

from enum import StrEnum


class ModelKind(StrEnum):
    WEIGHTS = "weights"
    API = "api"


class RepoType(StrEnum):
    MODEL = "model"
    DATASET = "dataset"
    SPACE = "space"


class Relation(StrEnum):
    """Lineage relation of a child revision to its parent."""

    FINETUNE = "finetune"
    CONTINUED_PRETRAIN = "continued_pretrain"
    ADAPTER = "adapter"
    ADAPTER_MERGED = "adapter_merged"
    MERGE = "merge"
    QUANTISED = "quantised"
    CONVERTED = "converted"
    PRUNED = "pruned"
    DEPTH_PRUNED = "depth_pruned"
    UPCYCLED = "upcycled"
    VOCAB_EXTENDED = "vocab_extended"
    COMPONENT_OF = "component_of"
    DISTILLED_LOGITS = "distilled_logits"
    DISTILLED_OUTPUTS = "distilled_outputs"
    TRAINED_ON = "trained_on"
    GENERATED_BY = "generated_by"
    EVALUATED_ON = "evaluated_on"
    CODE_FROM = "code_from"
    MIRROR_OF = "mirror_of"


class LicenceRelation(StrEnum):
    """How the licence engine reads a lineage relation."""

    DERIVE = "derive"
    LINK = "link"
    AGGREGATE = "aggregate"
    TRAIN_ON = "train_on"
    GENERATE = "generate"
    HOST = "host"


class EdgeStatus(StrEnum):
    DECLARED = "declared"
    VERIFIED = "verified"
    SUSPECTED = "suspected"
    REFUTED = "refuted"


class EdgeWord(StrEnum):
    """What an administrator says of a lineage edge."""

    CONFIRMED = "confirmed"
    REJECTED = "rejected"


class Verdict(StrEnum):
    """Answer of the licence engine; `rank` orders them from worst to best."""

    DENY = "deny"
    ASK_LICENCE = "ask_licence"
    UNKNOWN = "unknown"
    ALLOW_WITH_DUTIES = "allow_with_duties"
    ALLOW = "allow"

    @property
    def rank(self) -> int:
        return _VERDICT_ORDER.index(self)

    @property
    def passes(self) -> bool:
        """Whether a gateway call may go ahead on this verdict alone."""
        return self in (Verdict.ALLOW, Verdict.ALLOW_WITH_DUTIES)


_VERDICT_ORDER = list(Verdict)


class Mode(StrEnum):
    """What somebody wants to do with a model."""

    RUN = "run"
    SERVE_API = "serve_api"
    EMBED_PRODUCT = "embed_product"
    PUBLISH_WEIGHTS = "publish_weights"
    PUBLISH_ADAPTER = "publish_adapter"
    FINETUNE = "finetune"
    MERGE = "merge"
    QUANTISE = "quantise"
    TRAIN_ON_OUTPUTS = "train_on_outputs"
    PUBLISH_OUTPUTS = "publish_outputs"
    CALL_PROVIDER = "call_provider"


class Purpose(StrEnum):
    RESEARCH = "research"
    NONCOMMERCIAL = "noncommercial"
    INTERNAL_COMMERCIAL = "internal_commercial"
    COMMERCIAL = "commercial"


class DataClass(StrEnum):
    """Sensitivity of a text; `rank` orders them from harmless to secret."""

    PUBLIC = "public"
    INTERNAL = "internal"
    PERSONAL = "personal"
    CONFIDENTIAL = "confidential"
    SECRET = "secret"

    @property
    def rank(self) -> int:
        return _DATA_CLASS_ORDER.index(self)


_DATA_CLASS_ORDER = list(DataClass)


class PersonalData(StrEnum):
    """What a project wants done with personal data addressed to an external model."""

    LOCAL_ONLY = "local-only"
    PSEUDONYMISE = "pseudonymise"


class Role(StrEnum):
    READ = "read"
    WRITE = "write"
    ADMIN = "admin"


class Location(StrEnum):
    LOCAL = "local"
    EXTERNAL = "external"


class Tier(StrEnum):
    FREE = "free"
    PAID = "paid"
    ZERO_RETENTION = "zero_retention"


class JobState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        return self in (JobState.DONE, JobState.FAILED, JobState.CANCELLED)


class DeploymentState(StrEnum):
    STARTING = "starting"
    READY = "ready"
    IDLE = "idle"  # unloaded; the next call starts it
    FAILED = "failed"
    STOPPED = "stopped"
