"""Writes `src/ecotone/gateway/pricelists/` from genai-prices, with limits and abilities from LiteLLM's table.

Maintenance, not part of the program. In an environment of its own:

    python -m venv /tmp/prices && /tmp/prices/bin/pip install genai-prices
    pip download --no-deps litellm -d /tmp/prices && (cd /tmp/prices && unzip -o litellm-*.whl)
    /tmp/prices/bin/python tests/gateway/write_prices.py /tmp/prices 2026-11-28

What it takes over: prices by tokens (cached reads and writes, audio), by request, by length of the prompt, by service
tier, by date and by hour. Names are exact: those that genai-prices lists as equal, and names of LiteLLM's table that
its rules match and whose price there agrees. A model whose price hangs on something that the gateway does not count is
left out, and so unknown. Where the two tables differ by more than 1 %, the entry is flagged for a human.
"""

import datetime
import json
import re
import sys
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path
from typing import Any

import genai_prices.types as genai
from genai_prices.data import providers

TARGET = Path(__file__).parents[2] / "src/ecotone/gateway/pricelists"

# our name: (genai-prices' provider, hosts with an optional path, LiteLLM's providers)
PROVIDERS: dict[str, tuple[str, list[str], list[str]]] = {
    "anthropic": ("anthropic", ["api.anthropic.com"], ["anthropic"]),
    "azure": (
        "azure",
        ["*.openai.azure.com", "*.services.ai.azure.com", "*.cognitiveservices.azure.com"],
        ["azure", "azure_ai"],
    ),
    "baseten": ("baseten", ["inference.baseten.co"], ["baseten"]),
    "bedrock": ("aws", ["bedrock-runtime.*.amazonaws.com"], ["bedrock", "bedrock_converse"]),
    "cerebras": ("cerebras", ["api.cerebras.ai"], ["cerebras"]),
    "cloudflare": ("cloudflare", ["api.cloudflare.com"], ["cloudflare"]),
    "cohere": ("cohere", ["api.cohere.ai", "api.cohere.com"], ["cohere", "cohere_chat"]),
    "databricks": ("databricks", ["*.cloud.databricks.com", "*.azuredatabricks.net"], ["databricks"]),
    "deepseek": ("deepseek", ["api.deepseek.com"], ["deepseek"]),
    "fireworks": ("fireworks", ["api.fireworks.ai"], ["fireworks_ai"]),
    "google": ("google", ["generativelanguage.googleapis.com", "*aiplatform.googleapis.com"], ["gemini"]),
    "groq": ("groq", ["api.groq.com"], ["groq"]),
    "huggingface-cerebras": ("huggingface_cerebras", ["router.huggingface.co/cerebras"], []),
    "huggingface-fireworks": ("huggingface_fireworks-ai", ["router.huggingface.co/fireworks-ai"], []),
    "huggingface-groq": ("huggingface_groq", ["router.huggingface.co/groq"], []),
    "huggingface-nebius": ("huggingface_nebius", ["router.huggingface.co/nebius"], []),
    "huggingface-novita": ("huggingface_novita", ["router.huggingface.co/novita"], []),
    "huggingface-sambanova": ("huggingface_sambanova", ["router.huggingface.co/sambanova"], []),
    "huggingface-together": ("huggingface_together", ["router.huggingface.co/together"], []),
    "minimax": ("minimax", ["api.minimax.io", "api.minimaxi.com"], ["minimax"]),
    "mistral": ("mistral", ["api.mistral.ai"], ["mistral"]),
    "moonshot": ("moonshotai", ["api.moonshot.ai"], ["moonshot"]),
    "novita": ("novita", ["api.novita.ai"], ["novita"]),
    "openai": ("openai", ["api.openai.com"], ["openai"]),
    "openrouter": ("openrouter", ["openrouter.ai"], ["openrouter"]),
    "ovhcloud": ("ovhcloud", ["oai.endpoints.kepler.ai.cloud.ovh.net"], ["ovhcloud"]),
    "perplexity": ("perplexity", ["api.perplexity.ai"], ["perplexity"]),
    "together": ("together", ["api.together.xyz", "api.together.ai"], ["together_ai"]),
    "voyage": ("voyageai", ["api.voyageai.com"], ["voyage"]),
    "xai": ("x-ai", ["api.x.ai"], ["xai"]),
    "zai": ("zai", ["api.z.ai"], ["zai"]),
}

