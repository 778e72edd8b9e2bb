"""What commands print: laid out, made harmless, and not too often."""

from __future__ import annotations

import io

from lback_relay.cli.dead_tally import instant
from lback_relay.cli.progress import Progress
from lback_relay.cli.text import age, counted, shortened, table
from lback_relay.printable import printable, printable_lines


def test_control_characters_do_not_reach_the_terminal() -> None:
    """They are escaped; what can be printed stays."""
    assert printable("größe 字") == "größe 字"
    assert printable("a\x1b]0;x\x07\r\n\u202e\ud800") == "a\\x1b]0;x\\x07\\r\\n\\u202e\\ud800"
    assert printable_lines("a\n\tb\x00") == ["a", "    b\\x00"]


def test_small_words() -> None:
    """Counts, ages, cuts, columns, instants."""
    assert [counted(1, "letter"), counted(1200, "letter")] == ["1 letter", "1,200 letters"]
    ages = [age(seconds) for seconds in (-1, 0, 59.9, 60, 3600, 86_400, 1e7)]
    assert ages == ["0 s", "0 s", "59 s", "1 m", "1 h", "1 d", "115 d"]
    assert [shortened("12345", 5), shortened("123456", 5)] == ["12345", "1234…"]
    assert table(("a", "bb"), [("1", "2")], right=("bb",)) == ["a  bb", "1   2"]
    assert instant(0) == "1970-01-01T00:00:00.000Z"
    assert instant(2**64 - 1) == f"{2**64 - 1} ms"


class Terminal(io.StringIO):
    """A terminal, as far as it is asked."""

    def isatty(self) -> bool:
        return True


def test_progress_at_a_terminal_is_one_line() -> None:
    """After a second, and seldom enough to be read."""
    now, stream = [0.0], Terminal()
    progress = Progress(stream, lambda: now[0])
    for now[0], line in ((0.9, "early"), (1.0, "one"), (1.1, "soon"), (1.3, "two")):
        progress.say(line)
    progress.clear()
    progress.clear()
    assert stream.getvalue() == "\rone\x1b[K\rtwo\x1b[K\r\x1b[K"


def test_progress_elsewhere_is_a_line_now_and_then() -> None:
    """A log must not be filled."""
    now, stream = [0.0], io.StringIO()
    progress = Progress(stream, lambda: now[0])
    for now[0] in (1.0, 9.9, 10.0, 15.0, 20.0):
        progress.say(f"at {now[0]:g}")
    progress.clear()
    assert stream.getvalue() == "at 10\nat 20\n"
