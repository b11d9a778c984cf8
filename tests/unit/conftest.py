"""Settings of all unit tests."""

from hypothesis import settings

# A machine that is busy is no failure.
settings.register_profile("inkling", deadline=None, print_blob=True)
settings.load_profile("inkling")
