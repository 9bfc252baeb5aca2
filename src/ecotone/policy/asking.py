"""What the texts of the knowledge base ask of an organisation, so that its profile can be asked for once. Pure."""

from ecotone.licences import KnowledgeBase

MONTHLY = "org.mau_at."


def asked_months(knowledge: KnowledgeBase) -> dict[str, tuple[str, ...]]:
    """The past months (`2024-06`) whose number of users a text asks for, each with the entries that do."""
    found: dict[str, dict[str, None]] = {}
    for entry in knowledge.entries.values():
        for fact in entry.facts:
            for name in fact.reads:
                if name.startswith(MONTHLY):
                    found.setdefault(name.removeprefix(MONTHLY), {})[entry.id] = None
    return {month: tuple(sorted(found[month])) for month in sorted(found)}
