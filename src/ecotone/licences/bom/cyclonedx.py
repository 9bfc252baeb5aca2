"""A bill as a CycloneDX document, versions 1.6 and 1.7 (ECMA-424; https://cyclonedx.org/docs/1.7/json/).

The model is `metadata.component`; each work that it comes from is a component once, and `pedigree.ancestors` of a child
names its parents with relation, revision, status and evidence as properties. Every licence says whether it is declared
or concluded. Where there is no conclusion no licence is concluded, and properties say NOASSERTION and why.
"""

import hashlib
import json
import uuid
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

from ecotone.licences.bom.facts import (
    OF_DATA,
    Bill,
    Descent,
    FilePart,
    Licensing,
    ModelFacts,
    Names,
    Work,
    concluded_names,
    declared_names,
    names_of,
    plain,
)
from ecotone.licences.bom.forms import listed_licences
from ecotone.licences.entries import KnowledgeBase
from ecotone.vocabulary import Relation

VERSIONS = ("1.6", "1.7")
NOASSERTION = "NOASSERTION"
_SPACE = uuid.UUID("6f3d1b5e-0c1f-5d55-9a0e-6d1f5a0c7f11")
_MOST_FILES = 2000
_TYPES = {"weights": "machine-learning-model", "api": "machine-learning-model", "dataset": "data"}

Json = dict[str, Any]


def cyclonedx(
    bill: Bill, knowledge: KnowledgeBase, *, version: str, tool: str, timestamp: str, serial: str | None = None
) -> Json:
    """The document.

    Args:
        bill: what to write.
        knowledge: whose names licences get.
        version: 1.6 or 1.7.
        tool: version of this program.
        timestamp: UTC, `YYYY-MM-DDTHH:MM:SSZ`.
        serial: a UUID; by default made from the content, so that equal content has an equal one.
    """
    write = _Writer(bill, knowledge, version)
    body: Json = {
        "components": [write.component(work) for work in bill.others],
        "dependencies": write.dependencies(),
        "compositions": [write.composition()],
    }
    root = write.component(bill.subject)
    metadata: Json = {
        "timestamp": timestamp,
        "lifecycles": [{"phase": "post-build"}],
        "tools": {"components": [{"type": "application", "name": "ecotone", "version": tool}]},
        "component": root,
        "properties": _properties({"knowledge-base": knowledge.version, "notice": "not legal advice"}),
    }
    return {
        "$schema": f"http://cyclonedx.org/schema/bom-{version}.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": version,
        "serialNumber": f"urn:uuid:{serial or serial_of(version, root, body)}",
        "version": 1,
        "metadata": metadata,
        **body,
    }


def serial_of(*content: Any) -> str:
    """A UUID that is the same for the same content."""
    raw = json.dumps(content, sort_keys=True, ensure_ascii=True).encode()
    return str(uuid.uuid5(_SPACE, hashlib.sha256(raw).hexdigest()))


