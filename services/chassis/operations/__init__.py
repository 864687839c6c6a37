"""Operations in a worker: read the command, claim it, run it, report progress, complete it."""
