"""What a header says in few words, and what it does not say."""

import pytest

from ecotone.licences import KnowledgeBase
from ecotone.licences.detection import detect


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("// SPDX-License-Identifier: MIT\n", ["MIT"]),
        ("# SPDX-License-Identifier: GPL-2.0+\n", ["GPL-2.0-or-later"]),
        ("/* SPDX-License-Identifier: GPL-2.0 */", ["GPL-2.0-only"]),
        ("<!-- SPDX-License-Identifier: (MIT OR Apache-2.0) AND LicenseRef-x -->",
         ["MIT", "Apache-2.0", "LicenseRef-x"]),
        ("SPDX-License-Identifier: Nonsense-9.9", []),
        ("Licensed under the Apache License, Version 2.0", ["Apache-2.0"]),
        ("This file is under the GNU General Public License, version 2.", ["GPL-2.0-only"]),
        ("under the terms of the GNU Lesser General Public License, either version 2.1, or (at your option) any later "
         "version", ["LGPL-2.1-or-later"]),
        ("distributed under the GNU Affero General Public License v3 or later", ["AGPL-3.0-or-later"]),
        ("Released under the MIT licence.", ["MIT"]),
        ("This work is licensed under a Creative Commons Attribution-NonCommercial 4.0 International License.",
         ["CC-BY-NC-4.0"]),
        ("See the GNU General Public License for more details.", []),
        ("We compared GPL version 2 with other texts.", []),
    ],
)  # fmt: skip
def test_a_notice_is_read_as_what_it_grants(text: str, expected: list[str]) -> None:
    assert [d.id for d in detect(text, KnowledgeBase.load())] == expected


def test_a_tag_says_that_it_is_a_tag() -> None:
    (tag,) = detect("SPDX-License-Identifier: MIT")
    assert (tag.evidence, tag.spdx, tag.coverage, tag.near) == ("tag", "MIT", 1.0, ())
