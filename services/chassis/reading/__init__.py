"""Texts from outside become values, within a budget: YAML, JSON, msgpack, deflated or not.

Four megabytes of `[[],[],…` are a small request and a million values, and whoever builds them all
answers nobody meanwhile. So what a text holds is counted before or while it is built, and a text
over the budget costs what the budget costs. Nothing else in Meshbus calls a parser.
"""
