"""Taking away what nobody has used for long; nothing that runs goes, and nothing that is a person's."""
