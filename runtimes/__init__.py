"""What runs on the device: landmark schemes, crop geometry, decoding, sessions, the aligner, the timing loop.

Nothing in this folder imports torch; inference libraries are imported when a session is opened.
"""
