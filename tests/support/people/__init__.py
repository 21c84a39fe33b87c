"""People who use asyncdeploy from a shell of their own."""
