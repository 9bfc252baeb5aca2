"""Merging: no side's work is lost silently, whatever the files and whatever comes at the same time (both databases)."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecotone.accounts import SYSTEM, Actor
from ecotone.catalog import File
from ecotone.catalog.discussion import MergeConflict, WrongStatus
from ecotone.catalog.merging import merge
from ecotone.publishing import AddRegular, Commit, Delete, Operation, Publishing, Reviews
from ecotone.storage import Content
from ecotone.vocabulary import EcotoneError, Role

RITA = Actor("user", "rita", Role.READ)
PATHS = st.sampled_from(["a", "A", "b", "d", "d/x", "d/y", "e/f/g"])
TREES = st.dictionaries(PATHS, st.sampled_from("123"), max_size=6)


def tree(texts: dict[str, str]) -> dict[str, File]:
    return {p: File(p, Content(1, t * 40, None, None, "git", None), "c" * 40) for p, t in texts.items()}


def texts(files: dict[str, File]) -> dict[str, str]:
    return {path: file.content.git_oid[0] for path, file in files.items()}


@settings(max_examples=300, deadline=None)
@given(TREES, TREES, TREES)
def test_each_path_is_as_one_side_wants_it_or_a_conflict(
    base: dict[str, str], ours: dict[str, str], theirs: dict[str, str]
) -> None:
    found = merge(tree(base), tree(ours), tree(theirs))
    merged = texts(found.files)
    for path in base.keys() | ours.keys() | theirs.keys():
        was, mine, other = base.get(path), ours.get(path), theirs.get(path)
        if mine != was and other != was and mine != other:
            assert path in found.conflicts
        elif mine == was and path not in found.conflicts:
            assert merged.get(path) == other
        elif path not in found.conflicts:
            assert merged.get(path) == mine


@settings(max_examples=200, deadline=None)
@given(TREES, TREES)
def test_a_side_that_changed_nothing_gives_way(base: dict[str, str], theirs: dict[str, str]) -> None:
    there = merge(tree(base), tree(base), tree(theirs))
    assert texts(there.files) == theirs or there.conflicts
    back = merge(tree(base), tree(theirs), tree(base))
    assert texts(back.files) == theirs and back.conflicts == ()


@settings(max_examples=200, deadline=None)
@given(TREES, TREES, TREES)
def test_every_conflict_is_settled_by_choosing_our_side(
    base: dict[str, str], ours: dict[str, str], theirs: dict[str, str]
) -> None:
    first = merge(tree(base), tree(ours), tree(theirs))
    chosen = merge(tree(base), tree(ours), tree(theirs), dict.fromkeys(first.conflicts, "ours"))
    assert chosen.conflicts == ()
    assert all(texts(chosen.files).get(path) == ours.get(path) for path in first.conflicts)


def test_paths_that_cannot_lie_beside_each_other_conflict() -> None:
    for ours, theirs in (({"a": "1"}, {"A": "1"}), ({"a/x": "1"}, {"A/y": "1"}), ({"a": "1"}, {"a/x": "1"})):
        assert merge({}, tree(ours), tree(theirs)).conflicts == (*theirs,)
        assert merge({}, tree(theirs), tree(ours)).conflicts == (*ours,)


@pytest.fixture
def reviews(house: SimpleNamespace) -> Reviews:
    house.catalog.create("demo/x", private=False, actor=SYSTEM)
    return Reviews(house.catalog, house.publishing, house.writer)


def commit(house: SimpleNamespace, ref: str, *operations: Operation) -> str:
    done = house.publishing.commit("demo/x", ref, Commit(message="Change", operations=operations), actor=SYSTEM)
    return str(done.revision_id)


def propose(reviews: Reviews, *operations: Operation, actor: Actor = RITA) -> int:
    _, made = reviews.propose("demo/x", "main", Commit(message="Better", operations=operations), actor=actor)
    return made.num


def held(house: SimpleNamespace, ref: str = "main") -> dict[str, bytes]:
    model = house.catalog.model("demo/x", viewer=SYSTEM)
    found = house.catalog.files(house.catalog.revision(model, ref))
    return {f.path: b"".join(house.storage.read(f.content)) for f in found if f.path != ".gitattributes"}


def test_a_random_history_of_merges_loses_nothing(house: SimpleNamespace, reviews: Reviews) -> None:
    """Each file is owned by one request: whatever is merged and updated in between, all of them end on main."""
    model = house.catalog.model("demo/x", viewer=SYSTEM)
    expected: dict[str, bytes] = {}
    for turn in range(4):
        nums = [propose(reviews, AddRegular(f"f{turn}-{i}", b"%d" % i)) for i in range(3)]
        commit(house, "main", AddRegular("main", b"%d" % turn), AddRegular(f"only-main-{turn}", b"m"))
        reviews.update(model, nums[0], actor=RITA)
        commit(house, f"refs/pr/{nums[1]}", AddRegular(f"more-{turn}", b"x"))
        for num in reversed(nums):
            reviews.merge(model, num, actor=SYSTEM)
        expected |= {f"f{turn}-{i}": b"%d" % i for i in range(3)}
        expected |= {"main": b"%d" % turn, f"only-main-{turn}": b"m", f"more-{turn}": b"x"}
        assert held(house) == expected


def test_an_update_that_was_merged_counts_as_common_ground(house: SimpleNamespace, reviews: Reviews) -> None:
    """Without the second parent a conflict that was settled once would come back."""
    model = house.catalog.model("demo/x", viewer=SYSTEM)
    commit(house, "main", AddRegular("a", b"1"))
    num = propose(reviews, AddRegular("a", b"2"))
    commit(house, "main", AddRegular("a", b"3"))
    with pytest.raises(MergeConflict) as caught:
        reviews.merge(model, num, actor=SYSTEM)
    assert caught.value.paths == ("a",)
    reviews.update(model, num, actor=RITA, keep={"a": "ours"})
    commit(house, "main", AddRegular("b", b"1"))
    reviews.merge(model, num, actor=SYSTEM)
    assert held(house) == {"a": b"2", "b": b"1"}


def test_a_branch_that_was_rewritten_is_merged_against_where_the_request_began(
    house: SimpleNamespace, reviews: Reviews
) -> None:
    model = house.catalog.model("demo/x", viewer=SYSTEM)
    commit(house, "main", AddRegular("a", b"1"), AddRegular("b", b"1"))
    house.catalog.create_branch(model, "dev", actor=SYSTEM)
    _, made = reviews.propose(
        "demo/x", "dev", Commit(message="On dev", operations=(AddRegular("b", b"2"), Delete("a"))), actor=RITA
    )
    house.catalog.delete_branch(model, "dev", actor=SYSTEM)
    shown = house.catalog.comparison(model, made)
    assert shown.ours is None and shown.conflicts == ()
    with pytest.raises(EcotoneError):
        reviews.merge(model, made.num, actor=SYSTEM)
    house.catalog.create_branch(model, "dev", actor=SYSTEM)
    reviews.merge(model, made.num, actor=SYSTEM)
    assert held(house, "dev") == {"b": b"2"}


def test_numbers_merges_and_comments_at_once(house: SimpleNamespace, reviews: Reviews) -> None:
    model = house.catalog.model("demo/x", viewer=SYSTEM)

    def act(number: int) -> int:
        if number % 3 == 0:
            return reviews.open(model, f"T{number}", "x", actor=RITA, pull_request=number % 2 == 0).num
        return propose(reviews, AddRegular(f"f{number}", b"x"), actor=SYSTEM if number % 2 else RITA)

    with ThreadPoolExecutor(6) as pool:
        assert sorted(pool.map(act, range(18))) == list(range(1, 19))
    requests = [d.num for d in house.catalog.discussions(model, kind="pull_request")[0] if d.status == "open"]

    def end(num: int) -> str:
        try:
            reviews.comment(model, num, "hello", actor=RITA)
            reviews.merge(model, num, actor=SYSTEM)
        except WrongStatus:
            return "twice"
        return "merged"

    with ThreadPoolExecutor(6) as pool:
        done = list(pool.map(end, requests * 2))
    assert sorted(done) == ["merged"] * len(requests) + ["twice"] * len(requests)
    assert set(held(house)) == {f"f{n}" for n in range(18) if n % 3}
    for num in requests:
        kinds = [e.type for e in house.catalog.happenings(house.catalog.discussion(model, num))]
        assert kinds.count("comment") == 2 and kinds.count("status-change") == 1


def test_a_merge_that_could_not_be_recorded_did_not_happen(
    house: SimpleNamespace, reviews: Reviews, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk fills between the judgement and the commit: neither branch nor request may move."""
    model = house.catalog.model("demo/x", viewer=SYSTEM)
    num = propose(reviews, AddRegular("a", b"1"))
    append = house.writer.append

    def full(kind: str, *args: Any, **kwargs: Any) -> Any:
        if kind == "decision":
            raise OSError(28, "No space left on device")
        return append(kind, *args, **kwargs)

    monkeypatch.setattr(house.writer, "append", full)
    with pytest.raises(OSError, match="No space"):
        reviews.merge(model, num, actor=SYSTEM)
    assert held(house) == {} and house.catalog.discussion(model, num).status == "open"
    monkeypatch.setattr(house.writer, "append", append)
    reviews.merge(model, num, actor=SYSTEM)
    assert held(house) == {"a": b"1"}


