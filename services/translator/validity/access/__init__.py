"""Who may do what: policies, their conditions and paths, peers, tokens and their keys."""
