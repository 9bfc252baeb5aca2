"""Who asks: the caller of a face, as rules see it."""

from dataclasses import dataclass, field

from ecotone.vocabulary import Role


@dataclass(frozen=True, slots=True)
class Actor:
    """The caller. `kind` is anonymous, user (a token) or key (a project's key); `token` is the token's id."""

    kind: str
    name: str
    role: Role | None = None
    project: str | None = None
    token: str = field(default="", compare=False)

    @property
    def is_admin(self) -> bool:
        return self.role is Role.ADMIN

    @property
    def may_write(self) -> bool:
        return self.role in (Role.WRITE, Role.ADMIN)

    @property
    def may_read_private(self) -> bool:
        """Private models are the organisation's own: any of its users sees them, nobody else."""
        return self.kind == "user" and self.role is not None


ANONYMOUS = Actor("anonymous", "anonymous")
SYSTEM = Actor("user", "ecotone", Role.ADMIN)
