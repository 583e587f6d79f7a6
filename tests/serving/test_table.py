"""proxy.serving.table: what is remembered stays within its bounds."""

from proxy.serving.table import Seen, Table


def test_a_table_is_bounded_and_the_oldest_go_first():
    table = Table[str](1000)
    for n in range(100):
        table.put(n, "x", 100)
        assert table.size <= 1000
    assert [n for n in range(100) if table.get(n) is not None] == [*range(90, 100)]
    table.put(95, "x", 150)
    assert (table.size, table.get(90)) == (950, None)
    for n in range(100):
        table.drop(n)
    assert table.size == 0
    table.put("large", "x", 1001)
    assert (table.size, table.get("large")) == (0, None)


def test_what_comes_again_is_known_by_then_and_no_more_is_remembered_than_allowed():
    seen = Seen(10)
    assert [seen.again("a"), seen.again("b"), seen.again("a"), seen.again("b")] == [False, False, True, True]
    for n in range(100):
        assert not seen.again(n)
        assert seen.again(n)
        assert len(seen) <= 10
    assert not seen.again("a")
