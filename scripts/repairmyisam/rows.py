"""Which rows did not come back, as far as the table's own numbers tell."""

from .system import Failure

# Rows of a list that a person reads; --missing-rows N has more.
SHOWN = 1000


def gaps(numbers, last):
    """Ranges that an ascending sequence leaves out between 1 and `last`: [(first, last)]."""
    expected = 1
    for number in numbers:
        if number > expected:
            yield expected, number - 1
        expected = max(expected, number + 1)
    if expected <= last:
        yield expected, last


def column(client, database, table):
    """The auto-increment column of a table. Raises Failure where it has none."""
    literal = lambda text: "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"
    found = client.ask("SELECT column_name FROM information_schema.columns WHERE extra LIKE '%auto_increment%' AND "
                       f"table_schema = {literal(database)} AND table_name = {literal(table)}")
    if not found:
        raise Failure(f"{database}.{table} has no AUTO_INCREMENT column: nothing tells which rows are missing")
    return found[0]


def report(ranges, most, write):
    """Writes the first `most` ranges, and how many there are in all."""
    count = rows = 0
    for first, last in ranges:
        count += 1
        rows += last - first + 1
        if count <= most:
            write(f"{first}" if first == last else f"{first}-{last}")
    if count > most:
        write(f"... and {count - most:,} more ranges: --missing-rows {count} lists all")
    return count, rows
