"""A bill as an SPDX 3.0.1 document in JSON-LD, with the classes of the AI and Dataset profiles.

Model: AIPackage; data set: DatasetPackage; weights and licence texts: File. Each package has one declared and one
concluded licence, NoAssertion where there is none (https://spdx.github.io/spdx-spec/v3.0.1/model/AI/AI/). The document
claims conformance to a profile only where every package has the fields that the profile asks for.
"""

from typing import Any
from urllib.parse import quote

from ecotone.licences.bom.cyclonedx import purl_of, serial_of
from ecotone.licences.bom.facts import (
    Bill,
    Descent,
    FilePart,
    Names,
    Work,
    concluded_names,
    declared_names,
    expression_of,
    plain,
)
from ecotone.licences.entries import KnowledgeBase
from ecotone.vocabulary import Relation

CONTEXT = "https://spdx.org/rdf/3.0.1/spdx-context.jsonld"
NO_ASSERTION = "expandedlicensing_NoAssertionLicense"
NONE = "expandedlicensing_NoneLicense"
_CREATION = "_:creation"
_MOST_FILES = 2000
_EDGES = {Relation.TRAINED_ON: "trainedOn", Relation.EVALUATED_ON: "testedOn"}

Json = dict[str, Any]


def spdx(bill: Bill, knowledge: KnowledgeBase, *, tool: str, timestamp: str, serial: str | None = None) -> Json:
    """The document, `{"@context": ..., "@graph": [...]}`.

    Args:
        bill: what to write.
        knowledge: whose names licences get.
        tool: version of this program.
        timestamp: UTC, `YYYY-MM-DDTHH:MM:SSZ`.
        serial: a UUID; by default made from the content.
    """
    space = f"urn:uuid:{serial or _serial(bill, knowledge)}"
    write = _Writer(bill, knowledge, space)
    for work in bill.works:
        write.work(work)
    for descent in bill.descents:
        write.descent(descent)
    return {"@context": CONTEXT, "@graph": [*write.head(tool, timestamp), *write.elements]}


def _serial(bill: Bill, knowledge: KnowledgeBase) -> str:
    write = _Writer(bill, knowledge, "urn:uuid:0")
    for work in bill.works:
        write.work(work)
    for descent in bill.descents:
        write.descent(descent)
    return serial_of("spdx-3", write.elements)


