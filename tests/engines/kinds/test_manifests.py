"""What lies in deploy/: it fits the schemas of Kubernetes, KubeRay and Ray Serve, and names settings that exist."""

import gzip
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from ecotone.settings import options

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "deploy"
OF_MACHINES = {"ECOTONE_HUB_URL", "ECOTONE_HUB_TOKEN", "ECOTONE_ENGINE_KEY"}  # read on a cluster's machines alone
OF_BUILDS = {"ECOTONE_COMPILE"}  # read where the wheel is made


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DEPLOY / "kubernetes" / name).read_text()))


def ray_service() -> dict[str, Any]:
    return next(d for d in documents("rayservice.yaml") if d["kind"] == "RayService")


def closed(schema: Any) -> Any:
    """The schema with objects that take no field but those named, as `kubectl --validate=strict` has it."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: closed(part) for name, part in schema.items()}
    if "properties" in found and not found.get("x-kubernetes-preserve-unknown-fields"):
        found.setdefault("additionalProperties", False)
    if found.pop("x-kubernetes-int-or-string", False):
        found = {"type": ["integer", "string"]}
    return found


def crd(shared: Path, kind: str) -> dict[str, Any]:
    file = shared / "data" / "kuberay" / f"ray.io_{kind}.yaml.gz"
    versions = yaml.load(gzip.open(file), yaml.CSafeLoader)["spec"]["versions"]
    schema = next(v["schema"]["openAPIV3Schema"] for v in versions if v["name"] == "v1")
    schema["properties"]["metadata"] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    found: dict[str, Any] = closed(schema)
    return found


def test_the_ray_service_is_one_that_kuberay_takes(shared: Path) -> None:
    schema, manifest = crd(shared, "rayservices"), ray_service()
    jsonschema.validate(manifest, schema)
    manifest["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]["maxReplica"] = 4
    with pytest.raises(jsonschema.ValidationError, match="maxReplica"):
        jsonschema.validate(manifest, schema)


def test_its_cluster_is_one_of_its_own_too(shared: Path) -> None:
    spec = ray_service()["spec"]["rayClusterConfig"]
    cluster = {"apiVersion": "ray.io/v1", "kind": "RayCluster", "metadata": {"name": "models"}, "spec": spec}
    jsonschema.validate(cluster, crd(shared, "rayclusters"))


def test_its_applications_are_such_that_serve_takes_and_ecotone_builds() -> None:
    pytest.importorskip("ray", reason='needs the extra ray (pip install "ecotone[ray]")')
    from ray.serve.schema import ServeDeploySchema

    from ecotone.engines.cluster import application

    config = yaml.safe_load(ray_service()["spec"]["serveConfigV2"])
    checked = ServeDeploySchema.model_validate(config)
    for app in checked.applications:
        module, _, function = app.import_path.partition(":")
        assert (module, getattr(application, function)) == (application.__name__, application.build)
        made = application.deployment(app.args, app.args["scale"])
        assert made.name == application.DEPLOYMENT and made.max_ongoing_requests >= app.args["options"]["slots"]


def test_serves_defaults_that_would_starve_a_batch_or_leave_a_gap_are_not_taken() -> None:
    """Serve's own are 5 calls for a replica, an endless queue, and the old replica stopped first."""
    pytest.importorskip("ray", reason='needs the extra ray (pip install "ecotone[ray]")')
    from ecotone.engines.cluster import application

    made = application.deployment({"options": {"slots": 48}}, {"min_replicas": 1, "max_replicas": 1})
    config = made._deployment_config
    assert made.max_ongoing_requests >= 48 and made.max_queued_requests > 0
    assert config.max_surge_percent == 100 and config.health_check_period_s <= 2


@pytest.mark.parametrize("name", ["ecotone.yaml", "rayservice.yaml"])
def test_kinds_of_kubernetes_itself_fit_its_schemas(name: str) -> None:
    checker = pytest.importorskip("kubernetes_validate", reason="needs kubernetes-validate (pip install -e .[dev])")
    for document in documents(name):
        if document["apiVersion"].startswith("ray.io/"):
            groups = document["spec"]["rayClusterConfig"]
            for group in (groups["headGroupSpec"], *groups["workerGroupSpecs"]):
                pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": group["template"]["spec"]}
                checker.validate(pod, "1.33", strict=True)
        else:
            checker.validate(document, "1.33", strict=True)


def test_nothing_names_a_setting_that_does_not_exist() -> None:
    known = {option.variable for option in options()} | OF_MACHINES | OF_BUILDS
    for file in (f for f in DEPLOY.rglob("*") if f.is_file()):
        named = set(re.findall(r"\bECOTONE_[A-Z0-9_]+", file.read_text()))
        assert named <= known, f"{file.name}: {sorted(named - known)}"


def test_no_manifest_holds_a_secret_or_lets_a_container_rise() -> None:
    for document in documents("ecotone.yaml"):
        assert document["kind"] != "Secret"
        for container in document.get("spec", {}).get("template", {}).get("spec", {}).get("containers", ()):
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert not [e for e in container.get("env", ()) if "KEY" in e["name"] and "value" in e]


def test_the_compose_file_starts_commands_that_exist() -> None:
    from typer.testing import CliRunner

    from ecotone.cli.main import app

    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    for name in ("server", "gateway"):
        command, *arguments = services[name]["command"][1:]
        told = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"}).output
        flags = [argument for argument in arguments if argument.startswith("--")]
        assert flags and all(flag in told for flag in flags), told
        assert all(port.startswith("127.0.0.1:") for port in services[name]["ports"])
