"""Tests of services/translator/deprecations: pure, no bed."""
