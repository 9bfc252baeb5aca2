"""Users, projects, tokens and keys. Secrets are stored as hashes only; knows nothing of HTTP."""

from ecotone.accounts.actors import ANONYMOUS, SYSTEM, Actor
from ecotone.accounts.devices import DeviceLogin, DeviceLogins, DeviceRefusal, IssuedToken
from ecotone.accounts.errors import KeyNotFound, ProjectExists, ProjectNotFound
from ecotone.accounts.profile import KeptProfile, Profile
from ecotone.accounts.services import HOUSE, Accounts, KeyInfo, Project, TokenInfo
from ecotone.accounts.users import bears, is_user, roles_up_to, secret_hash, user_named, user_today

__all__ = [
    "ANONYMOUS",
    "HOUSE",
    "SYSTEM",
    "Accounts",
    "Actor",
    "DeviceLogin",
    "DeviceLogins",
    "DeviceRefusal",
    "IssuedToken",
    "KeptProfile",
    "KeyInfo",
    "KeyNotFound",
    "Profile",
    "Project",
    "ProjectExists",
    "ProjectNotFound",
    "TokenInfo",
    "bears",
    "is_user",
    "roles_up_to",
    "secret_hash",
    "user_named",
    "user_today",
]
