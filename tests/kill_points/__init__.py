"""Kills, and disks that fail, at every point of what we do: old or new, never torn; ends known; nothing lives on."""
