"""Words that only exact quoting brings through a shell."""

WORDS = (
    *("", " ", "a b", "it's", 'say "x"', "$HOME", "${HOME}", "$(id)", "`id`", "\\", "\\n", "new\nline", "\n", "tab\t"),
    *("-n", "--", "-", "*", "?", "[a]", "{a,b}", "ü€😀", "!x", "!!", "a=b", "~", "#", ";", "&", "|", ">x", "(", "%s"),
    *("\x01\x1b[31m", "'", "''", "end'", "\r", "^", "\udcff"),
)


def encoded(word: str) -> bytes:
    """The word's bytes, also where they are no UTF-8."""
    return word.encode("utf-8", "surrogateescape")
