"""The text of a page that somebody sends."""

import time

import pytest

from ecotone.licences.duties import shown_text


@pytest.mark.parametrize("piece", ["<", "<a", "</", "<!--", "<a ", "<![CDATA[", "<a b='", '<a b=">', "<p>"])
def test_a_page_of_nothing_but_beginnings_stalls_nobody(piece: str) -> None:
    begun = time.thread_time()
    shown_text(piece * (400_000 // len(piece)))
    assert time.thread_time() - begun < 5


def test_what_is_hidden_is_not_taken_for_shown() -> None:
    page = (
        "<head><title>T</title></head><!-- a <b>c --><p title='hidden'>Built &amp; <b>shown</b> 1 < 2</p>"
        "<p hidden>x</p><div style='display: none'>y<p>z</p></div><script>if (a<b) c</script><a title=\"1>2\">end</a>"
    )
    assert shown_text(page) == "Built & shown 1 < 2 end"
