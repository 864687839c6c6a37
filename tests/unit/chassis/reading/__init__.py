"""The budgeted readers: what they build, what they refuse, and that they count what is there."""
