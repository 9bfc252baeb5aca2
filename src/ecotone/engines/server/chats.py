"""A chat as tokens: the model's own template, rendered within limits, with tools where it takes them."""

from typing import Any

from ecotone.engines.server.errors import RequestError
from ecotone.engines.server.rendering import Renderer
from ecotone.engines.server.requests import TextRequest
from ecotone.engines.server.tokens import Tokens


class Chats:
    """The chat templates of one tokenizer.

    Args:
        tokenizer: transformers' own.
        tokens: turns rendered text into tokens.
        most_letters: characters that a rendered chat may have.
    """

    def __init__(self, tokenizer: Any, tokens: Tokens, most_letters: int) -> None:
        self._tokens = tokens
        templates = getattr(tokenizer, "chat_template", None)
        named = templates if isinstance(templates, dict) else {"default": templates} if templates else {}
        specials = {name: str(token) for name, token in tokenizer.special_tokens_map.items() if isinstance(token, str)}
        self._renderers = {name: Renderer(template, specials, most_letters) for name, template in named.items()}
        sources = {name for name, template in named.items() if "tools" in template}
        self._with_tools = "tool_use" if "tool_use" in named else next(iter(sorted(sources)), None)
        self.possible = bool(self._renderers)
        self.takes_tools = self._with_tools is not None
        self.short_ids = any("[TOOL_CALLS]" in template for template in named.values())

    def tokens(self, request: TextRequest) -> list[int]:
        """The request's messages, up to where the answer begins.

        Raises:
            RequestError: there is no template, it takes no tools, or it refuses these messages.
        """
        name = "default"
        if request.tools.offered:
            name = self._with_tools or self._no_tools()
        renderer = self._renderers.get(name) or next(iter(self._renderers.values()), None)
        if renderer is None:
            raise RequestError(
                "This model has no chat template; send its text to /v1/completions, or upload chat_template.jinja.",
                code="no_chat_template",
                param="messages",
            )
        self._tokens.check_length(sum(len(message["content"]) for message in request.messages), "messages")
        text = renderer.render(
            {
                **request.template_settings,
                "messages": request.messages,
                "tools": request.tools.offered or None,
                "documents": None,
                "add_generation_prompt": True,
            }
        )
        return self._tokens.encode(text, special=False, field="messages")

    def _no_tools(self) -> str:
        raise RequestError(
            "This model's chat template takes no tools; leave tools out, or use a model that was made for them.",
            code="unsupported_parameter",
            param="tools",
        )
