"""Why a launch failed: every rank's own records are read, the first real cause is named."""
