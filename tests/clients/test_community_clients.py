"""Collections, gates, webhooks and likes from an old and from today's client, unmodified."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.environments import environment
from tests.running import ADMIN, Running, clean_environment, running

pytestmark = pytest.mark.slow
DAY = """
import sys
from huggingface_hub import HfApi
from huggingface_hub.utils import GatedRepoError
api, name, reader = HfApi(), sys.argv[1], HfApi(token=sys.argv[2])
api.create_repo(name)
api.upload_file(path_or_fileobj=b"x", path_in_repo="a.txt", repo_id=name)
made = api.create_collection("Of " + name.split("/")[1], namespace="demo", description="d")
item = api.add_collection_item(made.slug, name, "model", note="n").items[0]
api.update_collection_item(made.slug, item.item_object_id, note="m", position=0)
assert [c.slug for c in api.list_collections(owner="demo", item="models/" + name)] == [made.slug]
assert api.update_collection_metadata(made.slug, title="Other " + name.split("/")[1]).title.startswith("Other")
api.delete_collection_item(made.slug, item.item_object_id)
api.delete_collection(made.slug)
hook = api.create_webhook(url="https://ci.example.org/", watched=[{"type": "model", "name": name}], domains=["repo"])
assert api.update_webhook(hook.id, url="https://ci.example.org/2").watched[0].name == name
assert [api.disable_webhook(hook.id).disabled, api.enable_webhook(hook.id).disabled] == [True, False]
assert hook.id in [w.id for w in api.list_webhooks()]
api.delete_webhook(hook.id)
api.update_repo_settings(name, gated="manual")
try:
    reader.hf_hub_download(name, "a.txt")
    raise SystemExit("the gate was open")
except GatedRepoError as error:
    assert "/access" in str(error), error
api.grant_access(name, "reader")
assert [r.username for r in api.list_accepted_access_requests(name)] == ["reader"]
reader.hf_hub_download(name, "a.txt")
api.cancel_access_request(name, "reader")
assert [r.username for r in api.list_pending_access_requests(name)] == ["reader"]
api.reject_access_request(name, "reader", rejection_reason="no")
assert [r.username for r in api.list_rejected_access_requests(name)] == ["reader"]
try:
    reader.auth_check(name)
    raise SystemExit("the gate was open")
except GatedRepoError:
    pass
me = reader.whoami()
assert (me["name"], me["orgs"]) == ("reader", [])
assert api.get_user_overview("reader").username == "reader"
assert list(api.list_user_followers("reader")) == list(api.list_organization_members("demo")) == []
assert list(api.list_repo_likers(name)) == [] and reader.list_liked_repos().total == 0
print("done")
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("community")) as found:
        yield found


@pytest.mark.parametrize("client", ["hub-0.36", "hub-2.4"])
def test_a_day_with_the_community(server: Running, tmp_path: Path, client: str) -> None:
    reader = server.told("token", "create", "reader")["token"]
    env = clean_environment(HF_ENDPOINT=server.url, HF_TOKEN=ADMIN, HF_HOME=str(tmp_path), HF_HUB_DISABLE_TELEMETRY="1")
    argv = [environment(client) / "python", "-c", DAY, f"demo/day-{client}", reader]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=120)
    assert done.stdout.endswith("done\n"), done.stdout + done.stderr
