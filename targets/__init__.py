"""The place of device profiles and of ways to reach devices, which are to come."""
