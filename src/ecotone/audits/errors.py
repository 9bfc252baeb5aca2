"""Reasons for which an audit does not start."""

from ecotone.vocabulary import Invalid, Unavailable


class NotAuditable(Invalid):
    """The model has nothing that the suite could measure."""

    code = "not_auditable"


class AuditNotInstalled(Unavailable):
    """The libraries of the extra `audit` are absent."""

    code = "extra_missing"

    def __init__(self, missing: str) -> None:
        super().__init__(
            f'Audits need {missing}, which is not installed here; run: pip install "ecotone[audit]"', retry_after=3600
        )
