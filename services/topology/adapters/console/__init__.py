"""The console over HTTP: its page and stream, questions for it, who is at it, what he asks for."""