class _Writer:
    def __init__(self, bill: Bill, knowledge: KnowledgeBase, space: str) -> None:
        self.bill = bill
        self.knowledge = knowledge
        self.space = space
        self.elements: list[Json] = []
        self.places = {work.id: f"{space}#work-{n}" for n, work in enumerate(bill.works)}
        self.licences: dict[str, str] = {}
        self.agents: dict[str, str] = {}
        self.relations = 0

    def head(self, tool: str, timestamp: str) -> list[Json]:
        agent, program = f"{self.space}#agent", f"{self.space}#tool"
        creation = {
            "type": "CreationInfo",
            "@id": _CREATION,
            "specVersion": "3.0.1",
            "created": timestamp,
            "createdBy": [agent],
            "createdUsing": [program],
        }
        document = {
            **self.element("SpdxDocument", f"{self.space}#document"),
            "name": f"Bill of materials of {plain(self.bill.subject.name, 300)}",
            "comment": f"Knowledge base {self.knowledge.version}. Not legal advice.",
            "profileConformance": self.profiles(),
            "rootElement": [self.places[self.bill.subject.id]],
            "element": [agent, program, *(e["spdxId"] for e in self.elements)],
        }
        return [
            creation,
            {**self.element("SoftwareAgent", agent), "name": "ecotone"},
            {**self.element("Tool", program), "name": f"ecotone {tool}"},
            document,
        ]

    def profiles(self) -> list[str]:
        """Profiles whose every demand is met."""
        models = [e for e in self.elements if e["type"] == "ai_AIPackage"]
        data = [e for e in self.elements if e["type"] == "dataset_DatasetPackage"]
        whole = ("releaseTime", "suppliedBy", "software_downloadLocation", "software_packageVersion")
        wanted = ("releaseTime", "originatedBy", "software_downloadLocation")
        found = ["core", "software", "simpleLicensing"]
        found += ["ai"] if models and all(f in e for e in models for f in whole) else []
        found += ["dataset"] if data and all(f in e for e in data for f in wanted) else []
        return found

    def element(self, kind: str, place: str) -> Json:
        return {"type": kind, "spdxId": place, "creationInfo": _CREATION}

    def work(self, work: Work) -> None:
        place = self.places[work.id]
        found = self.element("dataset_DatasetPackage" if work.kind == "dataset" else "ai_AIPackage", place)
        found |= {"name": plain(work.name, 300) or "unnamed"}
        found["software_primaryPurpose"] = "data" if work.kind == "dataset" else "model"
        if work.revision:
            found["software_packageVersion"] = work.revision
        if work.released:
            found["releaseTime"] = work.released
        purl = purl_of(work)
        if purl:
            found["software_packageUrl"] = purl
        if work.visible and work.hub is not None and work.kind != "api":
            prefix = "datasets/" if work.kind == "dataset" else ""
            found["software_downloadLocation"] = f"{work.hub or 'https://huggingface.co'}/{prefix}{quote(work.name)}"
        if work.visible and "/" in work.name:
            agent = self.agent(work.name.partition("/")[0])
            found |= {"originatedBy": [agent]} if work.kind == "dataset" else {"suppliedBy": agent}
        found |= {"dataset_datasetType": ["noAssertion"]} if work.kind == "dataset" else _model_fields(work)
        found |= self.notes(work)
        weights = [f for f in work.files if f.role == "weights"]
        if len(weights) == 1:
            found["verifiedUsing"] = [_hash(weights[0])]
        self.elements.append(found)
        self.files(work)
        self.licensing(work)

    def notes(self, work: Work) -> Json:
        told = [work.licensing.reason and f"Licence: {work.licensing.reason}.", work.source and f"From {work.source}."]
        if work.kind != "dataset" and not self.bill.parents(work):
            told.append("Ancestors: none is declared or known here.")
        comment = plain(" ".join(t for t in told if t))
        return {"comment": comment} if comment else {}

    def files(self, work: Work) -> None:
        places = []
        for number, file in enumerate(work.files[:_MOST_FILES]):
            place = f"{self.places[work.id]}-file-{number}"
            places.append(place)
            self.elements.append(
                {
                    **self.element("software_File", place),
                    "name": plain(file.path, 500) or "unnamed",
                    "software_fileKind": "file",
                    "software_primaryPurpose": _PURPOSES.get(file.role, "other"),
                    "verifiedUsing": [_hash(file)],
                }
            )
        if places:
            self.relate(self.places[work.id], "contains", places)

    def licensing(self, work: Work) -> None:
        declared, choice = declared_names(self.knowledge, work.licensing)
        if choice is not None:
            said = self.expression(choice, ())
        elif declared:
            said = self.expression(expression_of(declared), declared)
        elif work.licensing.declared:
            said = self.text(work.licensing.declared)
        else:
            said = NONE if work.visible and work.licensing.concluded == ("none",) else NO_ASSERTION
        concluded = concluded_names(self.knowledge, work.licensing)
        bound = self.expression(expression_of(concluded), concluded) if concluded else NO_ASSERTION
        self.relate(self.places[work.id], "hasDeclaredLicense", [said])
        self.relate(self.places[work.id], "hasConcludedLicense", [bound])

    def expression(self, expression: str, names: tuple[Names, ...]) -> str:
        if expression not in self.licences:
            self.licences[expression] = place = f"{self.space}#licence-{len(self.licences)}"
            found = self.element("simplelicensing_LicenseExpression", place)
            found["simplelicensing_licenseExpression"] = expression
            own = sorted({(n.reference, n.title) for n in names if n.reference.startswith("LicenseRef-")})
            if own:
                found["name"] = "; ".join(f"{reference}: {title}" for reference, title in own)
            self.elements.append(found)
        return self.licences[expression]

    def text(self, declared: str) -> str:
        """A name that is no licence anybody knows, kept as it stands."""
        key = f"text {declared}"
        if key not in self.licences:
            self.licences[key] = place = f"{self.space}#licence-{len(self.licences)}"
            found = self.element("simplelicensing_SimpleLicensingText", place)
            self.elements.append({**found, "simplelicensing_licenseText": plain(declared, 200) or "unnamed"})
        return self.licences[key]

    def agent(self, name: str) -> str:
        if name not in self.agents:
            self.agents[name] = place = f"{self.space}#supplier-{len(self.agents)}"
            self.elements.append({**self.element("Agent", place), "name": plain(name, 200) or "unnamed"})
        return self.agents[name]

    def descent(self, descent: Descent) -> None:
        child, parent = self.places.get(descent.child), self.places.get(descent.parent)
        if child is None or parent is None:
            return
        told = {
            "relation": descent.relation.value,
            "status": descent.status.value,
            "revision": descent.parent_revision,
            "asserted by": descent.asserted_by,
            "evidence": descent.evidence,
        }
        comment = "; ".join(f"{k}: {plain(v, 300)}" for k, v in told.items() if v)
        if descent.relation in _EDGES:
            self.relate(child, _EDGES[descent.relation], [parent], comment)
        elif descent.relation is Relation.GENERATED_BY:
            self.relate(parent, "generates", [child], comment)
        else:
            self.relate(parent, "ancestorOf", [child], comment)

    def relate(self, start: str, kind: str, ends: list[str], comment: str = "") -> None:
        self.relations += 1
        found = self.element("Relationship", f"{self.space}#relation-{self.relations}")
        found |= {"from": start, "relationshipType": kind, "to": ends}
        self.elements.append(found | ({"comment": comment} if comment else {}))


_PURPOSES = {
    "weights": "data",
    "configuration": "configuration",
    "card": "documentation",
    "licence": "documentation",
    "tokenizer": "data",
}


def _hash(file: FilePart) -> Json:
    return {"type": "Hash", "algorithm": "sha256", "hashValue": file.sha256}


def _entries(pairs: list[tuple[str, str]]) -> list[Json]:
    return [{"type": "DictionaryEntry", "key": plain(k, 200) or "value", "value": plain(v, 200)} for k, v in pairs]


def _model_fields(work: Work) -> Json:
    model = work.model
    sizes = [("parameters", str(model.parameters))] if model.parameters else []
    sizes += [(f"parameters {kind}", str(count)) for kind, count in sorted(model.parameters_by_type.items())]
    sizes += [("context length", str(model.context))] if model.context else []
    found: Json = {}
    if model.task:
        found["ai_domain"] = [model.task]
    if model.architecture or model.family:
        found["ai_typeOfModel"] = list(dict.fromkeys(t for t in (model.family, model.architecture) if t))
    if sizes:
        found["ai_hyperparameter"] = _entries(sizes)
    if model.metrics:
        pairs = [(f"{m.kind} ({m.slice})" if m.slice else m.kind, m.value) for m in model.metrics]
        found["ai_metric"] = _entries(pairs)
    if model.limitations:
        found["ai_limitation"] = " ".join(model.limitations)
    if model.uses:
        found["ai_informationAboutApplication"] = " ".join(model.uses)
    return found