class _Writer:
    def __init__(self, bill: Bill, knowledge: KnowledgeBase, version: str) -> None:
        self.bill = bill
        self.knowledge = knowledge
        names = _unique([reference(work) for work in bill.works])
        self.references = {work.id: name for work, name in zip(bill.works, names, strict=True)}
        self.expressions = version != "1.6"  # 1.6 has licences or one expression in a list, never both

    def ref(self, work: Work) -> str:
        return self.references.get(work.id) or reference(work)

    def component(self, work: Work) -> Json:
        found: Json = {
            "type": _TYPES.get(work.kind, "machine-learning-model"),
            "bom-ref": self.ref(work),
            **_named(work),
            **_present("hashes", _hashes([f for f in work.files if f.role == "weights"])),
            **_present("licenses", self.licences(work.licensing)),
        }
        purl = purl_of(work)
        if purl:
            found["purl"] = purl
        ancestors = [self.ancestor(d) for d in self.bill.parents(work) if d.relation not in OF_DATA]
        if ancestors:
            found["pedigree"] = {"ancestors": ancestors}
        found |= _present("externalReferences", _links(work))
        found |= _present("components", _files(work, self.ref(work)))
        found |= _present("evidence", self.evidence(work))
        if work.kind == "dataset":
            found["data"] = [_data(work)]
        else:
            found |= _present("modelCard", self.card(work))
        found["properties"] = _properties(self.stated(work))
        return found

    def licences(self, licensing: Licensing) -> list[Json]:
        declared, choice = declared_names(self.knowledge, licensing)
        if choice is not None:
            said = [self.choice(choice, "declared", licensing.link)]
        elif declared:
            said = [self.licence(name, "declared", licensing.link) for name in declared]
        elif licensing.declared:
            said = [_plain_licence(plain(licensing.declared, 200), "declared", licensing.link)]
        else:
            said = []
        return said + [self.licence(n, "concluded", None) for n in concluded_names(self.knowledge, licensing)]

    def licence(self, name: Names, acknowledgement: str, link: str | None) -> Json:
        licence: Json = {"acknowledgement": acknowledgement}
        if name.spdx is not None and name.spdx in listed_licences():
            licence = {"id": name.spdx, **licence}
        else:
            licence = {"name": name.title, **licence, "licensing": {"altIds": [name.reference]}}
        return {"license": licence | _url(link)}

    def choice(self, expression: str, acknowledgement: str, link: str | None) -> Json:
        if self.expressions:
            return {"expression": expression, "acknowledgement": acknowledgement}
        return _plain_licence(expression, acknowledgement, link)

    def evidence(self, work: Work) -> Json:
        texts = [f for f in work.files if f.role == "licence"]
        known = [names_of(self.knowledge, i) for i in work.licensing.detected if i in self.knowledge.entries]
        entries = []
        for name in known:
            listed = name.spdx is not None and name.spdx in listed_licences()
            entries.append({"license": {"id": name.spdx} if listed else {"name": name.title}})
        found = _present("licenses", entries)
        return found | _present("occurrences", [{"location": _path(f)} for f in texts])

    def ancestor(self, descent: Descent) -> Json:
        parent = self.bill.work(descent.parent)
        revision = descent.parent_revision or parent.revision
        told = {
            "relation": descent.relation.value,
            "lineage:status": descent.status.value,
            "lineage:asserted-by": descent.asserted_by,
            "lineage:evidence": descent.evidence,
            "lineage:revision": revision or "unknown",
            "ref": self.ref(parent),
        }
        found: Json = {"type": _TYPES.get(parent.kind, "machine-learning-model"), **_named(parent, revision)}
        purl = purl_of(parent, revision)
        if purl:
            found["purl"] = purl
        return found | {"properties": _properties(told)}

    def card(self, work: Work) -> Json:
        model = work.model
        data = [d for d in self.bill.parents(work) if d.relation is Relation.TRAINED_ON]
        parameters = {
            **_present("task", model.task),
            **_present("architectureFamily", model.family),
            **_present("modelArchitecture", model.architecture),
            **_present("datasets", [{"ref": self.ref(self.bill.work(d.parent))} for d in data]),
        }
        metrics = [{"type": m.kind, "value": m.value, **_present("slice", m.slice)} for m in model.metrics]
        return {
            **_present("modelParameters", parameters),
            **_present("quantitativeAnalysis", {"performanceMetrics": metrics} if metrics else {}),
            **_present("considerations", _considerations(model)),
            **_present("properties", _properties(_sizes(model))),
        }

    def stated(self, work: Work) -> Json:
        """What fields have no place for: what is not known, and why."""
        licensing = work.licensing
        concluded = concluded_names(self.knowledge, licensing)
        told: Json = {}
        if not licensing.declared:
            told["licence:declared"] = "NONE" if "none" in licensing.concluded else NOASSERTION
        if not concluded:
            told["licence:concluded"] = NOASSERTION
        told["licence:concluded:reason"] = licensing.reason
        for number, name in enumerate(concluded):
            entry = self.knowledge.entries[licensing.concluded[number]]
            if entry.text.sha256:
                told[f"licence:text:sha256:{name.reference}"] = entry.text.sha256
        models = [d for d in self.bill.parents(work) if d.relation not in OF_DATA]
        if work.kind != "dataset" and not models:
            told["lineage:ancestors"] = f"{NOASSERTION}: none is declared or known here"
        measured = [d.parent for d in self.bill.parents(work) if d.relation is Relation.EVALUATED_ON]
        told["evaluated-on"] = ", ".join(self.ref(self.bill.work(p)) for p in measured)
        return told | {"revision": work.revision or "unknown", "source": work.source}

    def dependencies(self) -> list[Json]:
        found = []
        for work in self.bill.works:
            parents = sorted({self.ref(self.bill.work(d.parent)) for d in self.bill.parents(work)})
            found.append({"ref": self.ref(work), **_present("dependsOn", parents)})
        return found

    def composition(self) -> Json:
        """That the list of what the model comes from can be longer than what is known."""
        unknown = any(not concluded_names(self.knowledge, w.licensing) for w in self.bill.works)
        return {"aggregate": "incomplete" if unknown else "unknown", "assemblies": [self.ref(self.bill.subject)]}


