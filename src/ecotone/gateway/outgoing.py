"""The body that goes to a backend; a masked one is looked through again, and stays here when anything is left."""

from typing import Any, Final

import msgspec

from ecotone.gateway.admission import Candidate
from ecotone.gateway.answers import Refusal
from ecotone.gateway.parsing import Request
from ecotone.privacy import Pseudonyms, inspect
from ecotone.vocabulary import DataClass

_ALL: Final = 2**31  # what was found maskable was within bounds; placeholders may be longer than what they hide


def outgoing(request: Request, candidate: Candidate, names: Pseudonyms | None) -> bytes:
    """The fields as they came but for the model's name, what is masked, and our wish for usage.

    Raises:
        Refusal: 403 when placeholders do not hide all that was found; another candidate may be in the house.
    """
    replaced: dict[str, Any] = {}
    whole = request.value
    if names is not None:
        whole = names.mask_json(request.value)
        _check_masked(whole, candidate)
        replaced = {k: v for k, v in whole.items() if v is not request.value.get(k)}
    if request.stream and not request.wants_usage:
        options = whole.get("stream_options")
        replaced["stream_options"] = {**(options if isinstance(options, dict) else {}), "include_usage": True}
    if whole.keys() != request.value.keys():
        return msgspec.json.encode({**whole, **replaced, "model": candidate.model})
    return request.forwarded(candidate.model, replaced)


def _check_masked(masked: Any, candidate: Candidate) -> None:
    left = inspect(masked, limit=_ALL)
    if left.data_class.rank < DataClass.PERSONAL.rank:
        return
    kinds = ", ".join(sorted(left.kinds)) or "parts that cannot be looked into"
    raise Refusal(
        403,
        "personal_data",
        f"The text holds {kinds} in a form that placeholders do not hide, and {candidate.name} is outside of the "
        "house. Write it plainly or take it out, or call a local model.",
        ecotone={"data_class": left.data_class, "kinds": left.kinds, "model": candidate.name},
        headers={"x-ecotone-reason": f"personal; data class {left.data_class}: not sent to an external model"},
        retry=True,
    )
