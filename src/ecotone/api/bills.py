"""Bills of materials and openness of models over REST."""

from typing import Any

import msgspec

from ecotone.api.endpoint import Call, Need, endpoint
from ecotone.catalog.bills import FORMATS, bill_of_model, known_model, openness_of_model, written
from ecotone.licences.bom.checking import check

MOST_BYTES = 4 * 1024 * 1024
MOST_VALUES = 50_000  # a second or two


@endpoint(
    "GET",
    "/models/{namespace}/{name}/bom",
    need=Need.READ,
    summary="Bill of materials of a model (`format`: cyclonedx-1.7, cyclonedx-1.6, spdx-3; `revision`)",
)
def bill_of_materials(call: Call) -> Any:
    services = call.services
    bill = bill_of_model(
        services.catalog,
        services.knowledge,
        _id(call),
        call.query.get("revision", "main"),
        viewer=call.actor,
        hub=services.settings.base_url,
        read=lambda file: services.storage.read(file.content),
    )
    return written(
        bill,
        services.knowledge,
        call.query.get("format", FORMATS[0]),
        timestamp=call.query.get("timestamp"),
        serial=call.query.get("serial"),
    )


@endpoint(
    "POST",
    "/bom/check",
    need=Need.USER,
    most=MOST_BYTES,
    summary="Check a CycloneDX or SPDX 3 document, which is the body, against what is known; nothing is stored",
)
def check_bill(call: Call) -> Any:
    """Findings with JSON pointers; a document that cannot be read is a finding too."""
    look_up = known_model(call.services.catalog, viewer=call.actor)
    return msgspec.to_builtins(check(call.raw, call.services.knowledge, look_up, most_values=MOST_VALUES))


@endpoint(
    "GET",
    "/models/{namespace}/{name}/openness",
    need=Need.READ,
    summary="Class of a model in the Model Openness Framework, and what the next class lacks (`revision`)",
)
def openness(call: Call) -> Any:
    services = call.services
    rev = call.query.get("revision", "main")
    return openness_of_model(services.catalog, services.knowledge, _id(call), rev, viewer=call.actor).to_json()


def _id(call: Call) -> str:
    return f"{call.path['namespace']}/{call.path['name']}"
