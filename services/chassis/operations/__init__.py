"""The life of an operation in a worker: reading its command, telling its story, ending it."""
