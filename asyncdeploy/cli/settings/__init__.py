"""What people have written down: flags, variables and asyncdeploy.toml, as the library's own values."""