# genai-prices' component: ours, in USD per million tokens
COMPONENTS = {
    "input_mtok": "input",
    "output_mtok": "output",
    "cache_read_mtok": "cache_read",
    "cache_write_mtok": "cache_write",
    "cache_write_5m_mtok": "cache_write",
    "cache_write_1h_mtok": "cache_write_1h",
    "input_audio_mtok": "input_audio",
    "output_audio_mtok": "output_audio",
}
# Charged beside the tokens for tools that a request asks for; cached audio is not told apart in an answer's usage.
BESIDE = {"web_searches_kcount", "storage_searches_kcount", "cache_audio_read_mtok", "cache_image_read_mtok"}
# Kinds of tokens that are not told apart: harmless where they cost no more than the others.
WITHIN = {
    "input_image_mtok": "input",
    "input_video_mtok": "input",
    "output_image_mtok": "output",
    "output_video_mtok": "output",
    "output_reasoning_mtok": "output",
    "output_citation_mtok": "output",
}
ABILITIES = {
    "supports_function_calling": "tools",
    "supports_vision": "vision",
    "supports_audio_input": "audio",
    "supports_pdf_input": "pdf",
    "supports_reasoning": "reasoning",
    "supports_response_schema": "schema",
    "supports_prompt_caching": "caching",
}


class NotCounted(Exception):
    """The price hangs on something that an answer's usage does not tell."""


def plain(value: Decimal) -> str:
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def at(value: Any, tokens: int | None) -> Decimal:
    """A component's price for a prompt longer than `tokens`; None for the shortest."""
    if not isinstance(value, genai.TieredPrices):
        return Decimal(value)
    found = value.base
    for tier in value.tiers:
        if tokens is not None and tier.start <= tokens:
            found = tier.price
    return Decimal(found)


def rates(prices: dict[str, Any], tokens: int | None, *, embeds: bool) -> dict[str, str]:
    """Price components for prompts longer than `tokens`."""
    values = {key: at(value, tokens) for key, value in prices.items() if value is not None}
    found = {ours: values[theirs] for theirs, ours in COMPONENTS.items() if theirs in values}
    if "requests_kcount" in values:
        found["request"] = values["requests_kcount"] / 1000
    for key, beside in WITHIN.items():
        if key in values and values[key] > found.get(beside, Decimal(-1)):
            raise NotCounted(key)
    if strange := values.keys() - COMPONENTS.keys() - WITHIN.keys() - BESIDE - {"requests_kcount"}:
        raise NotCounted(", ".join(sorted(strange)))
    if "input" not in found or ("output" not in found and not embeds):
        raise NotCounted("no price for input or output")
    found.setdefault("output", Decimal(0))
    return {key: plain(value) for key, value in found.items()}


def scale(prices: dict[str, Any], *, embeds: bool) -> dict[str, Any]:
    """The rates for all lengths of the prompt."""
    starts = sorted({t.start for v in prices.values() if isinstance(v, genai.TieredPrices) for t in v.tiers})
    found: dict[str, Any] = rates(prices, None, embeds=embeds)
    longer = [{"above": start, **rates(prices, start, embeds=embeds)} for start in starts]
    return found | ({"longer": longer} if longer else {})


def condition(constraint: Any) -> dict[str, Any]:
    if isinstance(constraint, genai.StartDateConstraint):
        return {"valid_from": constraint.start_date.isoformat()}
    if isinstance(constraint, genai.TimeOfDateConstraint):
        begin, end = (t.isoformat("minutes")[:5] for t in (constraint.start_time, constraint.end_time))
        return {"hours": [begin, end]}
    return {}


