"""The form of a chat body as `skimming` decodes it: the values stay raw."""

from msgspec import UNSET, Raw, Struct, UnsetType


class Body(Struct, omit_defaults=True):
    model: Raw | UnsetType = UNSET
    messages: list[dict[str, Raw]] | UnsetType = UNSET
    stream: Raw | UnsetType = UNSET
    stream_options: Raw | UnsetType = UNSET
    temperature: Raw | UnsetType = UNSET
    top_p: Raw | UnsetType = UNSET
    n: Raw | UnsetType = UNSET
    stop: Raw | UnsetType = UNSET
    max_tokens: Raw | UnsetType = UNSET
    max_completion_tokens: Raw | UnsetType = UNSET
    tools: Raw | UnsetType = UNSET
    tool_choice: Raw | UnsetType = UNSET
    parallel_tool_calls: Raw | UnsetType = UNSET
    response_format: Raw | UnsetType = UNSET
    reasoning_effort: Raw | UnsetType = UNSET
    user: Raw | UnsetType = UNSET
    safety_identifier: Raw | UnsetType = UNSET
    prompt_cache_key: Raw | UnsetType = UNSET
    service_tier: Raw | UnsetType = UNSET
    store: Raw | UnsetType = UNSET
    metadata: Raw | UnsetType = UNSET
    seed: Raw | UnsetType = UNSET
    logprobs: Raw | UnsetType = UNSET
    top_logprobs: Raw | UnsetType = UNSET
    logit_bias: Raw | UnsetType = UNSET
    presence_penalty: Raw | UnsetType = UNSET
    frequency_penalty: Raw | UnsetType = UNSET
    verbosity: Raw | UnsetType = UNSET
