"""Texts of many kinds that the scan is measured and tested on, made from a seed."""

import base64
import json
import random

SYSTEM = (
    "You are a careful assistant for the support desk of a mid-sized company. Answer briefly, cite the policy you "
    "used, and never invent an order number. If the customer asks for a refund, check the date of purchase first, "
    "then explain the next step in one sentence. Keep the tone friendly and plain."
)
USER = (
    "Hello, I bought a standing desk from you three weeks ago and one of the legs wobbles when I raise it above a "
    "metre. I have tightened all the bolts twice. What should I do next, and can I get a replacement part without "
    "sending the whole desk back? "
)
FILLER = 'All work and no play makes Jack a dull boy; "quoted" text.\n'
PROSE = (
    "The committee met on 12 March 2024 at 10:30 and heard 1,234 people. In chapter 3.2 (pages 45-67) it says: 50% of "
    "users & 3 of 4 teams agreed; see https://example.org/a/b?c=1#d. 'Well,' she said, \"we'll see @ noon.\"\n"
)
GERMAN = (
    "Die Überprüfung der Anträge dauert erfahrungsgemäß zwei bis drei Wochen; größere Änderungen müssen schriftlich "
    "begründet werden – so steht es in § 4 Abs. 2. Für „besondere Fälle“ gilt eine Frist bis zum 31.12.2024.\n"
)
FRENCH = (
    "L’équipe a vérifié les résultats à plusieurs reprises\u00a0: près de 45\u00a0% des élèves déjà inscrits préfèrent "
    "un accès différé. «\u00a0Ça ira\u00a0», répondit-elle, le 3 août 2023 à 14\u202fh\u202f30.\n"
)
CHINESE = "委员会于2024年3月12日召开会议，听取了1234人的意见。报告第3章指出，大多数用户表示同意；详见附录。\n"
CODE = (
    "for i in range(1_000_000):\n    x[i] = a.data @ b.data + 0x7f - 1e-9  # TODO(#1234): v2.0.1\n"
    'print(f"{i:08d}\\n\\u00e9", rows[0]["id"], 20240105101112, 3.141592653589793)\n'
    '<a href="/x?y=1&amp;z=2">&nbsp;</a>\n'
)
MODULE = (
    "def settle(self, tokens: int, cost: int) -> None:\n"
    '    """Gives back what was reserved and not used; later calls do nothing."""\n'
    "    if self._done:\n        return\n    for scope, window in self._windows.items():\n"
    "        window.spent += cost - window.reserved  # never below zero\n"
)
FOUND = (
    "Write to maria.lopez@example.org or call +49 30 1234567; pay DE89 3704 0044 0532 0130 00 with card "
    "4111 1111 1111 1111, ssn 123-45-6789, token sk-" + "proj-Zk3v9QpL7xTn2BdR8mWc5YhJ.\n"
)


def logs(count: int, seed: int = 7) -> str:
    """Lines of JSON as servers write them."""
    draw = random.Random(seed)
    return "\n".join(json.dumps(_line(draw)) for _ in range(count))


def _line(draw: random.Random) -> dict[str, object]:
    day, second = f"2024-{draw.randint(1, 12):02}-{draw.randint(1, 28):02}", draw.randint(0, 59)
    return {
        "time": f"{day}T10:11:{second:02}.123Z",
        "level": draw.choice(["info", "warning"]),
        "request_id": f"{draw.getrandbits(128):032x}",
        "client": f"10.{draw.randint(0, 255)}.{draw.randint(0, 255)}.7:{draw.randint(1024, 65535)}",
        "status": 200,
        "duration_us": draw.randint(100, 99999),
        "message": "request served",
    }


def blob(size: int, seed: int = 7) -> str:
    """Base64 of random bytes, in lines of 76."""
    return base64.encodebytes(random.Random(seed).randbytes(size * 3 // 4)).decode()


def filled(text: str, size: int = 65_536) -> str:
    """The text again and again up to a size in characters."""
    return (text * (size // len(text) + 1))[:size]


def kinds(size: int = 65_536) -> dict[str, str]:
    """A text of each kind, of so many characters."""
    return {
        "padding": filled(FILLER, size),
        "prose": filled(SYSTEM + " " + USER + "\n", size),
        "prose with digits": filled(PROSE, size),
        "German": filled(GERMAN, size),
        "French": filled(FRENCH, size),
        "Chinese": filled(CHINESE, size),
        "code": filled(MODULE, size),
        "code with digits": filled(CODE, size),
        "base64": filled(blob(size), size),
        "JSON logs": filled(logs(size // 200), size),
        "full of findings": filled(FOUND, size),
    }


def chat(content: str = USER) -> dict[str, object]:
    """The body of a chat with a system and a user message; 750 bytes as JSON with the usual text."""
    return {
        "model": "mock-model",
        "messages": [{"role": "system", "content": SYSTEM}, {"role": "user", "content": content}],
        "temperature": 0.7,
        "max_tokens": 256,
        "stream": False,
    }
