"""What a user would lose: a plot that says something else than the numbers, or markup that breaks out of the page."""

from xml.etree import ElementTree

from ecotone.audits import plot

SVG = "{http://www.w3.org/2000/svg}"
RESULT = {
    "suite": "weat",
    "revision": "a" * 40,
    "level": 0.95,
    "tests": [
        {
            "id": "weat1",
            "name": "Flowers",
            "targets": ["flowers", "insects"],
            "attributes": ["pleasant", "unpleasant"],
            "effect_size": 1.237,
            "interval": [0.78, 1.69],
            "p_value": 0.00001,
            "p_holm": 0.0001,
        },
        {"id": "weat7", "name": "Maths", "effect_size": -0.5, "interval": [-2.0, 0.8], "p_value": 0.91, "p_holm": 1.0},
    ],
}


def texts(svg: str) -> list[str]:
    return [t.text or "" for t in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def test_figures_and_signs_are_shown() -> None:
    svg = plot(RESULT)
    shown = texts(svg)
    assert "weat1 \u00b7 flowers / insects: pleasant / unpleasant" in shown
    assert "+1.24, p < 0.001" in shown
    assert "\u22120.50, p = 0.91" in shown


def test_it_is_told_to_readers_who_do_not_see_it() -> None:
    root = ElementTree.fromstring(plot(RESULT))
    assert root.get("role") == "img"
    title, desc = root.find(f"{SVG}title"), root.find(f"{SVG}desc")
    assert title is not None and desc is not None
    assert root.get("aria-labelledby") == f"{title.get('id')} {desc.get('id')}"
    assert "Flowers: +1.24, interval +0.78 to +1.69" in (desc.text or "")


def test_positive_stands_right_of_zero_and_only_clear_ones_are_filled() -> None:
    root = ElementTree.fromstring(plot(RESULT))
    marks = [(float(p.attrib["d"].split()[0][1:]), p.attrib["fill"]) for p in root.iter(f"{SVG}path")]
    zero = next(float(line.attrib["x1"]) for line in root.iter(f"{SVG}line") if line.get("opacity") == "0.8")
    assert marks[0][0] > zero > marks[1][0]
    assert [fill for _, fill in marks] == ["currentColor", "none"]


def test_no_script_no_style_and_names_are_escaped() -> None:
    evil = {**RESULT, "suite": "</title><script>", "tests": [{"name": "<script>&\"'", "effect_size": 9e9}]}
    svg = plot(evil)
    assert "<script" not in svg
    assert "<style" not in svg
    assert "style=" not in svg
    ElementTree.fromstring(svg)


def test_nothing_measured_draws_nothing() -> None:
    assert plot({"tests": []}) == ""
    assert plot({}) == ""
    assert plot({"tests": [{"name": "x", "effect_size": None}]}) == ""


def test_two_plots_on_a_page_share_no_id() -> None:
    other = {**RESULT, "revision": "b" * 40}
    ids = [
        e.get("id") for svg in (plot(RESULT), plot(other)) for e in ElementTree.fromstring(svg).iter() if e.get("id")
    ]
    assert len(ids) == len(set(ids))