def reference(work: Work) -> str:
    """The `bom-ref` of a work; it never begins with `urn:cdx:`, which would be a link to another document."""
    name = f"{work.kind}:{plain(work.name, 300)}"
    return f"{name}@{work.revision}" if work.revision else name


def purl_of(work: Work, revision: str | None = None) -> str | None:
    """The package URL of a model with a hub id (type `huggingface`); data sets and API models have none."""
    if work.kind != "weights" or work.hub is None or work.name.count("/") != 1:
        return None
    namespace, _, name = work.name.partition("/")
    at = revision or work.revision
    found = f"pkg:huggingface/{quote(namespace, safe='')}/{quote(name, safe='')}"
    found += f"@{quote(at.lower(), safe='')}" if at else ""
    return found + (f"?repository_url={quote(work.hub, safe='')}" if work.hub else "")


def _named(work: Work, revision: str | None = None) -> Json:
    group, slash, name = plain(work.name, 300).rpartition("/")
    version = revision or work.revision
    return {
        **({"group": group} if slash else {}),
        "name": name or "unnamed",
        **_present("version", version),
    }


def _present(name: str, value: Any) -> Json:
    return {name: value} if value else {}


def _url(link: str | None) -> Json:
    return {"url": link} if link and link.startswith(("http://", "https://")) and link.isascii() else {}


def _plain_licence(name: str, acknowledgement: str, link: str | None) -> Json:
    return {"license": {"name": name, "acknowledgement": acknowledgement} | _url(link)}


def _hashes(files: list[FilePart]) -> list[Json]:
    """The hash of a model that is one file; a sharded one has a hash for each of its files, below."""
    return [{"alg": "SHA-256", "content": files[0].sha256}] if len(files) == 1 else []


def _path(file: FilePart) -> str:
    return plain(file.path, 500) or "unnamed"


def _files(work: Work, of: str) -> list[Json]:
    parts = work.files[:_MOST_FILES]
    names = _unique([_path(f) for f in parts])
    return [_file(f, name, of) for f, name in zip(parts, names, strict=True)]


def _file(file: FilePart, name: str, of: str) -> Json:
    return {
        "type": "file",
        "bom-ref": f"{of}#{name}",
        "name": name,
        "hashes": [{"alg": "SHA-256", "content": file.sha256}],
        "properties": _properties({"file:role": file.role, "file:size": str(file.size)}),
    }


def _unique(names: list[str]) -> list[str]:
    """Names, of which those that look alike once characters are left out that cannot be shown get a number."""
    seen: set[str] = set()
    found = []
    for name in names:
        number, told = 1, name
        while told in seen:
            number += 1
            told = f"{name} ({number})"
        seen.add(told)
        found.append(told)
    return found


def _links(work: Work) -> list[Json]:
    if not work.visible or work.hub is None or "/" not in work.name:
        return []
    hub = work.hub or "https://huggingface.co"
    prefix = "datasets/" if work.kind == "dataset" else ""
    return [{"type": "distribution", "url": f"{hub}/{prefix}{quote(work.name)}"}] if work.kind != "api" else []


def _data(work: Work) -> Json:
    url = next((link["url"] for link in _links(work)), None)
    return {"type": "dataset", "name": plain(work.name, 300), **_present("contents", {"url": url} if url else {})}


def _considerations(model: ModelFacts) -> Json:
    return {
        **_present("users", list(model.users)),
        **_present("useCases", list(model.uses)),
        **_present("technicalLimitations", list(model.limitations)),
        **_present("ethicalConsiderations", [{"name": r} for r in model.risks]),
    }


def _sizes(model: ModelFacts) -> Json:
    return {
        "parameters": str(model.parameters) if model.parameters else "",
        **{f"parameters:{t}": str(n) for t, n in sorted(model.parameters_by_type.items())},
        "context-length": str(model.context) if model.context else "",
        "library": model.library or "",
        "languages": ", ".join(model.languages),
    }


def _properties(told: Json) -> list[Json]:
    pairs: Iterable[tuple[str, str]] = ((k, plain(v)) for k, v in told.items() if v)
    return [{"name": f"ecotone:{plain(k, 200)}", "value": v} for k, v in pairs if v]
