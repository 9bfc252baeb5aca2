"""Users, projects, tokens and keys. Secrets are stored as hashes only; knows nothing of HTTP."""

from ecotone.accounts.actors import ANONYMOUS, SYSTEM, Actor
from ecotone.accounts.devices import DeviceLogin, DeviceLogins, DeviceRefusal, IssuedToken
from ecotone.accounts.errors import KeyNotFound, ProjectExists, ProjectNotFound
from ecotone.accounts.keys import KeyInfo, KeyTerms, LivingSecret, check_kept, key_ids
from ecotone.accounts.patterns import fits, models_within, networks_within
from ecotone.accounts.profile import KeptProfile, Profile
from ecotone.accounts.projects import HOUSE, Bounds, Project
from ecotone.accounts.rights import standing
from ecotone.accounts.services import Accounts, TokenInfo
from ecotone.accounts.users import bears, is_user, roles_up_to, secret_hash, user_named, user_today

__all__ = [
    "ANONYMOUS",
    "HOUSE",
    "SYSTEM",
    "Accounts",
    "Actor",
    "Bounds",
    "DeviceLogin",
    "DeviceLogins",
    "DeviceRefusal",
    "IssuedToken",
    "KeptProfile",
    "KeyInfo",
    "KeyNotFound",
    "KeyTerms",
    "LivingSecret",
    "Profile",
    "Project",
    "ProjectExists",
    "ProjectNotFound",
    "TokenInfo",
    "bears",
    "check_kept",
    "fits",
    "is_user",
    "key_ids",
    "models_within",
    "networks_within",
    "roles_up_to",
    "secret_hash",
    "standing",
    "user_named",
    "user_today",
]
