"""The text of a command as a shell reads it: from a file without a name, so that it stands in nobody's arguments.

A `pkill -f train.py` in it would find the shell that runs it, and everybody on the node would read it.

Runs on a node inside the worker, loaded by other programs: Python >= 3.8, standard library only, no heavy import.
"""

import os

from asyncdeploy.node_side.files import write_all
from asyncdeploy.node_side.input import unlinked_memory

DESCRIPTOR = 9  # a shell closes one digit only
LONGEST_LOOK = 8192  # for whether a text is one program
OPERATORS = b";&|()`\n"
SETTINGS = (b"export ", b"unset ")
BUILTINS = frozenset(
    b". : [ alias bg bind break builtin caller case cd chdir command compgen complete continue coproc declare dirs "
    b"disown do done echo elif else enable esac eval exec exit export false fc fg fi for function getopts hash help "
    b"history if jobs kill let local logout mapfile newgrp popd printf pushd pwd read readarray readonly return select "
    b"set shift shopt source suspend test then time times trap true type typeset ulimit umask unalias unset until wait "
    b"while".split()
)
WORD = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./+-")


def opened(text, environ):
    """Return a descriptor of a shell's text, and the word by which a shell runs what it finds as its descriptor 9."""
    fd = file_of(b"exec 9<&-;" + direct(text, environ))
    if fd == DESCRIPTOR:
        os.set_inheritable(fd, True)  # an old libc leaves it closed where it need not be moved
    for folder in (b"/dev/fd/", b"/proc/self/fd/"):
        if os.path.exists(folder + b"%d" % fd):
            return fd, b". " + folder + b"9"
    return fd, b'eval "$(/bin/cat <&9)"'


def file_of(text):
    """Return a descriptor of a file without a name that holds a text, at its start; NoRoom where none can be."""
    fd = unlinked_memory()
    try:
        write_all(fd, text)
        os.lseek(fd, 0, os.SEEK_SET)
    except OSError:
        os.close(fd)
        raise
    return fd


def direct(text, environ):
    """Return a text that is one program without the shell that would stand between us and it, and hide its signal.

    `sh -c` does that by itself; a shell that reads a file cannot know that nothing follows.
    """
    head, rest = b"", text
    while is_setting(rest):  # what an environment puts in front
        line, _, rest = rest.partition(b"\n")
        head += line + b"\n"
    words = rest.split(None, 1)
    first = words[0] if words else b""
    plain = first and WORD.issuperset(first) and first not in BUILTINS and b"BASH_FUNC_%s%%%%" % first not in environ
    return head + b"exec " + rest.lstrip() if plain and is_one(rest.strip()) else text


def is_setting(text):
    """Whether a text's first line only sets and unsets variables, and others follow."""
    line, more, _ = text.partition(b"\n")
    parts = line.split(b";")
    return bool(more) and is_one(line.replace(b";", b" ")) and all(p.strip().startswith(SETTINGS) for p in parts)


def is_one(text):
    """Whether a text is surely one simple command: no operator outside of quotes, nothing within that may hold one."""
    if len(text) > LONGEST_LOOK:
        return False
    quote, escaped, before = 0, False, 0
    for letter in text:
        if escaped:
            if letter == 10 and not quote:
                return False
            escaped = False
        elif quote == 39:
            quote = 0 if letter == 39 else quote
        elif letter == 92:
            escaped = True
        elif quote:
            if letter == 96 or (letter == 40 and before == 36):
                return False
            quote = 0 if letter == 34 else quote
        elif letter in (34, 39):
            quote = letter
        elif letter in OPERATORS:
            return False
        before = letter
    return not quote and not escaped
