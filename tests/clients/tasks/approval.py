"""A person at a browser: logs in with a token, and allows the device that shows a code."""

import re
import urllib.parse
import urllib.request
from collections.abc import Mapping
from http.cookiejar import CookieJar
from typing import Any

from serving import Place


def approve(at: Place, asked: Mapping[str, Any]) -> None:
    """Open the page of a login, log in, and allow it. `asked` has the `user_code` that the terminal shows."""
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))

    def send(path: str, fields: "dict[str, str] | None" = None) -> str:
        data = urllib.parse.urlencode(fields).encode() if fields is not None else None
        with browser.open(at.url + path, data, timeout=280) as answer:
            return str(answer.read().decode())

    page = send(f"/login/device?user_code={urllib.parse.quote(asked['user_code'])}")
    page = send("/login", hidden(page) | {"token": at.tokens[at.user]})
    assert asked["user_code"] in page, "the page does not show the code of the terminal"
    page = send("/login/device", hidden(page) | {"act": "allow", "role": "write"})
    assert "Allowed." in page, "the page does not say that the device was allowed"


def hidden(page: str) -> dict[str, str]:
    """The hidden fields of a page's last form."""
    form = page[page.rindex("<form class=") :]
    return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', form))
