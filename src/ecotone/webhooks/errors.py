"""Reasons for which webhooks refuse; somebody else's webhook and an absent one are the same."""

from ecotone.vocabulary import NotFound


class WebhookNotFound(NotFound):
    code = "webhook_not_found"

    def __init__(self, webhook_id: str) -> None:
        super().__init__(f"You have no webhook {webhook_id[:40]!r}; `hf webhooks ls` shows those you have.")
