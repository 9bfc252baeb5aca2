"""Which deployments somebody may know of: those of models that they may see."""

from ecotone.accounts import Actor
from ecotone.catalog import Catalog
from ecotone.engines.entities import Deployment
from ecotone.engines.errors import DeploymentNotFound
from ecotone.engines.services import Engines
from ecotone.vocabulary import NotFound


def visible(engines: Engines, catalog: Catalog, viewer: Actor) -> list[Deployment]:
    """What runs or should run, by model, without what is none of the viewer's business."""
    return [found for found in engines.deployments() if _sees(catalog, found.model, viewer)]


def deployment_of(model_id: str, engines: Engines, catalog: Catalog, viewer: Actor) -> Deployment:
    """A model's deployment.

    Raises:
        DeploymentNotFound: there is none, or its model is not to be seen.
    """
    for found in engines.deployments():
        if found.model.lower() == model_id.lower() and _sees(catalog, found.model, viewer):
            return found
    raise DeploymentNotFound(model_id)


def _sees(catalog: Catalog, model_id: str, viewer: Actor) -> bool:
    try:
        catalog.model(model_id, viewer=viewer)
    except NotFound:
        return False
    return True
