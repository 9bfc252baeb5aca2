"""The server's TLS, from certificate files."""

import ssl

from ecotone.settings import Settings
from ecotone.vocabulary import Invalid


def server_tls(settings: Settings) -> ssl.SSLContext | None:
    """What connections are wrapped in: TLS 1.2 or later, HTTP/1.1 alone; None when no certificate is set.

    Raises:
        Invalid: naming the variable whose file cannot be used.
    """
    if not settings.tls_cert:
        return None
    for name in ("tls_cert", "tls_key"):
        path = getattr(settings, name) or settings.tls_cert
        try:
            with open(path, "rb"):
                pass
        except OSError as error:
            variable = f"ECOTONE_{name.upper()}"
            raise Invalid(f"{variable}: {path} cannot be read: {error.strerror}.", param=variable) from None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(settings.tls_cert, settings.tls_key or None, password=_no_password)
    except (ssl.SSLError, ValueError) as error:
        reason = getattr(error, "reason", None) or "the key has a password, which nobody could type at a restart"
        raise Invalid(
            f"ECOTONE_TLS_CERT and ECOTONE_TLS_KEY are no certificate with its key ({reason}); PEM files are expected.",
            param="ECOTONE_TLS_CERT",
        ) from None
    return context


def _no_password() -> str:
    raise ValueError("the key has a password")