def prices_of(model: genai.ModelInfo, day: datetime.date, *, embeds: bool) -> list[dict[str, Any]]:
    """All prices of a model, the last that fits a moment wins; with those of its service tiers."""
    given = model.prices if isinstance(model.prices, list) else [genai.ConditionalPrice(prices=model.prices)]
    found = []
    for each in given:
        standard = {k: v for k, v in each.prices.__dict__.items() if v is not None}
        if "search" in model.id and "web_searches_kcount" in standard:
            standard.setdefault("requests_kcount", standard["web_searches_kcount"])  # each call is a search
        entry = condition(each.constraint) | scale(standard, embeds=embeds)
        tiers = {}
        for variant in model.price_variants or ():
            name = variant.when.get("service_tier") or ("batch" if variant.when.get("processing") == "batch" else "")
            if not name or name == "default" or len(variant.when) > 1:
                continue
            if isinstance(variant.constraint, genai.StartDateConstraint) and variant.constraint.start_date > day:
                continue
            other = standard | {k: v for k, v in variant.prices.__dict__.items() if v is not None}
            tiers.setdefault(name, scale(other, embeds=embeds))
        found.append(entry | ({"tiers": tiers} if tiers else {}))
    return found


def equals(match: Any) -> set[str]:
    """Names that a rule lists one by one."""
    if isinstance(match, genai.ClauseEquals):
        return {match.equals}
    if isinstance(match, genai.ClauseOr):
        return set().union(*(equals(part) for part in match.or_))
    return set()


def cost(row: dict[str, Any], key: str) -> Decimal | None:
    value = row.get(key)
    return Decimal(repr(value)) * 10**6 if isinstance(value, int | float) else None


def differing(price: dict[str, Any], row: dict[str, Any]) -> str:
    """How LiteLLM's table differs by more than 1 %; empty when it does not."""
    told = []
    for ours, theirs in (
        ("input", "input_cost_per_token"),
        ("output", "output_cost_per_token"),
        ("cache_read", "cache_read_input_token_cost"),
    ):
        other = cost(row, theirs)
        if other is not None and ours in price and abs(other - Decimal(price[ours])) > Decimal(price[ours]) / 100:
            told.append(f"{ours} {plain(other.normalize())}")
    return ", ".join(told)


def lite_rows(table: dict[str, Any], kinds: list[str]) -> dict[str, dict[str, Any]]:
    """LiteLLM's rows of a provider by the name that a request has."""
    found = {}
    for name, row in table.items():
        if row.get("litellm_provider") in kinds:
            short = re.sub(rf"^({'|'.join(kinds)})/", "", name) if kinds else name
            found.setdefault(short.lower(), row)
    return found


def in_force(prices: list[dict[str, Any]], day: datetime.date) -> dict[str, Any]:
    fit = [p for p in prices if "hours" not in p and p.get("valid_from", "") <= day.isoformat()]
    return fit[-1] if fit else prices[0]


def entries(provider: genai.Provider, rows: dict[str, dict[str, Any]], day: datetime.date) -> list[dict[str, Any]]:
    """All models of a provider whose price can be counted."""
    found, listed = [], set[str]()
    exact = {name.lower() for model in provider.models for name in {model.id, *equals(model.match)}}
    for model in provider.models:
        names = {name.lower() for name in {model.id, *equals(model.match)}} - listed
        known = [rows[name] for name in sorted(names) if name in rows]
        embeds = "embed" in model.id or provider.id == "voyageai" or any(r.get("mode") == "embedding" for r in known)
        try:
            prices = prices_of(model, day, embeds=embeds)
        except NotCounted:
            continue
        now = in_force(prices, day)
        free = not any(Decimal(now.get(key, "0")) for key in ("input", "output", "request"))
        if free and not model.id.endswith(":free"):
            continue  # 0 may as well mean that nobody knows
        for name, row in rows.items():
            priced = name not in exact | listed and cost(row, "input_cost_per_token")
            if priced and model.is_match(name) and not differing(now, row):
                names.add(name)
                known.append(row)
        if not names:
            continue
        listed |= names
        with_audio(prices, known, now)
        entry: dict[str, Any] = {"id": model.id, "names": sorted(names)}
        if free:
            entry["free"] = True
        if flag := next((told for row in known if (told := differing(now, row))), ""):
            entry["flag"] = f"LiteLLM's table says {flag}"
        entry["prices"] = prices
        found.append(entry | about(model, known))
    return found + borrowed(provider, rows, day, listed | exact)


