"""What a job's supervisor alone needs: a hand beside its loop, a word to its keeper, the record of the end."""
