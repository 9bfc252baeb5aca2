"""Finding sensitive text, classing it, hiding it behind placeholders and putting it back, also in a stream.

Pure: no database, no network, no model. Finds what structure and checksums can prove; names of people and places it
does not find. Use as a library:

    from ecotone.privacy import Pseudonyms, find, inspect, scan

    find("Write to maria.lopez@example.org")     # [Span(start=9, end=32, kind='email', data_class=PERSONAL)]
    scan({"messages": [{"role": "user", "content": "IBAN DE89 3704 0044 0532 0130 00"}]})     # CONFIDENTIAL
    quick(body)                                  # no findings, proven in microseconds; else None: `inspect` tells
    inspect(body).kinds                          # {'iban': 1}: what may be logged, counts and never values

    names = Pseudonyms()                         # one for each request, or with a key for each conversation
    sent = names.mask_json(body)                 # the same object when nothing was found
    names.restore(answer)                        # whole text
    stream = names.restorer()                    # one for each choice and field of a stream
    for piece in pieces:
        show(stream.feed(piece))
    show(stream.finish())

Masked text is still personal data (GDPR, Art. 4(5)): masking is no anonymity.
"""

from ecotone.privacy.errors import TooDeep
from ecotone.privacy.finding import find
from ecotone.privacy.pseudonyms import Pseudonyms
from ecotone.privacy.restoring import StreamRestorer
from ecotone.privacy.spans import Span, data_class
from ecotone.privacy.values import Findings, inspect, quick, scan

__all__ = [
    "Findings",
    "Pseudonyms",
    "Span",
    "StreamRestorer",
    "TooDeep",
    "data_class",
    "find",
    "inspect",
    "quick",
    "scan",
]
