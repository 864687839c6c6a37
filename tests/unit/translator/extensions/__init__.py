"""Tests of services/translator/extensions: pure, no bed."""
