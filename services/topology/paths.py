def explain(state, **k):
    return {}
