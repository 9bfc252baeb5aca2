"""Structural checks of numbers that identify money, cards and people. Knows digits, not text.

Sources: ISO 13616 and the IBAN registry (country lengths), ISO/IEC 7064 (mod 97-10), ISO/IEC 7812 (Luhn and issuer
ranges), the US Social Security Administration's rules for numbers never issued, ITU-T E.164 (country codes).
"""

from typing import Final

# Two letters of the country, then the length; those after YE30 are in use without standing in the registry.
_COUNTRIES: Final = (
    "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 DK18 DO28 EE20 EG29"
    " ES24 FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20"
    " LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 PS29"
    " PT25 QA29 RO24 RS22 RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20"
    " YE30 AO25 BF28 BJ28 CF27 CG27 CI28 CM27 CV25 DZ26 GA27 GQ27 GW25 IR26 KM27 MA28 MG27 ML28 MZ25 NE28 SN28 TD27"
    " TG28"
)
IBAN_LENGTH: Final[dict[str, int]] = {word[:2]: int(word[2:]) for word in _COUNTRIES.split()}

_LETTER_NUMBERS: Final = {ord(letter): str(int(letter, 36)) for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}
_LUHN_DOUBLE: Final = bytes.maketrans(b"0123456789", b"0246813579")

# First digits (from, to) of an issuer's numbers and their lengths.
_ISSUERS: Final = (
    ("4", "4", (13, 16, 19)),
    ("51", "55", (16,)),
    ("2221", "2720", (16,)),
    ("34", "34", (15,)),
    ("37", "37", (15,)),
    ("6011", "6011", (16, 19)),
    ("644", "659", (16, 19)),
    ("622126", "622925", (16, 19)),
    ("62", "62", (16, 17, 18, 19)),
    ("300", "305", (14, 16)),
    ("36", "36", (14,)),
    ("38", "39", (14, 16)),
    ("3528", "3589", (16, 17, 18, 19)),
    ("1800", "1800", (15,)),
    ("2131", "2131", (15,)),
    ("2200", "2204", (16, 17, 18, 19)),
    ("5018", "5018", (12, 13, 14, 15, 16, 17, 18, 19)),
    ("5020", "5020", (12, 13, 14, 15, 16, 17, 18, 19)),
    ("5038", "5038", (12, 13, 14, 15, 16, 17, 18, 19)),
    ("5893", "5893", (12, 13, 14, 15, 16, 17, 18, 19)),
    ("6304", "6304", (12, 13, 14, 15, 16, 17, 18, 19)),
    ("6759", "6759", (12, 13, 14, 15, 16, 17, 18, 19)),
    ("6761", "6763", (12, 13, 14, 15, 16, 17, 18, 19)),
)

_CALLING: Final = (
    "1 7 20 27 30 31 32 33 34 36 39 40 41 43 44 45 46 47 48 49 51 52 53 54 55 56 57 58 60 61 62 63 64 65 66 81 82 84 86"
    " 90 91 92 93 94 95 98 211 212 213 216 218 220 221 222 223 224 225 226 227 228 229 230 231 232 233 234 235 236 237"
    " 238 239 240 241 242 243 244 245 246 247 248 249 250 251 252 253 254 255 256 257 258 260 261 262 263 264 265 266"
    " 267 268 269 290 291 297 298 299 350 351 352 353 354 355 356 357 358 359 370 371 372 373 374 375 376 377 378 379"
    " 380 381 382 383 385 386 387 389 420 421 423 500 501 502 503 504 505 506 507 508 509 590 591 592 593 594 595 596"
    " 597 598 599 670 672 673 674 675 676 677 678 679 680 681 682 683 685 686 687 688 689 690 691 692 800 808 850 852"
    " 853 855 856 870 878 880 881 882 883 886 888 960 961 962 963 964 965 966 967 968 970 971 972 973 974 975 976 977"
    " 979 992 993 994 995 996 998"
)
_COUNTRY_CODES: Final = frozenset(_CALLING.split())


def luhn(digits: str) -> bool:
    """Whether the last digit is the right check digit (ISO/IEC 7812-1, annex B)."""
    told = digits.encode("ascii")
    total = sum(told[-1::-2]) + sum(told[-2::-2].translate(_LUHN_DOUBLE)) - len(told) * ord("0")
    return total % 10 == 0


def _issuer_lengths() -> dict[str, frozenset[int]]:
    """The lengths of card numbers under each prefix of one to six digits."""
    table: dict[str, frozenset[int]] = {}
    for low, high, lengths in _ISSUERS:
        for number in range(int(low), int(high) + 1):
            table[str(number)] = table.get(str(number), frozenset()) | frozenset(lengths)
    return table


_ISSUER_LENGTHS: Final = _issuer_lengths()
# The first three digits of every card number.
CARD_BEGINNINGS: Final = frozenset(
    (prefix + rest)[:3]
    for prefix in _ISSUER_LENGTHS
    for rest in (map("{:02}".format, range(100)) if len(prefix) < 3 else ("",))
)


def is_card(digits: str) -> bool:
    """Whether the digits are a payment card number: an issuer's prefix and length, and Luhn's check digit."""
    length = len(digits)
    if not 12 <= length <= 19:
        return False
    for size in (1, 2, 3, 4, 6):
        lengths = _ISSUER_LENGTHS.get(digits[:size])
        if lengths is not None and length in lengths:
            return luhn(digits)
    return False


def is_iban(compact: str) -> bool:
    """Whether upper-case text without separators is an IBAN: its country's length, and remainder 1 modulo 97."""
    if IBAN_LENGTH.get(compact[:2]) != len(compact):
        return False
    return int((compact[4:] + compact[:4]).translate(_LETTER_NUMBERS)) % 97 == 1


def is_ssn(area: str, group: str, serial: str) -> bool:
    """Whether the parts can be a US social security number: no area 000, 666 or 9xx, group 00 or serial 0000."""
    return area not in ("000", "666") and area[0] != "9" and group != "00" and serial != "0000"


def is_country_code(digits: str) -> bool:
    """Whether the digits are an assigned country code of E.164."""
    return digits in _COUNTRY_CODES


def is_phone(digits: str) -> bool:
    """Whether digits that followed a `+` begin with an assigned country code and have a length of E.164."""
    return 8 <= len(digits) <= 15 and (
        digits[:1] in _COUNTRY_CODES or digits[:2] in _COUNTRY_CODES or digits[:3] in _COUNTRY_CODES
    )
