"""All tables of all packages, gathered so that the migration history can be checked against them."""

from ecotone.accounts import models as _accounts
from ecotone.app import ledger_heads as _ledger_heads
from ecotone.app import usage_rows as _usage_rows
from ecotone.catalog import discussion_rows as _discussions
from ecotone.catalog import models as _catalog
from ecotone.catalog import weight_rows as _weights
from ecotone.database import Base
from ecotone.engines import models as _engines
from ecotone.gateway import models as _gateway
from ecotone.gateway import price_rows as _prices
from ecotone.jobs import models as _jobs
from ecotone.policy import models as _policy
from ecotone.storage import models as _storage
from ecotone.storage import prints as _prints
from ecotone.webhooks import models as _webhooks

MODULES = (
    _accounts,
    _catalog,
    _discussions,
    _engines,
    _gateway,
    _jobs,
    _ledger_heads,
    _policy,
    _prices,
    _prints,
    _storage,
    _usage_rows,
    _webhooks,
    _weights,
)
METADATA = Base.metadata
