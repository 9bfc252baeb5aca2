"""What a user would lose: a card number that leaves the house, or an order number that is taken for one."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecotone.privacy import data_class, find
from ecotone.privacy.checksums import IBAN_LENGTH, is_card, is_iban, luhn
from ecotone.privacy.secrets import secret_rules
from ecotone.vocabulary import DataClass


def found(text: str) -> list[tuple[str, str]]:
    return [(text[s.start : s.end], s.kind) for s in find(text)]


def with_luhn(digits: str) -> str:
    return next(digits + d for d in "0123456789" if luhn(digits + d))


def iban(country: str, account: str, group: str = "") -> str:
    number = "".join(str(int(c, 36)) for c in account + country + "00")
    text = f"{country}{98 - int(number) % 97:02}{account}"
    return group.join(text[i : i + 4] for i in range(0, len(text), 4)) if group else text


@pytest.mark.parametrize(
    ("text", "value", "kind"),
    [
        ("Write to maria.lopez@example.org.", "maria.lopez@example.org", "email"),
        ("<a href='mailto:m+tag@sub.example.co.uk'>", "m+tag@sub.example.co.uk", "email"),
        ("https://x.org/?mail=maria%40example.org&b=1", "maria%40example.org", "email"),
        ('{"to": "maria@example.org"}', "maria@example.org", "email"),
        ("**maria@example.org**", "maria@example.org", "email"),
        (r'print("Hi\nmaria@example.org")', "maria@example.org", "email"),
        ("m\u00e4x@m\u00fcller.example", "m\u00e4x@m\u00fcller.example", "email"),
        ("maria\uff20example\uff0eorg", "maria\uff20example\uff0eorg", "email"),
        ("ma\u200bria@exam\u00adple.org", "ma\u200bria@exam\u00adple.org", "email"),
        ("\u8bf7\u5199\u4fe1maria@example.org\u3067\u3059\u304b", None, "email"),
        ("pay DE89 3704 0044 0532 0130 00 today", "DE89 3704 0044 0532 0130 00", "iban"),
        ("pay de89370400440532013000, please", "de89370400440532013000", "iban"),
        (
            "GB29\u00a0NWBK\u00a06016\u00a01331\u00a09268\u00a019",
            "GB29\u00a0NWBK\u00a06016\u00a01331\u00a09268\u00a019",
            "iban",
        ),
        ("NO93 8601 1117 947", "NO93 8601 1117 947", "iban"),
        ("MT84MALT011000012345MTLCAST001S", "MT84MALT011000012345MTLCAST001S", "iban"),
        ("FR14 2004 1010 0505 0001 3M02 606", "FR14 2004 1010 0505 0001 3M02 606", "iban"),
        ("card 4111 1111 1111 1111 12/29", "4111 1111 1111 1111", "card"),
        ("2024-01-05 4111-1111-1111-1111", "4111-1111-1111-1111", "card"),
        ("5555555555554444", "5555555555554444", "card"),
        ("3782 822463 10005", "3782 822463 10005", "card"),
        ("3056 930902 5904", "3056 930902 5904", "card"),
        ("\u5361\u53f74111111111111111\u8bf7", "4111111111111111", "card"),
        ("\uff14\uff11\uff11\uff11 1111 1111 1111", "\uff14\uff11\uff11\uff11 1111 1111 1111", "card"),
        ("4111\u200b1111\u200b1111\u200b1111", "4111\u200b1111\u200b1111\u200b1111", "card"),
        ("call +49 (30) 1234567 now", "+49 (30) 1234567", "phone"),
        ("tel:+12025550143", "+12025550143", "phone"),
        ("ssn 123-45-6789", "123-45-6789", "ssn"),
        ("postgres://app:k7wQ-92mz@db.internal/x", "://app:k7wQ-92mz@db.internal", "secret"),
    ],
)
def test_values_are_found_in_the_clothes_they_wear(text: str, value: str | None, kind: str) -> None:
    hits = found(text)
    assert [k for _, k in hits] == [kind]
    assert value is None or hits[0][0] == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Hello there, what is the capital of Peru?",
        "Order 4111 1111 1111 1112 please",
        "0.4111111111111111",
        "a4111111111111111",
        "41111111111111110000",
        "DE88 3704 0044 0532 0130 00",
        "XX89 3704 0044 0532 0130 00",
        "git@github.com:org/repo.git",
        "@decorator\ndef f(): pass",
        "npm i left-pad@1.3.0",
        "a @ b.org",
        "000-12-3456 666-12-3456 912-12-3456 123-00-4567 123-45-0000",
        "5 +1234567 apples",
        "+0530",
        "x = +35236450.6 + 907133923",
        "1700000000000 2024-01-05T10:11:12Z 192.168.100.200",
        "commit da39a3ee5e6b4b0d3255bfef95601890afd80709",
        "sk-learn, task-force and desk-top",
        "AKIAIOSFODNN7EXAMPLE",
        "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
    ],
)
def test_what_only_looks_alike_is_left_alone(text: str) -> None:
    assert found(text) == []


@given(
    st.from_regex(r"4[0-9]{14}|5[1-5][0-9]{13}", fullmatch=True), st.sampled_from(["", " ", "-", "\u00a0", "\u2011"])
)
def test_every_card_number_is_found_and_no_other_check_digit(body: str, separator: str) -> None:
    right = with_luhn(body)
    shown = separator.join(right[i : i + 4] for i in range(0, 16, 4))
    assert (shown, "card") in found(f"Pay with {shown}, thanks")
    for digit in set("0123456789") - {right[-1]}:
        assert not is_card(body + digit)
        wrong = body + digit
        assert found("nr " + separator.join(wrong[i : i + 4] for i in range(0, 16, 4)) + ".") == []


@given(st.data())
def test_every_iban_is_found_and_no_other_check_digits(data: st.DataObject) -> None:
    country = data.draw(st.sampled_from(sorted(IBAN_LENGTH)))
    size = IBAN_LENGTH[country] - 4
    account = data.draw(st.text("0123456789ABCXYZ", min_size=size, max_size=size))
    group = data.draw(st.sampled_from(["", " ", "-", "\u202f"]))
    value = iban(country, account, group)
    assert (value, "iban") in found(f"to {value} today")
    compact = iban(country, account)
    wrong = f"{(int(compact[2:4]) + 1) % 100:02}"
    assert not is_iban(country + wrong + account)


@given(st.text())
def test_spans_lie_in_order_inside_any_text(text: str) -> None:
    place = 0
    for item in find(text):
        assert place <= item.start < item.end <= len(text)
        place = item.end


@pytest.mark.parametrize("rule", secret_rules(), ids=lambda r: r.id)
def test_each_rule_finds_its_form_and_not_its_near_misses(rule: object) -> None:
    for pieces in rule.positive:  # type: ignore[attr-defined]
        spans = find(f'key = "{"".join(pieces)}"')
        assert data_class(spans) is DataClass.SECRET
    for pieces in rule.negative:  # type: ignore[attr-defined]
        assert data_class(find(f'key = "{"".join(pieces)}"')) is not DataClass.SECRET


def test_a_private_key_is_hidden_to_its_last_line_even_when_cut() -> None:
    head, body = "-----BEGIN RSA PRIVATE KEY-----", "\nMIIEpAIBAAKCAQEA0Z\nq7Lm+/9=\n"
    whole = head + body + "-----END RSA PRIVATE KEY-----"
    assert found(f"key:\n{whole}\nbye") == [(whole, "secret")]
    assert found(head + body)[0][0].startswith(head + body.rstrip())


@pytest.mark.parametrize(
    "piece",
    ["@a", "a@", "1", "1 ", "4111 ", "sk-", "+1", "1(", "://a:", "eyJ", "DE89", "a@b.", "%40", "1\u200b", "Bearer ",
     "-----BEGIN PRIVATE KEY-----", "gh" + "p_", "x@y.z "],
)  # fmt: skip
def test_hostile_text_costs_no_more_than_its_length(piece: str) -> None:
    def seconds(size: int) -> float:
        text = piece * (size // len(piece))
        times = []
        for _ in range(3):
            begin = time.perf_counter()
            find(text)
            times.append(time.perf_counter() - begin)
        return min(times)

    small, large = seconds(5_000), seconds(40_000)
    assert large < 30 * small + 0.05, "eight times the text may cost eight times the time, with room for noise"
