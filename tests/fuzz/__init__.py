"""Whatever a node, a file or another program says, our parsers take it, or refuse it in words: fuzzers.

A target (targets/) is a function of bytes that raises only where a parser breaks its promise. The ordinary suite runs
each with what is kept in corpus/ and with a few hundred inputs of hypothesis; `python -m tests.fuzz --seconds 60` looks
for more, guided by coverage (atheris, of the extra "fuzz").
"""
