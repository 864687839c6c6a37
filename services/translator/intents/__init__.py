"""Operations that stand for an intent: policies and traffic, without YAML from the user."""
