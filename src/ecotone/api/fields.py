"""Fields that bodies of several endpoints have, with what the rules say of them."""

from typing import Annotated

from ecotone.accounts.patterns import MOST as MOST_PATTERNS
from ecotone.accounts.patterns import NO_MODEL, PATTERN
from ecotone.accounts.projects import MOST_NAMES, TAG
from ecotone.api.shapes import many, text, within
from ecotone.gateway.budgets import WRITTEN
from ecotone.gateway.kept_limits import MOST as MOST_COUNT
from ecotone.gateway.kept_limits import MOST_BUDGETS

Models = Annotated[list[Annotated[str, text(PATTERN, but=NO_MODEL)]], many(MOST_PATTERNS)]
Tags = Annotated[list[Annotated[str, text(TAG)]], many(MOST_NAMES)]
Count = Annotated[int, within(0, MOST_COUNT)]
Budgets = Annotated[list[Annotated[str, text(WRITTEN)]], many(MOST_BUDGETS)]
