"""Card and run record of a tuned model. Pure: figures in, text out. No row of the training data ever enters them."""

import json
from typing import Any

import msgspec
import yaml

from ecotone.tuning.licensing import Terms
from ecotone.tuning.plans import Plan

RECORD = "tuning_run.json"


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A run that has ended well."""

    job: str
    plan: Plan
    figures: dict[str, Any]
    adapter_sha256: str
    parent_weights: dict[str, str]
    date: str


def front_matter(plan: Plan, terms: Terms) -> dict[str, Any]:
    """The card's metadata, Hugging Face's fields."""
    return {
        **terms.card,
        "base_model": plan.model,
        "base_model_relation": "adapter",
        **({"datasets": [plan.dataset]} if plan.dataset is not None else {}),
        "library_name": "peft",
        "pipeline_tag": "text-generation",
        "tags": ["lora", "ecotone-tuned"],
    }


def card(plan: Plan, terms: Terms, run: Run | None = None) -> str:
    """README.md of the result; without a run, as it would be judged."""
    front = yaml.safe_dump(front_matter(plan, terms), sort_keys=False, allow_unicode=True)
    name = plan.to.partition("/")[2]
    body = [f"# {name}", _what(plan), "## Licence", _licence(plan, terms)]
    if run is not None:
        body += ["## Recipe", _recipe(plan), "## Figures", _figures(run), "## How it was made", _made(run)]
    body += ["## Limits", _limits()]
    return f"---\n{front}---\n" + "\n\n".join(body) + "\n"


def record(run: Run, terms: Terms) -> dict[str, Any]:
    """The run in a form for programs: enough to repeat it, given the same rows."""
    plan = run.plan
    figures = run.figures
    return {
        "format": "ecotone-tuning-run/1",
        "job": run.job,
        "date": run.date,
        "model": plan.to,
        "relation": "adapter",
        "licence": {**terms.card, "label": terms.label},
        "parent": {"id": plan.model, "revision": plan.revision, "weights_sha256": run.parent_weights},
        "data": {
            "sha256": plan.rows_sha256,
            "rows": plan.rows,
            "bytes": plan.rows_bytes,
            "format": "chat-jsonl",
            **({"dataset": plan.dataset, "revision": plan.dataset_revision} if plan.dataset is not None else {}),
        },
        "recipe": {**msgspec.to_builtins(plan.recipe), "sha256": plan.recipe.sha256},
        "environment": {
            "versions": figures["versions"],
            "device": figures["device"],
            "dtype": figures["dtype"],
            "threads": figures["threads"],
            "deterministic": True,
        },
        "run": {
            "steps": figures["steps"],
            "trained_tokens": figures["trained_tokens"],
            "trainable_parameters": figures["trainable_parameters"],
            "parent_parameters": figures["parameters"],
            "losses": figures["losses"],
            "loss_before": figures["loss_before"],
            "loss_after": figures["loss_after"],
            "loss_rows": figures["loss_rows"],
            "warnings": [*plan.warnings, *figures["warnings"]],
        },
        "privacy": "none: no differential privacy",
        "output": {"adapter_model.safetensors": run.adapter_sha256},
    }


def record_text(run: Run, terms: Terms) -> str:
    return json.dumps(record(run, terms), indent=2, sort_keys=True) + "\n"


def _what(plan: Plan) -> str:
    return (
        f"A LoRA adapter of `{plan.model}`, revision `{plan.revision}`. It holds only what was learned: to answer, it "
        "is laid over those weights, with their tokenizer and chat template."
    )


def _licence(plan: Plan, terms: Terms) -> str:
    said = [f"`{terms.label}`, computed from the licences of `{plan.model}` and its ancestors. {terms.remark}".strip()]
    if terms.duties:
        said.append("Whoever passes this adapter on must:")
        said.append(
            "\n".join(
                f"- {duty.means.strip().rstrip('.')} ({duty.entry}, clause {duty.clause})"
                for duty in {(d.entry, d.clause, d.means): d for d in terms.duties}.values()
            )
        )
    return "\n\n".join(said)


def _recipe(plan: Plan) -> str:
    recipe = plan.recipe
    return _table(
        [
            ("method", f"LoRA, rank {recipe.rank}, alpha {recipe.alpha}, all linear layers but the output"),
            ("optimiser", f"AdamW, learning rate {recipe.learning_rate:g}, linear decay after warm-up, clip at 1"),
            ("epochs", str(recipe.epochs)),
            ("batch", f"{recipe.batch_size} rows"),
            ("seed", str(recipe.seed)),
            ("trained on", "the assistant's turns alone"),
        ]
    )


def _figures(run: Run) -> str:
    figures = run.figures
    sample = f"on {figures['loss_rows']} of the training rows"
    return _table(
        [
            ("rows", str(run.plan.rows)),
            ("steps", str(figures["steps"])),
            ("trained tokens", str(figures["trained_tokens"])),
            ("parameters of the adapter", f"{figures['trainable_parameters']:,}"),
            ("parameters of the parent", f"{figures['parameters']:,}"),
            ("loss before", f"{figures['loss_before']:.4f} nats per token, {sample}"),
            ("loss after", f"{figures['loss_after']:.4f} nats per token, {sample}"),
        ]
    )


def _made(run: Run) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in run.figures["versions"].items())
    notes = "".join(f"\n- {warning}" for warning in [*run.plan.warnings, *run.figures["warnings"]])
    return (
        f"By tuning run `{run.job}` on {run.date}, with {versions}, on {run.figures['device']}. The training data is "
        f"private; it is known by its SHA-256, `{run.plan.rows_sha256}`. `{RECORD}` holds the whole record: on the "
        "same machine and with the same rows the run gives the same bytes." + (f"\n{notes}" if notes else "")
    )


def _limits() -> str:
    return (
        "Nothing but the loss on the training rows was measured. A model tuned on few rows can repeat them word for "
        "word to anybody who may call it: whoever may not see the data should not call this model."
    )


def _table(rows: list[tuple[str, str]]) -> str:
    return "| | |\n|---|---|\n" + "\n".join(f"| {name} | {value} |" for name, value in rows)
