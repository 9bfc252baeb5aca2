"""One request at one candidate: what is known of it while it runs, and what its headers tell."""

import time

import msgspec

from ecotone.gateway.admission import Admission, Candidate
from ecotone.gateway.answers import Refusal
from ecotone.gateway.keys import provider_key
from ecotone.gateway.metering import Usage
from ecotone.gateway.parsing import Request


class Attempt:
    """One request at one candidate. `key` is the provider's, to be taken out of what it says."""

    def __init__(self, request_id: str, request: Request, admission: Admission, candidate: Candidate) -> None:
        self.request_id = request_id
        self.request = request
        self.admission = admission
        self.candidate = candidate
        self.key = provider_key(candidate.target.key_env)
        self.usage = Usage()
        self.began = time.monotonic()
        self.settled = False
        self.first: float | None = None

    def headers(self) -> dict[str, str]:
        target = self.candidate.target
        found = {"x-ecotone-backend": target.backend, "x-ecotone-model": self.candidate.name}
        if self.admission.route is not None:
            found["x-ecotone-reason"] = (
                self.candidate.why or f"route {self.admission.route}: decision and data class allow"
            )
        else:
            found["x-ecotone-reason"] = self.candidate.why or f"asked for; verdict {self.candidate.ruling.verdict}"
        if rules := self.candidate.ruling.rules:
            found["x-ecotone-reason"] += f"; allowed by rule {', '.join(rules)}"
        if self.candidate.ruling.warning is not None:
            found["x-ecotone-warning"] = self.candidate.ruling.warning
        return found


def because(candidate: Candidate, why: str) -> Candidate:
    """The candidate with one more reason for the answer's header."""
    return msgspec.structs.replace(candidate, why="; ".join(filter(None, [candidate.why, why])))


def died(attempt: Attempt, how: str, *, retry: bool = True) -> Refusal:
    """The refusal for an upstream whose answer is no good."""
    message = f"The backend {attempt.candidate.target.backend} {how}; the answer is incomplete."
    return Refusal(502, "upstream_died", message, retry=retry)
