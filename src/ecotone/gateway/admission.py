"""May this key call this model with this text, and where does it go? Pure: a snapshot in, a list of candidates out."""

from typing import Any

import msgspec

from ecotone.gateway.answers import Refusal
from ecotone.gateway.parsing import Request
from ecotone.gateway.snapshot import Consumer, Ruling, Snapshot, Target
from ecotone.privacy import Findings, TooDeep, find, inspect
from ecotone.vocabulary import DataClass, Location, PersonalData


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A place that may answer, with the decision that lets it.

    `model` is the name by which the place knows the model, `name` ours; `masked` says that the text goes out with
    placeholders, `why` what the answer's header tells.
    """

    target: Target
    model: str
    name: str
    ruling: Ruling
    masked: bool = False
    why: str = ""


class Admission(msgspec.Struct, frozen=True, kw_only=True):
    """What may happen: candidates in order, never empty; what was found in the text."""

    consumer: Consumer
    route: str | None
    candidates: tuple[Candidate, ...]
    findings: Findings


USER_TOKEN = "ect_"


def identify(snapshot: Snapshot, hashed: str | None, *, prefix: str = "") -> Consumer:
    """The project behind the hash of a key.

    Args:
        hashed: SHA-256 of the secret that was sent; None when none was.
        prefix: the first letters of the secret, which tell its kind.

    Raises:
        Refusal: 401, also for a secret of the wrong kind, which is named.
    """
    if hashed is None:
        raise Refusal(
            401, "missing_key", "No key was sent; send `Authorization: Bearer KEY` with a project's key (eck_...)."
        )
    key = snapshot.keys.get(hashed)
    consumer = snapshot.consumers.get(key.project) if key else None
    if consumer is None:
        if prefix == USER_TOKEN:
            raise Refusal(
                401,
                "wrong_kind_of_secret",
                "This is a user's token (ect_...); the gateway takes a project's key (eck_...), see `ecotone key`.",
            )
        raise Refusal(401, "invalid_api_key", "The key is not known or was revoked; ask for a new one.")
    return consumer


def look_into(request: Request) -> Findings:
    """What sensitive text the body holds.

    Raises:
        Refusal: 400 when it cannot be looked through, 403 when the model's name holds any: names go out unmasked and
            stand in records.
    """
    if kinds := {s.kind for s in find(request.model)}:
        text = (
            f"The model's name holds {', '.join(sorted(kinds))}; send the name of a model, e.g. one of GET /v1/models."
        )
        raise Refusal(403, "privacy_denied", text, param="model")
    try:
        return inspect(request.value)
    except TooDeep as error:
        raise Refusal(400, "too_deep", error.message) from None


def admit(snapshot: Snapshot, consumer: Consumer, request: Request, findings: Findings) -> Admission:
    """The candidates that the decision and the data class allow.

    Raises:
        Refusal: 404 for an unknown model, 451 by the decision, 403 for personal data that may not leave, 503 for an
            engine that is not ready.
    """
    route = snapshot.routes.get(request.model)
    names = [c.model for c in route.candidates] if route is not None else [request.model]
    if route is not None and route.strategy == "fixed":
        del names[1:]
    allowed: list[Candidate] = []
    refusals: list[Refusal] = []
    passed_over: list[str] = []
    for name in names:
        try:
            allowed.append(_candidate(snapshot, consumer, name, findings))
        except Refusal as refusal:
            refusals.append(refusal)
            if not allowed and (why := _passed_over(name, refusal, findings)):
                passed_over.append(why)
    if not allowed:
        try:
            raise _worst(refusals, request.model, routed=route is not None)
        finally:
            refusals.clear()  # it holds this frame: together they would hold the body until the collector came
    if passed_over:
        allowed = [msgspec.structs.replace(c, why="; ".join([*passed_over, *filter(None, [c.why])])) for c in allowed]
    return Admission(
        consumer=consumer,
        route=request.model if route is not None else None,
        candidates=tuple(allowed),
        findings=findings,
    )


def _passed_over(name: str, refusal: Refusal, findings: Findings) -> str:
    """Why a route's earlier candidate was not taken, for the answer's header."""
    if refusal.code == "privacy_denied":
        return f"personal; data class {findings.data_class}: kept from the external model {name}"
    return f"decision: {name} refused ({refusal.ecotone.get('verdict')})" if refusal.status == 451 else ""


def visible(snapshot: Snapshot, consumer: Consumer, name: str) -> Target | None:
    """The target of a model's name, None when there is none or this project may not know it."""
    target = snapshot.target(name)
    if target is None:
        return None
    if target.projects and consumer.name not in target.projects:
        return None
    if target.private and not consumer.may_call_private:
        return None
    return target


def _candidate(snapshot: Snapshot, consumer: Consumer, name: str, findings: Findings) -> Candidate:
    target = visible(snapshot, consumer, name)
    if target is None:
        raise Refusal(
            404,
            "model_not_found",
            f"The model {name!r} is not served here or not for this project; GET /v1/models lists what the key may "
            "call. `ecotone serve` starts an engine for weights, `ecotone backend add` adds a provider's models.",
            param="model",
        )
    ruling = snapshot.ruling(target, consumer)
    if ruling is None:
        raise Refusal(
            503, "not_decided_yet", f"The decision on {name} is not computed yet.", headers={"retry-after": "2"}
        )
    if not ruling.allowed:
        ruling = ruling.about(name)
        told: dict[str, Any] = {
            "model": name,
            "project": consumer.name,
            "verdict": ruling.verdict,
            "reasons": ruling.reasons,
            "would_allow": ruling.would_allow,
            "knowledge_base": ruling.knowledge_base,
            "notice": "not legal advice",
        }
        raise Refusal(451, "policy_denied", ruling.message, param="model", ecotone=told)
    own = target.engine_model or name
    model = own if target.socket or target.backend == "local" else name.partition("/")[2]
    masked = _must_mask(target, consumer, name, findings)
    why = "personal; pseudonymised" if masked else ""
    return Candidate(target=target, model=model, name=name, ruling=ruling, masked=masked, why=why)


def _must_mask(target: Target, consumer: Consumer, name: str, findings: Findings) -> bool:
    """Whether the text goes out with placeholders.

    Raises:
        Refusal: 403 when it must not go out at all.
    """
    if target.location is Location.LOCAL or findings.data_class.rank < DataClass.PERSONAL.rank:
        return False
    if consumer.personal_data is PersonalData.PSEUDONYMISE and findings.maskable:
        return True
    kinds = ", ".join(sorted(findings.kinds)) or "parts that cannot be looked into"
    if consumer.personal_data is PersonalData.PSEUDONYMISE:
        remedy = "It holds what placeholders cannot hide; take it out, or call a local model."
    else:
        remedy = "Call a local model, or have the project declare --personal-data pseudonymise."
    raise Refusal(
        403,
        "privacy_denied",
        f"The text holds {kinds} (data class {findings.data_class}) and {name} is outside of the house. {remedy}",
        ecotone={"data_class": findings.data_class, "kinds": findings.kinds, "model": name},
        headers={"x-ecotone-reason": f"personal; data class {findings.data_class}: not sent to an external model"},
    )


_GRAVITY = {451: 3, 403: 2, 503: 1, 404: 0}


def _worst(refusals: list[Refusal], model: str, *, routed: bool) -> Refusal:
    found = max(refusals, key=lambda r: _GRAVITY.get(r.status, 0))
    if routed and found.status == 404:
        return Refusal(
            503,
            "no_candidate",
            f"None of the candidates of the route {model!r} is served now.",
            param="model",
            headers={"retry-after": "5"},
        )
    return found
