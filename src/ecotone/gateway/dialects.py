"""Dialects of OpenAI's API that backends speak: what differs in address, credentials and fields. Pure.

Azure (learn.microsoft.com/azure/ai-services/openai/reference): the key stands in `api-key`; below an address that does
not end in `/v1` a deployment is part of the path and the version of the API a parameter. vLLM: `cache_salt` parts the
prefix caches of its callers, so it is ours to set.
"""

from typing import Final

OPENAI: Final = "openai"
AZURE: Final = "azure"
VLLM: Final = "vllm"
DIALECTS: Final = (OPENAI, AZURE, VLLM)
AZURE_VERSION: Final = "2024-10-21"
"""The last version of Azure's dated API that is generally available."""
