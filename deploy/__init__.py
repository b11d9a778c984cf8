"""What runs Inkling: the local stack for development and tests, and the files for other places."""
