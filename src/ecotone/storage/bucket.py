"""The bucket that holds the objects, as the settings and the environment name it, and addresses of it that stand for
one request. Knows the signature (AWS Signature Version 4, query parameters), nothing of how objects are moved.
"""

import hashlib
import hmac
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, urlsplit

from ecotone.settings import Settings
from ecotone.vocabulary import Invalid

SCHEME = "s3://"


@dataclass(frozen=True, slots=True)
class Keys:
    """Credentials of the store; never printed."""

    access: str
    secret: str = field(repr=False)
    session: str | None = field(default=None, repr=False)

    @classmethod
    def from_environment(cls) -> "Keys | None":
        """From the usual variables; None where the platform gives credentials in another way."""
        access, secret = os.environ.get("AWS_ACCESS_KEY_ID"), os.environ.get("AWS_SECRET_ACCESS_KEY")
        return cls(access, secret, os.environ.get("AWS_SESSION_TOKEN") or None) if access and secret else None


@dataclass(frozen=True, slots=True)
class Bucket:
    """Where the objects are. `endpoint` and `public` are URLs without a path; `public` is the address clients reach,
    "" when they cannot; `in_host` puts the bucket's name into the host name."""

    name: str
    prefix: str
    endpoint: str
    public: str
    region: str
    in_host: bool

    @classmethod
    def of(cls, settings: Settings) -> "Bucket | None":
        """The bucket that the settings name, None when objects are kept in the data folder.

        Raises:
            Invalid: naming the variable that is wrong.
        """
        if not settings.objects:
            return None
        name, _, prefix = settings.objects.removeprefix(SCHEME).partition("/")
        if not settings.objects.startswith(SCHEME) or not name:
            raise Invalid(
                f"ECOTONE_OBJECTS is {settings.objects!r}, but s3://BUCKET or s3://BUCKET/PREFIX is expected.",
                param="ECOTONE_OBJECTS",
            )
        region = settings.s3_region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        region = region or "us-east-1"
        endpoint = _address(settings.s3_endpoint, "ECOTONE_S3_ENDPOINT") or f"https://s3.{region}.amazonaws.com"
        public = _address(settings.s3_public_endpoint, "ECOTONE_S3_PUBLIC_ENDPOINT")
        return cls(name, prefix.strip("/"), endpoint, public, region, settings.s3_bucket_in_host)

    def __str__(self) -> str:
        return f"the bucket {self.name} at {self.endpoint}"

    def root(self, endpoint: str) -> tuple[str, str]:
        """Base URL and path under which an endpoint has the bucket."""
        if not self.in_host:
            return endpoint, f"/{self.name}"
        scheme, _, host = endpoint.partition("://")
        return f"{scheme}://{self.name}.{host}", ""

    def signed(
        self,
        keys: Keys,
        method: str,
        key: str,
        *,
        seconds: int,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
    ) -> str:
        """An address at the public endpoint that allows one method on one object for some seconds.

        Args:
            headers: signed too: the store refuses a request that sends others in their place, or none.
            query: further parameters, such as `response-content-disposition`.

        Source: AWS Signature Version 4, "Authenticating Requests: Using Query Parameters".
        """
        base, path = self.root(self.public)
        whole = "/".join(part for part in (self.prefix, key) if part)
        path = f"{path}/{quote(whole, safe='/-_.~')}"
        now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        scope = f"{now[:8]}/{self.region}/s3/aws4_request"
        sent = {"host": urlsplit(base).netloc} | {n.lower(): v.strip() for n, v in (headers or {}).items()}
        names = ";".join(sorted(sent))
        asked = {
            "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
            "X-Amz-Credential": f"{keys.access}/{scope}",
            "X-Amz-Date": now,
            "X-Amz-Expires": str(seconds),
            "X-Amz-SignedHeaders": names,
            **({"X-Amz-Security-Token": keys.session} if keys.session else {}),
            **(query or {}),
        }
        told = "&".join(f"{quote(n, safe='-_.~')}={quote(asked[n], safe='-_.~')}" for n in sorted(asked))
        lines = "".join(f"{name}:{sent[name]}\n" for name in sorted(sent))
        canonical = f"{method}\n{path}\n{told}\n{lines}\n{names}\nUNSIGNED-PAYLOAD"
        text = f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        secret = b"AWS4" + keys.secret.encode()
        for part in scope.split("/"):
            secret = hmac.digest(secret, part.encode(), "sha256")
        return f"{base}{path}?{told}&X-Amz-Signature={hmac.new(secret, text.encode(), 'sha256').hexdigest()}"


def _address(given: str, variable: str) -> str:
    """An endpoint without the slash at its end. Raises Invalid."""
    parts = urlsplit(given)
    if "@" in parts.netloc:
        raise Invalid(f"{variable} holds credentials; put them into AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.")
    if given and (parts.scheme not in ("http", "https") or not parts.netloc or parts.path.strip("/") or parts.query):
        raise Invalid(
            f"{variable} is {given!r}, but http(s)://HOST or http(s)://HOST:PORT is expected.", param=variable
        )
    return given.rstrip("/")