def meanwhile(house: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Let something happen once, after a revision was drafted and before it is published."""
    publish = house.publishing.publish

    def late(*args: Any, **kwargs: Any) -> Any:
        monkeypatch.setattr(house.publishing, "publish", publish)
        act()
        return publish(*args, **kwargs)

    monkeypatch.setattr(house.publishing, "publish", late)


def test_a_commit_that_comes_within_a_merge_is_merged_too(
    house: SimpleNamespace, reviews: Reviews, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = house.catalog.model("demo/x", viewer=SYSTEM)
    num = propose(reviews, AddRegular("a", b"1"))
    meanwhile(house, monkeypatch, lambda: commit(house, f"refs/pr/{num}", AddRegular("late", b"1")))
    reviews.merge(model, num, actor=SYSTEM)
    assert held(house) == {"a": b"1", "late": b"1"}


def test_a_commit_that_comes_to_the_branch_within_a_merge_is_not_lost(
    house: SimpleNamespace, reviews: Reviews, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = house.catalog.model("demo/x", viewer=SYSTEM)
    num = propose(reviews, AddRegular("a", b"1"))
    target = house.catalog.revision(model).id
    new = Commit(message="Quick", operations=(AddRegular("b", b"1"),), parent=target)
    other = Publishing(house.catalog, house.storage, house.policy, house.knowledge, house.writer)  # another process
    meanwhile(house, monkeypatch, lambda: other.commit("demo/x", "main", new, actor=SYSTEM))
    reviews.merge(model, num, actor=SYSTEM)
    assert held(house) == {"a": b"1", "b": b"1"}


def test_a_request_that_is_closed_within_a_commit_takes_none(
    house: SimpleNamespace, reviews: Reviews, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = house.catalog.model("demo/x", viewer=SYSTEM)
    num = propose(reviews, AddRegular("a", b"1"))
    meanwhile(house, monkeypatch, lambda: reviews.set_status(model, num, "closed", actor=RITA))
    with pytest.raises(WrongStatus):
        commit(house, f"refs/pr/{num}", AddRegular("late", b"1"))
    assert held(house, f"refs/pr/{num}") == {"a": b"1"}


def test_a_number_that_is_taken_meanwhile_is_not_given_twice(
    house: SimpleNamespace, reviews: Reviews, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = house.catalog.model("demo/x", viewer=SYSTEM)
    act = house.catalog.open_discussion
    meanwhile(house, monkeypatch, lambda: act(model, "Quicker", "x", actor=RITA))
    assert propose(reviews, AddRegular("a", b"1")) == 2
    assert [ref.ref for ref in house.catalog.refs(model).pull_requests] == ["refs/pr/2"]
    assert house.catalog.discussion(model, 1).title == "Quicker"


@pytest.mark.timeout(150)
def test_refs_that_share_a_turn_do_not_wait_for_each_other_in_one_thread(
    house: SimpleNamespace, reviews: Reviews, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Turns are fewer than refs: which ones share one is chance."""
    monkeypatch.setattr(house.publishing, "_turns", house.publishing._turns[:1])
    model = house.catalog.model("demo/x", viewer=SYSTEM)
    num = propose(reviews, AddRegular("a", b"1"))
    meanwhile(house, monkeypatch, lambda: commit(house, f"refs/pr/{num}", AddRegular("late", b"1")))
    reviews.merge(model, num, actor=SYSTEM)
    assert held(house) == {"a": b"1", "late": b"1"}


def test_a_request_that_gets_a_commit_before_its_answer_is_answered(
    house: SimpleNamespace, reviews: Reviews, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is told of it by a webhook may be quicker than the answer to who opened it."""
    publish = house.publishing.publish

    def followed(*args: Any, **kwargs: Any) -> Any:
        done = publish(*args, **kwargs)
        monkeypatch.setattr(house.publishing, "publish", publish)
        commit(house, "refs/pr/1", AddRegular("late", b"1"))
        return done

    monkeypatch.setattr(house.publishing, "publish", followed)
    assert propose(reviews, AddRegular("a", b"1")) == 1
    assert held(house, "refs/pr/1") == {"a": b"1", "late": b"1"}
