"""The organisation's profile: what licences ask of whoever uses a model, told once and used in every answer.

Pure. Figures are defaults: what a project or a question tells of its own wins.
"""

import math
import re
from typing import Any

import msgspec

from ecotone.vocabulary import Invalid

_MONTH = re.compile(r"\d{4}-(?:0[1-9]|1[0-2])")
_PLACE = re.compile(r"[A-Z]{2}|EU|EEA")
_MOST_USERS = 10**11
_MOST_MONTHS = 240
ASSUME = "assume_below_thresholds"


class Profile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the organisation is.

    `users`: monthly active users of the organisation today, all affiliates together unless `affiliates` is false.
    `product_users`: those of the product that uses models; the organisation's when absent. `mau_at`: users in a past
    month (`2024-06`), as licences with a limit at their release ask. `revenue`: USD a year. `domicile` and
    `principal_place`: countries as two capitals. `positions`: choices where law is disputed.
    `assume_below_thresholds`: thresholds of users count as not reached while no figure was told.
    """

    users: int | None = None
    product_users: int | None = None
    affiliates: bool = True
    mau_at: dict[str, int] = {}
    revenue: float | None = None
    domicile: str | None = None
    principal_place: str | None = None
    positions: dict[str, str] = {}
    assume_below_thresholds: bool = False

    def variables(self) -> dict[str, Any]:
        """Variables of a use. Figures without affiliates say nothing of a limit that counts them: they stay unknown."""
        found: dict[str, Any] = {}
        if self.affiliates:
            found["org.mau"] = self.users
            found |= {f"org.mau_at.{month}": users for month, users in sorted(self.mau_at.items())}
        found["product.mau"] = self.product_users if self.product_users is not None else self.users
        found["org.annual_revenue"] = self.revenue
        found["org.domicile"] = self.domicile
        found["org.principal_place"] = self.principal_place
        return {name: value for name, value in found.items() if value is not None}

    def choices(self) -> dict[str, str]:
        """Positions, the assumption on thresholds among them."""
        return self.positions | ({ASSUME: "yes"} if self.assume_below_thresholds else {})

    def checked(self) -> "Profile":
        """The profile with places in capitals and the assumption in its own field.

        Raises:
            Invalid: naming the field.
        """
        for name in ("users", "product_users"):
            _check_users(name, getattr(self, name))
        if len(self.mau_at) > _MOST_MONTHS:
            raise Invalid(f"At most {_MOST_MONTHS} months can be told.", param="mau_at")
        for month, users in self.mau_at.items():
            if not _MONTH.fullmatch(month):
                raise Invalid(f"{month!r} is no month; write YYYY-MM, e.g. 2024-06.", param="mau_at")
            _check_users(f"mau_at.{month}", users)
        if self.revenue is not None and not (math.isfinite(self.revenue) and self.revenue >= 0):
            raise Invalid("Revenue is a number of USD a year, not below zero.", param="revenue")
        positions = dict(self.positions)
        assumed = positions.pop(ASSUME, "yes" if self.assume_below_thresholds else "no")
        return msgspec.structs.replace(
            self,
            domicile=_place("domicile", self.domicile),
            principal_place=_place("principal_place", self.principal_place),
            positions=positions,
            assume_below_thresholds=assumed == "yes",
        )


class KeptProfile(msgspec.Struct, frozen=True):
    """The profile with when and by whom it was told; both None before that."""

    profile: Profile = Profile()
    updated: str | None = None
    updated_by: str | None = None

    @property
    def told(self) -> bool:
        return self.updated is not None


def _check_users(name: str, users: int | None) -> None:
    if users is not None and not 0 <= users <= _MOST_USERS:
        raise Invalid(f"{name} is {users}; a number of monthly users from 0 to {_MOST_USERS} is expected.", param=name)


def _place(name: str, value: str | None) -> str | None:
    if value is None or not value.strip():
        return None
    place = value.strip().upper()
    if not _PLACE.fullmatch(place):
        raise Invalid(f"{name} is {value!r}; a country as two capitals (DE), EU or EEA is expected.", param=name)
    return place