def with_audio(prices: list[dict[str, Any]], rows: list[dict[str, Any]], now: dict[str, Any]) -> None:
    """Prices of audio from LiteLLM's table where genai-prices has none and both agree on the price of text."""
    for ours, theirs in (
        ("input_audio", "input_cost_per_audio_token"),
        ("output_audio", "output_cost_per_audio_token"),
    ):
        told = [value for row in rows if not differing(now, row) and (value := cost(row, theirs))]
        if told and ours not in now:
            for price in prices:
                for each in (price, *price.get("longer", ()), *price.get("tiers", {}).values()):
                    each.setdefault(ours, plain(max(told).normalize()))


def borrowed(
    provider: genai.Provider, rows: dict[str, dict[str, Any]], day: datetime.date, listed: set[str]
) -> list[dict[str, Any]]:
    """Models of another provider that this one sells, where LiteLLM's table has a price here and it is the same."""
    found = []
    for lender in (p for p in providers if p.id in (provider.fallback_model_providers or ())):
        for model in lender.models:
            names = [n for n in rows if n not in listed and cost(rows[n], "input_cost_per_token") and model.is_match(n)]
            embeds = any(rows[name].get("mode") == "embedding" for name in names)
            try:
                prices = prices_of(model, day, embeds=embeds)
            except NotCounted:
                continue
            now = in_force(prices, day)
            names = sorted(name for name in names if not differing(now, rows[name]))
            if not names or not Decimal(now["input"]):
                continue
            for price in prices:
                price.pop("tiers", None)
            known = [rows[name] for name in names]
            with_audio(prices, known, now)
            listed |= set(names)
            entry = {"id": model.id, "names": names, "as": lender.id, "prices": prices}
            found.append(entry | about(model, known))
    return found


def about(model: genai.ModelInfo, known: list[dict[str, Any]]) -> dict[str, Any]:
    """Limits, date of retirement and abilities."""
    limits = {
        "max_input": model.context_window or first(known, "max_input_tokens"),
        "max_output": first(known, "max_output_tokens"),
        "retires": first(known, "deprecation_date"),
        "abilities": sorted({ours for row in known for theirs, ours in ABILITIES.items() if row.get(theirs)}),
    }
    return {key: value for key, value in limits.items() if value}


def first(rows: list[dict[str, Any]], key: str) -> Any:
    return next((row[key] for row in rows if row.get(key)), None)


def main(folder: Path, retrieved: str) -> None:
    table = json.loads(next(folder.glob("litellm/model_prices_and_context_window_backup.json")).read_text())
    lite = next(folder.glob("litellm-*.dist-info")).name.removesuffix(".dist-info").replace("-", " ")
    day = datetime.date.fromisoformat(retrieved)
    by_id = {provider.id: provider for provider in providers}
    TARGET.mkdir(exist_ok=True)
    for ours, (theirs, hosts, kinds) in PROVIDERS.items():
        provider = by_id[theirs]
        models = entries(provider, lite_rows(table, kinds), day)
        head = {
            "provider": ours,
            "name": provider.name,
            "hosts": hosts,
            "source_url": (provider.pricing_urls or [""])[0],
            "source_package": f"genai-prices {version('genai-prices')}",
            "limits_from": lite,
            "retrieved": retrieved,
        }
        lines = ",\n".join(json.dumps(model, separators=(",", ":"), ensure_ascii=False) for model in models)
        text = json.dumps(head, indent=1, ensure_ascii=False)[:-2] + ',\n "models": [\n' + lines + "\n]}\n"
        (TARGET / f"{ours}.json").write_text(text)
        flagged = [model["id"] for model in models if "flag" in model]
        print(f"{ours}: {len(models)} of {len(provider.models)} models; flagged: {', '.join(flagged) or 'none'}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
