"""A masked body on its way to a backend: it is looked through again, and stays here when anything is left."""

from typing import Any, Final

import msgspec

from ecotone.gateway.admission import Candidate
from ecotone.gateway.answers import Refusal
from ecotone.gateway.parsing import Request
from ecotone.privacy import Pseudonyms, inspect
from ecotone.vocabulary import DataClass

_ALL: Final = 2**31  # what was found maskable was within bounds; placeholders may be longer than what they hide


def outgoing(
    request: Request, candidate: Candidate, names: Pseudonyms, ask_usage: bool, salt: str | None = None
) -> bytes:
    """The fields with placeholders in place of what is sensitive, the model's name, and our wish for usage, if any.

    Raises:
        Refusal: 403 when placeholders do not hide all that was found; another candidate may be in the house.
    """
    masked = names.mask_json(request.value)
    _check_masked(masked, candidate)
    replaced: dict[str, Any] = {"model": candidate.model}
    if ask_usage:
        options = masked.get("stream_options")
        replaced["stream_options"] = {**(options if isinstance(options, dict) else {}), "include_usage": True}
    if salt is not None:
        replaced["cache_salt"] = salt
    return msgspec.json.encode({**masked, **replaced})


def _check_masked(masked: Any, candidate: Candidate) -> None:
    left = inspect(masked, limit=_ALL)
    if left.data_class.rank < DataClass.PERSONAL.rank:
        return
    kinds = ", ".join(sorted(left.kinds)) or "parts that cannot be looked into"
    raise Refusal(
        403,
        "privacy_denied",
        f"The text holds {kinds} in a form that placeholders do not hide, and {candidate.name} is outside of the "
        "house. Write it plainly or take it out, or call a local model.",
        ecotone={"data_class": left.data_class, "kinds": left.kinds, "model": candidate.name},
        headers={"x-ecotone-reason": f"personal; data class {left.data_class}: not sent to an external model"},
        retry=True,
    )
