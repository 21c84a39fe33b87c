"""Ten tasks of somebody who met asyncdeploy this morning: what they write, what they read, that it works."""
