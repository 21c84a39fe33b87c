"""Benchmarks: each prints a table beside plain OpenSSH and friends in the same run, and appends to results.jsonl."""
