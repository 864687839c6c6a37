"""Writing objects to a cluster by server-side apply, in waves, and keeping a record of each."""
