"""Connections to Dubbo providers."""
