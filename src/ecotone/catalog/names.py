"""Names of repositories, refs and files: what is a legal one. Pure; knows nothing of what exists.

Source: the clients' own rules (protocol section 1.1), hardened as its section 5 asks.
"""

import re
import unicodedata

from ecotone.catalog.errors import BadName, BadPath

_RESERVED = (
    "api v1 v1beta v1beta2 v1beta3 cas lfs models datasets spaces kernels collections oauth login logout settings "
    "static docs health metrics uploads organizations users new search openai pipeline hf-inference ecotone"
)
RESERVED_SEGMENTS = frozenset(_RESERVED.split())
"""First path segments that faces use: never a namespace. The app adds those of its route table."""

MAX_PATH_BYTES = 1024
MAX_PART_BYTES = 255

_PART = re.compile(r"[A-Za-z0-9_\-.]{1,96}\Z")
_REF = re.compile(r"[A-Za-z0-9_\-./+=]{1,200}\Z")
_HALF = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,94}[A-Za-z0-9_])?"
ID = re.compile(rf"(?!.*(?:--|\.\.|\.[Gg][Ii][Tt](?:/|$))){_HALF}/{_HALF}")
"""`namespace/name` in one pattern, but for the namespaces that are reserved."""
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_SHA = re.compile(r"[0-9a-f]{40}\Z")


def split_id(model_id: str, reserved: frozenset[str] = RESERVED_SEGMENTS) -> tuple[str, str]:
    """Namespace and name of `namespace/name`.

    Raises:
        BadName: naming the rule that is broken.
    """
    namespace, slash, name = model_id.partition("/")
    if not slash or "/" in name:
        raise BadName(f"{model_id!r} is not an id; write it as namespace/name.", param="name")
    for part in (namespace, name):
        if not is_name(part):
            raise BadName(
                f"{part!r} in {model_id!r} is not a legal name: 1 to 96 letters, digits, '-', '_' or '.', no '--' or "
                "'..', no '-' or '.' at either end, not ending in '.git'.",
                param="name",
            )
    if namespace.casefold() in reserved:
        raise BadName(f"{namespace!r} is an address of this server and cannot be a namespace.", param="name")
    return namespace, name


def is_name(part: str) -> bool:
    """Whether one half of an id is legal."""
    return (
        _PART.match(part) is not None
        and "--" not in part
        and ".." not in part
        and part[0] not in "-."
        and part[-1] not in "-."
        and not part.casefold().endswith(".git")
    )


def key_of(model_id: str) -> str:
    """The form under which ids are unique: two ids may not differ only in case."""
    return model_id.casefold()


def is_sha(rev: str) -> bool:
    return _SHA.match(rev) is not None


def is_sha256(text: str) -> bool:
    return _SHA256.match(text) is not None


def check_ref(name: str) -> str:
    """A legal branch or tag name (the rules of `git check-ref-format`, narrowed).

    Raises:
        BadName: when git or a URL could not carry it.
    """
    parts = name.split("/")
    bad = (
        _REF.match(name) is None
        or ".." in name
        or any(not p or p.startswith((".", "-")) or p.endswith((".", ".lock")) for p in parts)
        or is_sha(name)
        or parts[0] == "refs"
    )
    if bad:
        raise BadName(
            f"{name!r} cannot name a branch or tag; use letters, digits, '-', '_', '.', '+', '=' and single '/'.",
            param="name",
        )
    return name


def check_path(path: str) -> str:
    """A path inside a repository in its normal form (NFC).

    Raises:
        BadPath: for what is empty, absolute, climbs, hides `.git` or holds control characters.
    """
    normal = unicodedata.normalize("NFC", path)
    if not normal or len(normal.encode("utf-8", "surrogatepass")) > MAX_PATH_BYTES:
        raise BadPath(f"A path must have 1 to {MAX_PATH_BYTES} bytes; this one has {len(path)} characters.")
    if any(unicodedata.category(c) in ("Cc", "Cs", "Cf", "Zl", "Zp") for c in normal) or "\\" in normal:
        raise BadPath(f"The path {path!r} holds a backslash, control or invisible character; rename the file.")
    for part in normal.split("/"):
        folded = unicodedata.normalize("NFKC", part).casefold().rstrip(". ")
        if part in ("", ".", "..") or folded == ".git" or folded == "git~1" or len(part.encode()) > MAX_PART_BYTES:
            raise BadPath(
                f"The path {path!r} is refused: parts may not be empty, '.', '..' or '.git', nor longer than "
                f"{MAX_PART_BYTES} bytes."
            )
    return normal
