"""Settings of the property tests."""

from hypothesis import settings

# The machine may be busy: what must be fast says so itself. A failing example is printed, not kept.
settings.register_profile("meshbus", deadline=None, database=None, print_blob=True)
settings.load_profile("meshbus")
