"""The serving end of the SDK: Python objects as Dubbo services."""
